/**
 * What a recording has for a request: all of its records are looked through, with memory for a few
 * dozen of them.
 */
import { RolltapeError, errorText } from '../errors.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import type { IgnoreRules, Json } from './canonical.ts'
import { candidateOf } from './explain-task.ts'
import { explain, formatExplanation } from './explain.ts'
import type { Candidate, Explanation } from './explain.ts'

/** What is told of a request. */
export interface ExplainedRequest extends Explanation {
  /** True when it is recorded. */
  readonly found: boolean
  /** All of it in a few lines, for people. */
  readonly text: string
}

/** Recorded requests that are compared at once. */
const BATCH = 64

/** Explains a request; `head` is its key's (`keyHead`). */
export async function explainRecording(
  records: AsyncIterable<StoredRecord>,
  asked: { readonly head: string; readonly body: Json },
  rules: IgnoreRules,
): Promise<ExplainedRequest> {
  const candidates: Candidate[] = []
  let line = 0
  let nearest = explain(asked, [], rules)
  for await (const record of records) {
    const candidate = candidateOf(record, asked.head, `line ${++line}`)
    if (candidate !== undefined) candidates.push(candidate)
    // The nearest so far goes on with the next ones, so that memory stays bounded.
    if (candidates.length < BATCH) continue
    nearest = explain(asked, candidates, rules)
    const best = candidates.find((candidate) => candidate.id === nearest.nearest?.id)
    candidates.splice(0, candidates.length, ...(best === undefined ? [] : [best]))
    if (isServed(nearest)) break
  }
  if (candidates.length > 0) nearest = explain(asked, candidates, rules)
  const found = isServed(nearest)
  const text = found
    ? `recorded as ${nearest.nearest?.id}; key ${nearest.key}`
    : formatExplanation(nearest)
  return { found, text, ...nearest }
}

/** True when it is recorded, and its answer one that somebody waited for. */
function isServed({ nearest, differences }: Explanation): boolean {
  return nearest?.unserved === null && differences.length === 0
}

/**
 * A body as text, read.
 * @throws RolltapeError `bad_request` when it is not JSON; `what` names it.
 */
export function parseAskedBody(body: string, what: string): Json {
  try {
    return JSON.parse(body) as Json
  } catch (cause) {
    throw new RolltapeError('bad_request', `${what} is not JSON: ${errorText(cause)}`, { cause })
  }
}
