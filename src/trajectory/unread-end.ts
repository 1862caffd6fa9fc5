/**
 * Whether the end that a protocol tells is in a stream that is too large to be read: lines are
 * looked at by their beginnings, nothing is parsed and nothing but the bytes given is held.
 *
 *   data: [DONE]                                     chat and completions
 *   event: message_stop                              Messages, up to the blank line behind it
 *   data: {"type":"response.completed", …            Responses, without its `event:` too
 */
import type { Protocol } from './record.ts'

const LF = 10
const CR = 13
/** So much of a line is looked at: a type stands first in its object, or in the event's name. */
const LINE_BYTES = 128
/** An event's name, or the type of its data. */
const NAME = /^(?:event:[^\S]*|data:[^\S]*\{[^\S]*"type"[^\S]*:[^\S]*")([a-z_.]+)/
const ENDS: ReadonlySet<string> = new Set([
  'message_stop',
  'response.completed',
  'response.failed',
  'response.incomplete',
])

/** Whether the stream's end is among these bytes. */
export function hasUnreadEnd(protocol: Protocol, bytes: Buffer): boolean {
  const isDone = protocol === 'openai.chat' || protocol === 'openai.completions'
  /** What the event that has begun says: its data lines, its last one, and whether it is an end. */
  let event = { lines: 0, data: '', isEnd: false }
  for (let at = 0; at <= bytes.length;) {
    const end = lineEnd(bytes, at)
    const line = bytes.toString('latin1', at, Math.min(end, at + LINE_BYTES))
    const text = at === 0 ? line.replace(/^\u00ef\u00bb\u00bf/, '') : line
    if (text.startsWith('data:')) {
      event.lines++
      event.data = text.slice('data:'.length).trim()
    }
    event.isEnd ||= ENDS.has(NAME.exec(text)?.[1] ?? '')
    // A mark needs no blank line behind it; what has data may have been cut in it.
    if (isDone && end === bytes.length && isMark(event)) return true
    if (end === at && at < bytes.length) {
      if (isDone ? isMark(event) : event.isEnd && event.lines > 0) return true
      event = { lines: 0, data: '', isEnd: false }
    }
    at = bytes[end] === CR && bytes[end + 1] === LF ? end + 2 : end + 1
  }
  return false
}

function isMark({ lines, data }: { readonly lines: number; readonly data: string }): boolean {
  return lines === 1 && data === '[DONE]'
}

function lineEnd(bytes: Buffer, from: number): number {
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === LF || byte === CR) return at
  }
  return bytes.length
}
