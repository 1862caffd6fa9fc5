/**
 * How a live answer differs from the recorded one (mode `verify`): in status, in shape, in text.
 * Pure.
 *
 * What is new in every answer is not compared: ids, times, fingerprints, usage, log-probs and token
 * ids (that they are there is), and numbers at all. A place that is null and one that is not there
 * count as the same.
 */
import { JSON_DEPTH_COMPARED_MAX } from '../limits.ts'
import { canonicalize } from './canonical.ts'
import type { Json } from './canonical.ts'

/** One difference. */
export interface AnswerDifference {
  readonly what: 'status' | 'shape' | 'text'
  /** JSON pointer into the response; empty for the answer as a whole. */
  readonly pointer: string
  /** For `text` the stretch around the first character that differs, else what is there. */
  readonly recorded: string
  readonly live: string
  /** For `text`, where in the string they part, in UTF-16 code units. */
  readonly at?: number
}

/** One side of a comparison. */
export interface ComparedAnswer {
  readonly status: number | null
  readonly outcome: string
  readonly isStream: boolean
  readonly response: Json | null
}

/** Differences that a record tells one by one. */
export const DIFFERENCES_TOLD_MAX = 16

/** Keys whose values are new in every answer, wherever they stand. */
const VOLATILE: ReadonlySet<string> = new Set([
  'id',
  'created',
  'created_at',
  'completed_at',
  'item_id',
  'responseId',
  'createTime',
  'system_fingerprint',
  'service_tier',
  'usage',
  'usageMetadata',
  'timings',
  'encrypted_content',
  'signature',
])

/** Keys of which only counts that they are there. */
const OPAQUE: ReadonlySet<string> = new Set(['logprobs', 'token_ids', 'prompt_token_ids'])

const SNIPPET_BEFORE = 20
const SNIPPET_CHARS = 80

/** All differences, at most `max`: status and shape of the whole first, then place by place. */
export function compareAnswers(
  recorded: ComparedAnswer,
  live: ComparedAnswer,
  max = DIFFERENCES_TOLD_MAX,
): AnswerDifference[] {
  const found: AnswerDifference[] = []
  const whole = (what: 'status' | 'shape', a: unknown, b: unknown): void => {
    if (a !== b) found.push({ what, pointer: '', recorded: String(a), live: String(b) })
  }
  whole('status', recorded.status, live.status)
  whole('status', recorded.outcome, live.outcome)
  const form = (side: ComparedAnswer): string => (side.isStream ? 'a stream' : 'one body')
  whole('shape', form(recorded), form(live))
  walk(recorded.response, live.response, '', { found, max, depth: 0 })
  return found.slice(0, max)
}

interface Walk {
  readonly found: AnswerDifference[]
  readonly max: number
  readonly depth: number
}

function walk(recorded: Json | undefined, live: Json | undefined, pointer: string, to: Walk): void {
  if (to.found.length >= to.max || recorded === live) return
  if (to.depth > JSON_DEPTH_COMPARED_MAX) {
    const [one, other] = [canonicalize(recorded ?? null), canonicalize(live ?? null)]
    if (one !== other) to.found.push(textDifference(one, other, pointer))
    return
  }
  const deeper = { ...to, depth: to.depth + 1 }
  const kinds = [kindOf(recorded), kindOf(live)] as const
  if (kinds[0] !== kinds[1]) {
    to.found.push({ what: 'shape', pointer, recorded: kinds[0], live: kinds[1] })
    return
  }
  if (typeof recorded === 'string' && typeof live === 'string') {
    to.found.push(textDifference(recorded, live, pointer))
    return
  }
  if (Array.isArray(recorded) && Array.isArray(live)) return walkItems(recorded, live, pointer, to)
  if (!isRecord(recorded) || !isRecord(live)) return
  for (const key of new Set([...Object.keys(recorded), ...Object.keys(live)])) {
    if (VOLATILE.has(key)) continue
    const [a, b] = [recorded[key], live[key]]
    const below = `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
    if (!OPAQUE.has(key)) walk(a, b, below, deeper)
    else if (kindOf(a) !== kindOf(b)) {
      to.found.push({ what: 'shape', pointer: below, recorded: kindOf(a), live: kindOf(b) })
    }
  }
}

function walkItems(recorded: Json[], live: Json[], pointer: string, to: Walk): void {
  if (recorded.length !== live.length) {
    const items = (side: Json[]): string => `${side.length} items`
    to.found.push({ what: 'shape', pointer, recorded: items(recorded), live: items(live) })
  }
  const common = Math.min(recorded.length, live.length)
  const deeper = { ...to, depth: to.depth + 1 }
  for (let i = 0; i < common; i++) walk(recorded[i], live[i], `${pointer}/${i}`, deeper)
}

function textDifference(recorded: string, live: string, pointer: string): AnswerDifference {
  let at = 0
  while (recorded[at] === live[at]) at++
  const from = Math.max(0, at - SNIPPET_BEFORE)
  const snippet = (text: string): string => text.slice(from, from + SNIPPET_CHARS)
  return { what: 'text', pointer, recorded: snippet(recorded), live: snippet(live), at }
}

function kindOf(value: Json | undefined): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

function isRecord(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
