/**
 * What the policy sampled, per choice: token ids, log-probs and token strings, aligned by position
 * (BEHAVIOUR O20, O21).
 *
 * Ids come from `token_ids` of the choice (vLLM, SGLang), from `logprobs.content[].token_id`, from
 * token strings that read `token_id:<n>`, or from SGLang's `meta_info.output_token_logprobs`. Within
 * one event the ids and log-probs belong together; where one has fewer, null fills its place.
 */

import type { ChoiceTokens } from '../trajectory/record.ts'
import { isObject, listAt, objectAt, type JsonObject } from './json.ts'

const NONE: readonly never[] = []

/** Collects one choice's tokens over the events of a stream, or from one whole answer. */
export class TokenCollector {
  readonly #index: number
  readonly #ids: (number | null)[] = []
  readonly #logprobs: (number | null)[] = []
  readonly #tokens: (string | null)[] = []
  #promptIds: readonly number[] | null = null
  #hasIds = false
  #hasLogprobs = false
  readonly #tops: unknown[] = []
  #hasTops = false
  #experts: unknown

  constructor(index: number) {
    this.#index = index
  }

  /**
   * Takes the token fields of one choice of one event (or of the whole answer) in, and SGLang's
   * `meta_info` of it, where that is whole.
   */
  add(choice: JsonObject, meta: unknown): void {
    const promptIds = idList(choice['prompt_token_ids'])
    if (promptIds !== null) this.#promptIds = promptIds
    const ids = idList(choice['token_ids']) ?? NONE
    const logprobs = choice['logprobs']
    const samples = isObject(logprobs) ? samplesOf(logprobs) : samplesOfMeta(meta)
    this.#experts =
      choice['routed_experts'] ?? (isObject(meta) ? meta['routed_experts'] : null) ?? this.#experts
    const count = Math.max(ids.length, samples.length)
    for (let position = 0; position < count; position++) {
      const sample = samples[position]
      const id = ids[position] ?? sample?.id ?? null
      const logprob = sample?.logprob ?? null
      if (id !== null) this.#hasIds = true
      if (logprob !== null) this.#hasLogprobs = true
      this.#ids.push(id)
      this.#logprobs.push(logprob)
      this.#tokens.push(sample?.token ?? null)
      this.#tops.push(sample?.top ?? null)
      if (sample?.top) this.#hasTops = true
    }
  }

  /** How many tokens have been collected. */
  get count(): number {
    return this.#ids.length
  }

  /** Whether anything has been collected. */
  get isEmpty(): boolean {
    return !this.#hasIds && !this.#hasLogprobs && this.#promptIds === null
  }

