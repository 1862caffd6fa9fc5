/**
 * From a forest to its samples: one for each leaf, in the order in which the leaves came. Each is
 * made when it is asked for, so that memory holds one.
 *
 * A call that several leaves share is trained in one of them: that with the most sampled tokens of
 * whole answers behind the call, of equal ones the earliest. So dropping a branch (an attempt that
 * was lost, say) takes no tokens along that others lead to.
 */
import type { Call } from './call.ts'
import type { Forest } from './forest.ts'
import { SAMPLE_SCHEMA } from './sample.ts'
import type { PolicySpan, Sample, SampleKind, SampleLabel, SampleTurn } from './sample.ts'
import { idsTo } from './token-trie.ts'

/** What lies at and behind a call. */
interface Weight {
  readonly whole: number
  readonly all: number
}

/** A call of a path. */
interface Step {
  readonly call: Call
  readonly isTrained: boolean
}

/** The samples of a forest. */
export function* samplesOf(forest: Forest): Generator<Sample, void, undefined> {
  const heirs = heirsOf(forest.calls)
  const conversations = conversationsOf(forest)
  let sample = 0
  for (const leaf of forest.calls) {
    if (leaf.children.length > 0) continue
    sample++
    const { number, kind } = conversations(leaf)
    const path = pathTo(leaf, heirs)
    const { source } = leaf
    yield {
      schema: SAMPLE_SCHEMA,
      session: source.session,
      run: source.run,
      sample,
      conversation: number,
      kind,
      labels: labelsOf(path),
      model: source.model,
      group: source.group,
      tags: source.tags,
      ...tokensOf(path),
      policy_version: spansOf(path),
      turns: path.map(turnOf),
      drift: path.flatMap(({ call }) => (call.drift === null ? [] : [call.drift])),
    }
  }
}

/** For each call that is continued, the continuation in whose sample it is trained. */
function heirsOf(calls: readonly Call[]): Map<Call, Call> {
  const weights = new Map<Call, Weight>()
  const heirs = new Map<Call, Call>()
  for (const call of calls.toReversed()) {
    const own = call.ids.length
    let whole = call.source.isWhole && !call.isRetried ? own : 0
    let all = own
    let heir: { readonly call: Call; readonly weight: Weight } | undefined
    for (const child of call.children) {
      const weight = weights.get(child) ?? { whole: 0, all: 0 }
      whole += weight.whole
      all += weight.all
      if (heir === undefined || isHeavier(weight, heir.weight)) heir = { call: child, weight }
    }
    weights.set(call, { whole, all })
    if (heir !== undefined) heirs.set(call, heir.call)
  }
  return heirs
}

function isHeavier(a: Weight, b: Weight): boolean {
  return a.whole === b.whole ? a.all > b.all : a.whole > b.whole
}

function pathTo(leaf: Call, heirs: ReadonlyMap<Call, Call>): Step[] {
  const path: Step[] = [{ call: leaf, isTrained: true }]
  let isTrained = true
  for (let call = leaf; call.parent !== null; call = call.parent) {
    isTrained &&= heirs.get(call.parent) === call
    path.push({ call: call.parent, isTrained })
  }
  return path.reverse()
}

type TokenLists = Pick<Sample, 'token_ids' | 'loss_mask' | 'logprobs'>

function tokensOf(path: readonly Step[]): TokenLists {
  const leaf = path.at(-1)?.call
  const ids = leaf?.end ? idsTo(leaf.end) : (leaf?.ids ?? [])
  const mask = Array.from<0 | 1>({ length: ids.length }).fill(0)
  const logprobs = Array.from<number | null>({ length: ids.length }).fill(null)
  for (const { call, isTrained } of path) {
    const start = startOf(call)
    for (const [at, logprob] of call.logprobs.entries()) {
      if (isTrained) mask[start + at] = 1
      if (!Number.isNaN(logprob)) logprobs[start + at] = logprob
    }
  }
  return { token_ids: Array.from(ids), loss_mask: mask, logprobs }
}

function startOf({ promptLength }: Call): number {
  return Math.max(0, promptLength)
}

function turnOf({ call, isTrained }: Step): SampleTurn {
  const { source, ids } = call
  const start = startOf(call)
  return {
    id: source.id,
    seq: source.seq,
    turn: source.turn,
    choice: call.choice,
    start,
    end: start + ids.length,
    trained: isTrained && ids.length > 0,
    finish_reason: call.finishReason,
    outcome: source.outcome,
    retry_of: source.retryOf,
  }
}

/** One span for each stretch of calls under one version. */
function spansOf(path: readonly Step[]): PolicySpan[] {
  const spans: PolicySpan[] = []
  for (const { call } of path) {
    if (call.ids.length === 0) continue
    const { version, mixed } = call.source.policy
    const start = startOf(call)
    const end = start + call.ids.length
    const before = spans.at(-1)
    if (before?.version === version && before.mixed === mixed) {
      spans[spans.length - 1] = { ...before, end }
    } else {
      spans.push({ start, end, version, mixed })
    }
  }
  return spans
}

function labelsOf(path: readonly Step[]): SampleLabel[] {
  const labels: SampleLabel[] = []
  const leaf = path.at(-1)?.call
  const some = (is: (step: Step) => boolean): boolean => path.some(is)
  const put = (label: SampleLabel, is: boolean | undefined): void => {
    if (is === true) labels.push(label)
  }
  const spans = spansOf(path)
  put(
    'branch',
    some(({ isTrained }) => !isTrained),
  )
  put(
    'retry',
    some(({ call }) => call.source.retryOf !== null),
  )
  put('retried', leaf?.isRetried)
  put(
    'drift',
    some(({ call }) => call.drift !== null),
  )
  put('no_tokens', leaf?.ids.length === 0)
  put('no_prompt_tokens', leaf !== undefined && leaf.ids.length > 0 && leaf.promptLength < 0)
  put('no_generation', leaf?.source.isGeneration === false)
  put(
    'unaligned',
    some(({ call }) => !call.isAligned),
  )
  put(
    'tokens_incomplete',
    some(({ call }) => call.source.lacksTokens),
  )
  put(
    'partial',
    some(({ call }) => !call.source.isWhole),
  )
  put('mixed_policy', spans.length > 1 || spans.some(({ mixed }) => mixed))
  return labels
}

interface Conversation {
  readonly number: number
  readonly kind: SampleKind
}

/** Numbers the conversations by their first calls and tells what each is among them. */
function conversationsOf(forest: Forest): (call: Call) => Conversation {
  const records = new Map<Call, Set<object>>()
  for (const call of forest.calls) {
    const first = forest.conversationOf(call)
    const known = records.get(first)
    if (known === undefined) records.set(first, new Set([call.source]))
    else known.add(call.source)
  }
  const firsts = [...records.keys()]
  const numbers = new Map(firsts.map((first, at) => [first, at + 1]))
  const placed = new Set(
    forest.calls.filter(({ end }) => end !== null).map((call) => forest.conversationOf(call)),
  )
  const size = (first: Call): number => records.get(first)?.size ?? 0
  let main: Call | undefined
  for (const first of firsts) {
    if (placed.has(first) && (main === undefined || size(first) > size(main))) main = first
  }
  return (call) => {
    const first = forest.conversationOf(call)
    const number = numbers.get(first) ?? 0
    if (call.end === null) return { number, kind: 'unplaced' }
    if (first === main) return { number, kind: 'main' }
    if (first.source.setting === main?.source.setting) return { number, kind: 'restart' }
    return { number, kind: size(first) > 1 ? 'side_chain' : 'side_call' }
  }
}
