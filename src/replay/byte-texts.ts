/** Texts out of bytes of JSON, of which the same ones come again and again. */
import { NAMES_CACHED_MAX } from '../limits.ts'
import type { JsonBytes } from './json-bytes.ts'

/** A string as it stands in JSON, and its value. */
export interface ByteText {
  readonly quoted: DataView
  readonly value: string
}

/** The values of strings as they stand in JSON, the ones met lately kept at hand. */
export class ByteTexts {
  /** By hash of its bytes. */
  readonly #slots: (ByteText | undefined)[] = Array.from({
    length: NAMES_CACHED_MAX,
  })

  /** The string that stands there, quotes included. */
  at({ bytes, view }: JsonBytes, from: number, end: number): ByteText {
    let hash = 0x811c9dc5
    for (let at = from; at < end; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193)
    const slot = (hash ^ (hash >>> 15)) & (NAMES_CACHED_MAX - 1)
    const known = this.#slots[slot]
    if (known?.quoted.byteLength === end - from && isAt(view, from, known.quoted)) return known
    const quoted = bytesOf(bytes.subarray(from, end))
    const text = { quoted, value: JSON.parse(bytes.toString('utf8', from, end)) as string }
    this.#slots[slot] = text
    return text
  }
}

/** Bytes to be compared with others, in memory of their own. */
export function bytesOf(what: string | Uint8Array): DataView {
  const own = typeof what === 'string' ? new TextEncoder().encode(what) : new Uint8Array(what)
  return new DataView(own.buffer, own.byteOffset, own.byteLength)
}

/** True when these bytes stand there. */
export function isAt(view: DataView, from: number, what: DataView): boolean {
  const length = what.byteLength
  if (length < 4 || from + length > view.byteLength) return isAtByByte(view, from, what)
  // What differs, differs near its end.
  if (view.getInt32(from + length - 4) !== what.getInt32(length - 4)) return false
  for (let at = 0; at < length - 4; at += 4) {
    if (view.getInt32(from + at) !== what.getInt32(at)) return false
  }
  return true
}

function isAtByByte(view: DataView, from: number, what: DataView): boolean {
  const length = what.byteLength
  if (from + length > view.byteLength) return false
  for (let at = 0; at < length; at++) {
    if (view.getUint8(from + at) !== what.getUint8(at)) return false
  }
  return true
}
