/** Headers between clients and responders: what each is not to see, what is filled in. */
import { responseHeaders } from '../lane/headers.ts'
import type { Redaction } from '../lane/redaction.ts'

/** A request's headers without those that carry credentials. */
export function withoutCredentials(flat: readonly string[], redaction: Redaction): string[] {
  const redacted = redaction.headers(flat)
  return flat.filter((_, i) => redacted[i | 1] === flat[i | 1])
}

/**
 * An answer's headers as they go on: those of a hop are left out, a Content-Type is filled in. With
 * `bodyBytes` all of it is there, else it comes in chunks.
 */
export function answerHeaders(given: readonly string[], bodyBytes: number | undefined): string[] {
  const flat = responseHeaders([...given])
  const kept: string[] = []
  let isTyped = false
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = flat[i] as string
    const lower = name.toLowerCase()
    // The body's length is what it has.
    if (lower === 'content-length') continue
    if (lower === 'content-type') isTyped = true
    kept.push(name, flat[i + 1] as string)
  }
  const type = bodyBytes === undefined ? 'text/event-stream' : 'application/json'
  if (!isTyped && bodyBytes !== 0) kept.push('content-type', type)
  if (bodyBytes !== undefined) kept.push('content-length', String(bodyBytes))
  return kept
}
