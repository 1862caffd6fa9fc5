/**
 * A call: what one choice of one record says about tokens, in as little memory as it takes. Reads
 * records defensively: files of other recorders have few of their keys.
 */
import { hash } from 'node:crypto'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import type { ChoiceTokens, Outcome } from '../trajectory/record.ts'
import { isObject, listAt } from '../wire/json.ts'
import type { Drift } from './sample.ts'
import type { TrieNode } from './token-trie.ts'

/** What a sample tells of the record behind a call. */
export interface CallSource {
  readonly id: string | null
  readonly seq: number | null
  readonly turn: number | null
  readonly session: string
  readonly run: string
  readonly model: string | null
  readonly group: string | null
  readonly tags: Readonly<Record<string, string>>
  readonly outcome: Outcome | null
  readonly isGeneration: boolean
  readonly isWhole: boolean
  /** Tokens were required of it, and some are not there. */
  readonly lacksTokens: boolean
  readonly policy: { readonly version: string | null; readonly mixed: boolean }
  readonly retryOf: string | null
  /** The same for calls with the same system prompt and tools. */
  readonly setting: string
}

/** A call in the forest of its session. */
export interface Call {
  /** Its place among all calls of the session, from 0. */
  order: number
  readonly source: CallSource
  readonly choice: number
  readonly finishReason: string | null
  readonly isAligned: boolean
  /** Sampled ids; empty when they are not known. */
  readonly ids: Int32Array
  /** NaN where none was told. */
  readonly logprobs: Float64Array
  /** Length of the prompt; -1 when its ids are not known. */
  readonly promptLength: number
  /** Where its completion ends; null when it is not in the trie. */
  end: TrieNode<Call> | null
  parent: Call | null
  readonly children: Call[]
  drift: Drift | null
  /** Asked again by a later record. */
  isRetried: boolean
}

/** A call as read, with its prompt. */
export interface ReadCall {
  readonly call: Call
  /** Null when the prompt's ids or the sampled ones are not known. */
  readonly prompt: Int32Array | null
}

const NO_IDS = new Int32Array(0)
const ID_MAX = 0x7fff_ffff

/** What a sample tells of a record; `retryOf` is the one that it asks again. */
export function readSource(record: StoredRecord, retryOf: string | null): CallSource {
  const { group } = record as { readonly group?: unknown }
  return {
    id: record.id ?? null,
    seq: record.seq ?? null,
    turn: record.turn ?? null,
    session: record.session ?? 'default',
    run: record.run ?? 'default',
    model: record.model ?? null,
    group: typeof group === 'string' ? group : null,
    tags: record.tags ?? {},
    outcome: record.outcome ?? null,
    isGeneration: record.turn !== null,
    isWhole: record.partial !== true && (record.outcome ?? 'complete') === 'complete',
    lacksTokens: record.flags?.includes('tokens_incomplete') === true,
    policy: policyOf(record),
    retryOf,
    setting: settingOf(record.request),
  }
}

/** The calls of a record: one per choice, and one where there are none. */
export function readCalls(record: StoredRecord, source: CallSource): ReadCall[] {
  const choices = record.tokens ?? []
  if (choices.length === 0) return [readChoice(source, undefined, record.finish_reasons?.[0])]
  return choices.map((choice, at) => readChoice(source, choice, record.finish_reasons?.[at]))
}

/**
 * The version that a record's tokens were sampled under: the engine's own word, else what was set
 * when it was dispatched; `mixed` when it changed before the end.
 */
export function policyOf({ policy }: StoredRecord): CallSource['policy'] {
  if (policy === undefined) return { version: null, mixed: false }
  const { mixed } = policy as { readonly mixed?: unknown }
  const told = [policy.dispatch, policy.first_byte, policy.end].filter((each) => each !== null)
  return {
    version: policy.engine ?? told[0] ?? null,
    mixed: mixed === true || new Set(told).size > 1,
  }
}

function readChoice(
  source: CallSource,
  choice: ChoiceTokens | undefined,
  finishReason: string | null | undefined,
): ReadCall {
  const ids = asIds(choice?.token_ids)
  const prompt = ids === undefined ? undefined : asIds(choice?.prompt_token_ids)
  const logprobs = new Float64Array(ids?.length ?? 0)
  for (let at = 0; at < logprobs.length; at++) {
    logprobs[at] = choice?.logprobs?.[at] ?? Number.NaN
  }
  const call: Call = {
    order: 0,
    source,
    choice: choice?.index ?? 0,
    finishReason: finishReason ?? null,
    isAligned: choice === undefined || choice.aligned,
    ids: ids ?? NO_IDS,
    logprobs,
    promptLength: prompt?.length ?? -1,
    end: null,
    parent: null,
    children: [],
    drift: null,
    isRetried: false,
  }
  return { call, prompt: prompt ?? null }
}

/** A list of ids; undefined when it is empty or lacks one. */
function asIds(list: readonly (number | null)[] | null | undefined): Int32Array | undefined {
  if (list === null || list === undefined || list.length === 0) return undefined
  const ids = new Int32Array(list.length)
  for (const [at, id] of list.entries()) {
    if (id === null || !Number.isInteger(id) || id < 0 || id > ID_MAX) return undefined
    ids[at] = id
  }
  return ids
}

/** A digest of what stays the same over the calls of one agent. */
function settingOf(request: unknown): string {
  if (!isObject(request)) return ''
  const system = listAt(request, 'messages').filter(
    (message) => isObject(message) && /^(?:system|developer)$/.test(String(message['role'])),
  )
  const { instructions, tools } = request
  return hash('sha1', JSON.stringify([system, request['system'], instructions, tools]))
}
