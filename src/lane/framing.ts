/**
 * An answer's bytes as they stand on a client's socket: HTTP/1.1 chunks, what a stream ends with, and
 * headers in the shape that node takes.
 */
import type { Socket } from 'node:net'
import { headerValue } from './headers.ts'

const CRLF = Buffer.from('\r\n')

/** The last four bytes of what was sent, over however many chunks. */
export function lastBytes(before: Buffer | undefined, chunk: Buffer): Buffer {
  if (before === undefined || chunk.length > 3) return chunk.subarray(-4)
  return Buffer.concat([before, chunk]).subarray(-4)
}

/** One HTTP/1.1 chunk in one buffer. */
export function framed(chunk: Buffer): Buffer {
  const size = chunk.length.toString(16)
  const out = Buffer.allocUnsafe(size.length + chunk.length + 4)
  let at = out.write(size, 'latin1')
  out[at++] = 13
  out[at++] = 10
  at += chunk.copy(out, at)
  out[at++] = 13
  out[at] = 10
  return out
}

/** A long chunk as it is, between its framing; what the last write says. */
export function writeLong(socket: Socket, chunk: Buffer): boolean {
  socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1')
  socket.write(chunk)
  return socket.write(CRLF)
}

/** True after a blank line: LF LF, CR CR, CRLF CRLF or a mix. */
export function endsEvent(tail: Buffer): boolean {
  const text = tail.toString('latin1')
  return /(?:\n|\r(?!\n))(?:\r\n|\n|\r)$/.test(text) || text.endsWith('\r\n\r\n')
}

/** Node refuses a Trailer field on an answer that it does not send in chunks. */
export function withoutTrailer(flat: string[]): string[] {
  if (headerValue(flat, 'trailer') === undefined) return flat
  return flat.filter((_part, i) => flat[i - (i % 2)]?.toLowerCase() !== 'trailer')
}

/** Name and value pairs of a flat list. */
export function pairs(flat: readonly string[]): [string, string][] {
  const out: [string, string][] = []
  for (let i = 0; i + 1 < flat.length; i += 2) out.push([flat[i] ?? '', flat[i + 1] ?? ''])
  return out
}
