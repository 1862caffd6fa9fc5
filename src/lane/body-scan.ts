/**
 * Finds a top-level value of a JSON object in its bytes, without parsing it: a scan that jumps
 * over values. For routing rules that need `model`, for session ids in bodies, and for the form of
 * answer that a replayed request asks for; about 1 ns a byte, so an 8 MB body costs some ms, and
 * only where it is needed.
 */
import { scanMembers, stringAt, textStart } from '../transforms/json-scan.ts'

const QUOTE = 0x22

/** Where a value stands: from `start` up to, not including, `end`. */
interface Span {
  readonly start: number
  readonly end: number
}

/**
 * The value of a top-level key when it is a string. The last one wins where a key stands twice, as
 * in `JSON.parse`. Undefined when the key is missing or no string.
 *
 * @returns `null` when the bytes are no JSON object as far as the scan can see.
 */
export function topLevelString(body: Buffer, key: string): string | undefined | null {
  const span = topLevelSpan(body, key)
  if (span === undefined || span === null) return span
  return body[span.start] === QUOTE ? stringAt(body, span.start, span.end) : undefined
}

/** Whether a top-level key is `true`, as `stream` of a request that asks for one. */
export function topLevelTrue(body: Buffer, key: string): boolean {
  const span = topLevelSpan(body, key)
  return span ? body.toString('latin1', span.start, span.end) === 'true' : false
}

/** The bytes of a top-level key's value; undefined when there is none. */
export function topLevelValue(body: Buffer, key: string): Buffer | undefined {
  const span = topLevelSpan(body, key)
  return span ? body.subarray(span.start, span.end) : undefined
}

function topLevelSpan(body: Buffer, key: string): Span | undefined | null {
  let found: Span | undefined
  const end = scanMembers(body, textStart(body), (keyStart, keyEnd, start, end) => {
    if (stringAt(body, keyStart, keyEnd) === key) found = { start, end }
  })
  return end < 0 ? null : found
}
