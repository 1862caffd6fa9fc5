/**
 * What became of an exchange, concluded from its close cause and from what its bytes hold.
 *
 * The rule that stands over all others: if the answer's own end is among the bytes the client got,
 * it is `complete`, whatever happened afterwards. `docs/record.md` has the table.
 */

import type { TapedExchange } from '../tape/exchange.ts'
import { headerOf, tellsEnd, type Answer, type AnswerBytes } from './answer.ts'
import { OUTCOME_OF_CAUSE, outcomeOfCode } from './outcome-of-cause.ts'
import type { Outcome, Protocol } from './record.ts'

/** The conclusion, and whether the answer on the tape is less than all of it. */
export interface Conclusion {
  readonly outcome: Outcome
  readonly partial: boolean
  /** Whether the end was never taped but is not needed. */
  readonly recovered: boolean
}

/** Concludes what became of an exchange. */
export function conclude(
  exchange: TapedExchange,
  protocol: Protocol,
  answer: Answer,
  bytes: AnswerBytes,
): Conclusion {
  const { head, end, gaps } = exchange
  if (head === undefined) return { outcome: withoutHead(exchange), partial: true, recovered: false }
  if (head.own) return { outcome: ownOutcome(exchange), partial: false, recovered: false }
  // An error status that came whole is a whole answer, in whatever shape it tells its error.
  if (answer.errorEvent !== null && head.status < 400) {
    return { outcome: 'upstream_error', partial: true, recovered: false }
  }
  const gotAll = isWhole(exchange, protocol, answer, bytes.forwarded.length, answer.endForwarded)
  const hasAll = isWhole(exchange, protocol, answer, bytes.body.length, answer.ended)
  const recovered = gotAll && end === undefined
  const partial = gaps.length > 0 || !(gotAll || hasAll)
  if (gotAll) return { outcome: 'complete', partial, recovered }
  return { outcome: cutOutcome(exchange, bytes.body.length), partial, recovered }
}

/** Whether an answer of which `length` bytes are there, with or without its own end, is whole. */
function isWhole(
  exchange: TapedExchange,
  protocol: Protocol,
  answer: Answer,
  length: number,
  ended: boolean,
): boolean {
  const { head, end, gaps } = exchange
  if (head === undefined) return false
  // A stream that tells its own end is believed; an error status needs no mark.
  if (tellsEnd(protocol, answer.kind) && head.status < 400) return ended
  if (isEmptyByNature(exchange.begin.method, head.status)) return true
  const isGemini = answer.kind === 'events' && protocol === 'gemini.generate' && head.status < 400
  if (isGemini && !ended) return false

  const expected = contentLength(exchange)
  if (expected !== undefined && length >= expected) return true
  if (expected !== undefined || gaps.length > 0) return false
  if (end?.cause === 'upstream_end') {
    return (
      length >= end.bytesReceived &&
      answer.decodedWhole &&
      !expectsEvents(exchange, protocol, answer)
    )
  }
  // Without a length only a value that closes itself shows that nothing is missing.
  const closesItself = isGemini || answer.kind === 'json'
  return closesItself && ended && (end === undefined || end.cause === 'client_gone')
}

/** An event stream without a byte of body has no mark either. */
function expectsEvents({ head }: TapedExchange, protocol: Protocol, { kind }: Answer): boolean {
  if (kind !== 'none' || head === undefined || head.status >= 400 || protocol === 'raw')
    return false
  return headerOf(head.headers, 'content-type')?.toLowerCase().includes('event-stream') ?? false
}

function isEmptyByNature(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304
}

function contentLength({ head }: TapedExchange): number | undefined {
  const value = head && headerOf(head.headers, 'content-length')
  return value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined
}

function withoutHead({ end }: TapedExchange): Outcome {
  if (end === undefined) return 'incomplete'
  if (end.cause === 'upstream_end') return 'upstream_error'
  return end.cause === 'error'
    ? (outcomeOfCode(end.code) ?? 'refused')
    : OUTCOME_OF_CAUSE[end.cause]
}

function cutOutcome({ end, gaps }: TapedExchange, tapedBytes: number): Outcome {
  if (end === undefined) return 'incomplete'
  if (end.cause === 'error') return outcomeOfCode(end.code) ?? 'truncated'
  // The answer did end; what of it is missing is missing on the tape alone.
  const lacksBytes = gaps.length > 0 || tapedBytes < end.bytesReceived
  if (end.cause === 'upstream_end' && lacksBytes) return 'incomplete'
  // The upstream was let finish (`on_client_gone: finish`) for a client that had left.
  if (end.cause === 'upstream_end' && end.bytesForwarded < end.bytesReceived) return 'client_gone'
  return OUTCOME_OF_CAUSE[end.cause]
}

/** An answer that rolltape made itself. */
function ownOutcome({ head, end }: TapedExchange): Outcome {
  if (end?.cause.startsWith('timeout_') === true) return 'timeout'
  if (end?.cause === 'cancelled') return 'cancelled'
  const ofCode = outcomeOfCode(end?.code ?? '')
  if (ofCode !== undefined) return ofCode
  if (head?.status === 504) return 'timeout'
  return head?.status === 502 ? 'upstream_error' : 'refused'
}
