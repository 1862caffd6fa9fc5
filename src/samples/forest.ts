/**
 * The forest of one session's calls, grown call by call in the order of their arrival: a call whose
 * prompt begins with what an earlier call was asked and sampled continues that call, the longest
 * such beginning counts; every other call is a root.
 *
 *   A ── B ── C        B's prompt begins with A's prompt and completion, C's and D's with B's
 *         └── D        two continuations: B's tokens are trained in one of the two samples
 *   E                  a prompt of its own: a title, a sub-agent, what follows a compaction
 *
 * Growing costs O(ids of all prompts and completions); memory holds what is new in each prompt.
 */
import { DRIFT_SIBLINGS_MAX } from '../limits.ts'
import { RetryLinks, askedBy } from '../trajectory/retries.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { readCalls, readSource } from './call.ts'
import type { Call } from './call.ts'
import { classifyDrift, meetAgain } from './drift.ts'
import type { Drift, DriftClass } from './sample.ts'
import { TokenTrie, commonLength } from './token-trie.ts'
import type { Walk } from './token-trie.ts'

/** Ids at a prompt's end that a template may write otherwise once the answer is there. */
const OPENING_MAX = 16

/** A record's calls, and the record they ask again. */
interface Grown {
  readonly calls: readonly Call[]
  readonly id: string | null
}

/** Where a call's prompt leads. */
interface Place {
  readonly parent: Call | null
  readonly drift: (Omit<Drift, 'id'> & { readonly from: Call }) | null
}

/** The forest of one session and run. */
export class Forest {
  /** All calls, in the order of their arrival. */
  readonly calls: Call[] = []
  readonly #trie = new TokenTrie<Call>()
  readonly #retries = new RetryLinks<Grown>()
  /** Numbers of conversations, joined where calls turn out to be of one. */
  readonly #joined = new Map<Call, Call>()

  /**
   * Takes the next record in; records come in the order of their arrival. `retryOf` is the record
   * that it asks again, where the caller knows; else it is looked for among those that came before.
   */
  add(record: StoredRecord, retryOf?: string | null): void {
    const calls: Call[] = []
    const before = this.#retries.follow({ calls, id: record.id ?? null }, askedBy(record))
    const source = readSource(record, retryOf === undefined ? (before?.id ?? null) : retryOf)
    const read = readCalls(record, source)
    // All places first: what one choice sampled is no beginning for another one of the same record.
    const places = read.map(({ prompt }) => (prompt === null ? undefined : this.#placeOf(prompt)))
    for (const [at, { call, prompt }] of read.entries()) {
      call.order = this.calls.length
      calls.push(call)
      this.calls.push(call)
      this.#joined.set(call, call)
      const place = places[at]
      if (prompt !== null && place !== undefined) this.#plant(call, prompt, place)
    }
    for (const call of before?.calls ?? []) {
      call.isRetried = true
      this.#join(call, calls[0])
    }
  }

  /** The earliest call of the conversation that a call belongs to. */
  conversationOf(call: Call): Call {
    let first = call
    for (;;) {
      const before = this.#joined.get(first) ?? first
      if (before === first) break
      first = before
    }
    this.#joined.set(call, first)
    return first
  }

  #plant(call: Call, prompt: Int32Array, { parent, drift }: Place): void {
    const top = this.#trie.grow(this.#trie.root, prompt, call, false)
    this.#join(call, top.prompts[0])
    top.prompts.push(call)
    call.end = this.#trie.grow(top, call.ids, call, true)
    call.end.completions.push(call)
    call.parent = parent
    parent?.children.push(call)
    this.#join(call, parent ?? undefined)
    if (drift === null) return
    const { from, ...rest } = drift
    call.drift = { ...rest, id: call.source.id }
    this.#join(call, from)
  }

  #placeOf(prompt: Int32Array): Place {
    const walk = this.#trie.walk(prompt)
    const parent = bestOf(walk.completed?.completions)
    const known = walk.completed?.depth ?? 0
    const spoken = walk.prompted
    if (spoken !== undefined && spoken.depth >= known) {
      const answer = prompt.subarray(spoken.depth)
      const [from, common] = nearest(spoken.prompts, answer)
      const drifted = classifyDrift(from.ids.subarray(common), answer.subarray(common))
      return { parent, drift: driftOf(from, spoken.depth + common, drifted) }
    }
    return { parent, drift: openingDrift(walk, prompt) }
  }

  #join(call: Call, other: Call | undefined): void {
    if (other === undefined) return
    const [one, two] = [this.conversationOf(call), this.conversationOf(other)]
    if (one === two) return
    const [first, second] = one.order < two.order ? [one, two] : [two, one]
    this.#joined.set(second, first)
  }
}

/** Among calls that sampled the same: one that came whole, of these the last, its first choice. */
function bestOf(calls: readonly Call[] | undefined): Call | null {
  let best: Call | null = null
  for (const call of calls ?? []) {
    const sameRecord = best?.source === call.source
    if (best === null || (!sameRecord && (call.source.isWhole || !best.source.isWhole))) best = call
  }
  return best
}

/** Of the calls that one prompt was given to: the one whose completion the prompt repeats furthest. */
function nearest(
  calls: readonly Call[],
  answer: Int32Array,
): readonly [from: Call, common: number] {
  let best: readonly [Call, number] | undefined
  for (const call of calls.slice(-DRIFT_SIBLINGS_MAX)) {
    const common = commonLength(call.ids, answer)
    const isBetter = best === undefined || common > best[1]
    if (isBetter || (common === best?.[1] && call.source.isWhole)) best = [call, common]
  }
  if (best === undefined) throw new TypeError('no call was given this prompt')
  return best
}

/**
 * A prompt that parts just before an earlier prompt's end, and soon goes on with what was sampled
 * there: the template opens an answer in another way than it repeats one.
 */
function openingDrift({ depth, last }: Walk<Call>, prompt: Int32Array): Place['drift'] {
  if (last === undefined || depth >= prompt.length) return null
  const missing = last.promptLength - depth
  if (missing <= 0 || missing > OPENING_MAX) return null
  const met = meetAgain(last.ids, prompt.subarray(depth))
  return met === undefined ? null : driftOf(last, depth, 'template')
}

function driftOf(from: Call, position: number, drift: DriftClass): Place['drift'] {
  return { from, position, class: drift, of: from.source.id, choice: from.choice }
}