  /** The result; `isConfirmed`: the server counted as many. */
  result({ promptIds, usage, experts }: RootTokens, isConfirmed: boolean): ChoiceTokens {
    const full = (list: readonly unknown[]) => !list.includes(null)
    const given = (list: readonly unknown[]) => list.filter((item) => item !== null).length
    const routed = this.#experts ?? experts
    const aligned =
      this.#hasIds && this.#hasLogprobs && full(this.#ids) && full(this.#logprobs) && isConfirmed
    return {
      index: this.#index,
      prompt_token_ids: this.#promptIds ?? promptIds,
      token_ids: this.#hasIds ? this.#ids : null,
      logprobs: this.#hasLogprobs ? this.#logprobs : null,
      tokens: this.#tokens.some((token) => token !== null) ? this.#tokens : null,
      ...(this.#hasTops ? { top_logprobs: this.#tops } : {}),
      ...(routed === undefined || routed === null ? {} : { routed_experts: routed }),
      aligned,
      ...(aligned
        ? {}
        : { off: { token_ids: given(this.#ids), logprobs: given(this.#logprobs), usage } }),
    }
  }
}

/** What an answer tells of its tokens beside its choices. */
interface RootTokens {
  readonly promptIds: readonly number[] | null
  /** The usage's count over all choices. */
  readonly usage: number | null
  readonly experts: unknown
}

/**
 * The results of all choices, `root` being the answer beside them. If the sum over the choices is
 * what the usage counts, each choice's own count is taken as confirmed.
 */
export function tokensOf(
  collectors: readonly TokenCollector[],
  root: JsonObject,
  completionTokens: unknown,
): ChoiceTokens[] | null {
  const promptIds = idList(root['prompt_token_ids'])
  if (promptIds === null && collectors.every((collector) => collector.isEmpty)) return null
  const sum = collectors.reduce((total, collector) => total + collector.count, 0)
  const usage = numberOrNull(completionTokens)
  // SGLang tells of experts beside the choices, in an event of its own.
  const experts = collectors.length === 1 ? objectAt(root, 'sglext')?.['routed_experts'] : null
  const told = { promptIds, usage, experts }
  return collectors.map((collector) => collector.result(told, sum === completionTokens))
}

/** A list of token ids, or null when the value is anything else or empty. */
function idList(value: unknown): readonly number[] | null {
  if (!Array.isArray(value) || value.length === 0) return null
  return value.every((id) => typeof id === 'number') ? (value as number[]) : null
}

interface Sample {
  readonly id: number | null
  readonly logprob: number | null
  readonly token: string | null
  /** Alternatives, where there are some. */
  readonly top: unknown
}

/** Chat gives `content[]` of objects, completions give `tokens[]` beside `token_logprobs[]`. */
function samplesOf(logprobs: JsonObject): Sample[] {
  const content = listAt(logprobs, 'content')
  if (content.length > 0) return content.map(sampleOf)
  const logprobList = listAt(logprobs, 'token_logprobs')
  const tops = listAt(logprobs, 'top_logprobs')
  return listAt(logprobs, 'tokens').map((token, at) => ({
    id: idInToken(token),
    logprob: numberOrNull(logprobList[at]),
    token: typeof token === 'string' ? token : null,
    top: tops[at] ?? null,
  }))
}

function sampleOf(entry: unknown): Sample {
  if (!isObject(entry)) return { id: null, logprob: null, token: null, top: null }
  return {
    id: numberOrNull(entry['token_id']) ?? idInToken(entry['token']),
    logprob: numberOrNull(entry['logprob']),
    token: typeof entry['token'] === 'string' ? entry['token'] : null,
    top: listAt(entry, 'top_logprobs').length > 0 ? entry['top_logprobs'] : null,
  }
}

/** SGLang: `output_token_logprobs` is a list of [logprob, id, text or null]. */
function samplesOfMeta(meta: unknown): readonly Sample[] {
  if (!isObject(meta)) return NONE
  return listAt(meta, 'output_token_logprobs').map((entry) => {
    const [logprob, id, token] = Array.isArray(entry) ? (entry as unknown[]) : []
    return {
      id: numberOrNull(id),
      logprob: numberOrNull(logprob),
      token: typeof token === 'string' ? token : null,
      top: null,
    }
  })
}

function idInToken(token: unknown): number | null {
  const digits = typeof token === 'string' ? /^token_id:(\d+)$/.exec(token)?.[1] : undefined
  return digits === undefined ? null : Number(digits)
}

function numberOrNull(value: unknown): number | null {
  return typeof value === 'number' ? value : null
}

/** Tokens of a whole (unary) chat or completions answer. */
export function tokensOfResponse(response: JsonObject): ChoiceTokens[] | null {
  const collectors = listAt(response, 'choices').map((choice, position) => {
    if (!isObject(choice)) return new TokenCollector(position)
    const { index } = choice
    const collector = new TokenCollector(typeof index === 'number' ? index : position)
    collector.add(choice, choice['meta_info'])
    return collector
  })
  const usage = objectAt(response, 'usage')
  return tokensOf(collectors, response, usage?.['completion_tokens'])
}
