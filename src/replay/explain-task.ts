/**
 * A miss, explained by a play worker: reads the recorded requests it is pointed to and says which
 * comes nearest.
 */
import type { TapePosition } from '../tape/exchange.ts'
import type { LinePosition } from './answer.ts'
import type { IgnoreRules, Json } from './canonical.ts'
import { explain, formatExplanation } from './explain.ts'
import type { Candidate } from './explain.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { keyHead } from './key.ts'
import { isPartialOutcome } from './pack-record.ts'
import { readSourceLine } from './source-line.ts'

/** Where a recorded request stands. */
export type RequestPlace =
  | { readonly line: LinePosition }
  | {
      readonly position: TapePosition
      readonly seq: number
      readonly otherwise?: LinePosition | undefined
    }

/** What is to be explained. */
export interface ExplainTask {
  readonly head: string
  readonly body: string
  readonly ignore: IgnoreRules
  readonly places: readonly RequestPlace[]
}

/** A record's text at a place. */
export type ReadRecord = (place: RequestPlace) => string

/** Explains a miss in a few lines; a body that is no JSON has only its key's absence to tell. */
export function explainMiss(task: ExplainTask, readRecord: ReadRecord): string {
  let body: Json
  try {
    body = task.body === '' ? {} : (JSON.parse(task.body) as Json)
  } catch {
    return 'the body is not JSON, so only the very same bytes could match'
  }
  const candidates: Candidate[] = []
  for (const place of task.places) {
    const candidate = candidateAt(readRecord(place), task.head)
    if (candidate !== undefined) candidates.push(candidate)
  }
  return formatExplanation(explain({ head: task.head, body }, candidates, task.ignore))
}

/** A recorded request, if it was for the same method and path. */
function candidateAt(text: string, head: string): Candidate | undefined {
  const record = JSON.parse(text) as StoredRecord
  return candidateOf(record, head, '(without an id)')
}

/** A record as a candidate for a request of this method and path; undefined for any other. */
export function candidateOf(
  record: StoredRecord,
  head: string,
  nameless: string,
): Candidate | undefined {
  const line = readSourceLine(record)
  if (typeof line === 'string' || line.request === undefined) return undefined
  if (keyHead(line.method, line.target) !== head) return undefined
  const { session, request } = line
  const unserved = isPartialOutcome(line.outcome) ? (line.outcome ?? null) : null
  return { id: record.id ?? nameless, session, turn: line.turn || null, unserved, request }
}
