/**
 * JSON read as bytes, without making anything of it: where a value ends, and whether it is JSON at
 * all. For lines of a file: a line break ends everything, so no bounds need to be checked as long
 * as one follows (each caller sees to that).
 *
 * What is taken here `JSON.parse` takes too, provided that the bytes are UTF-8; the other way round
 * it may refuse what is nested too deep.
 */

/** Bytes that a string holds as they are: all but quotes, backslashes and control characters. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte < 0x20 || byte === 0x22 || byte === 0x5c ? 0 : 1,
)

/** Bytes that may follow a backslash; 2 for `u`, which takes four digits more. */
const ESCAPED = Uint8Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte)
  return char === 'u' ? 2 : '"\\/bfnrt'.includes(char) ? 1 : 0
})

/** Strings up to this are gone through byte by byte. */
const SHORT = 16

const HIGH_BITS = 0x80808080 | 0

/** Bytes of JSON text, also four at a time: by place, or at any place. */
export interface JsonBytes {
  readonly bytes: Buffer
  readonly words: Int32Array
  readonly view: DataView
}

/** Memory for so many bytes of JSON text, and a line break behind them. */
export function makeJsonBytes(length: number): JsonBytes {
  const size = (length + 8) & ~3
  const bytes = Buffer.allocUnsafeSlow(size).fill(0x0a, length)
  const { buffer } = bytes
  return { bytes, words: new Int32Array(buffer, 0, size / 4), view: new DataView(buffer) }
}

/** Deeper nesting is left to `JSON.parse`. */
const DEPTH_MAX = 256
const outer = new Uint8Array(DEPTH_MAX)

/** The next byte that is no space; a line break is none. */
export function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from
  for (let byte = bytes[at]; byte === 0x20 || byte === 0x09 || byte === 0x0d; byte = bytes[at]) at++
  return at
}

/** The first byte from here on that is no plain one of a string: quote, backslash, control. */
export function skipPlain({ bytes, words }: JsonBytes, from: number): number {
  let at = from
  for (; (at & 3) !== 0; at++) if (PLAIN[bytes[at] as number] === 0) return at
  // Eight bytes a round, four at once.
  const last = words.length - 1
  let word = at >> 2
  while (word < last) {
    const one = words[word] as number
    const other = words[word + 1] as number
    if (((notPlain(one) | notPlain(other)) & HIGH_BITS) !== 0) break
    word += 2
  }
  at = word << 2
  while (PLAIN[bytes[at] as number] === 1) at++
  return at
}

/** The high bit of each byte that is none of a string: x - 0x01… carries into it where x is 0. */
function notPlain(four: number): number {
  const quote = four ^ 0x22222222
  const backslash = four ^ 0x5c5c5c5c
  return (
    ((quote - 0x01010101) & ~quote) |
    ((backslash - 0x01010101) & ~backslash) |
    ((four - 0x20202020) & ~four)
  )
}

/** The end of the string whose opening quote is at `from`; -1 when it is none. */
export function skipString(json: JsonBytes, from: number): number {
  const { bytes } = json
  let at = from + 1
  // Most strings are short.
  for (const end = at + SHORT; at < end; at++) {
    const byte = bytes[at] as number
    if (PLAIN[byte] === 1) continue
    if (byte === 0x22) return at + 1
    break
  }
  return skipLong(json, at)
}

function skipLong(json: JsonBytes, from: number): number {
  const { bytes } = json
  let at = from
  for (;;) {
    at = skipPlain(json, at)
    const byte = bytes[at]
    if (byte === 0x22) return at + 1
    if (byte !== 0x5c) return -1
    const kind = ESCAPED[bytes[at + 1] as number]
    if (kind === 0) return -1
    at += 2
    if (kind === 1) continue
    for (const end = at + 4; at < end; at++) if (!isHex(bytes[at] as number)) return -1
  }
}

/** The end of the value that begins at `from` (no space before it); -1 when it is none. */
export function skipValue(json: JsonBytes, from: number): number {
  const { bytes } = json
  let depth = 0
  let at = from
  let isObject = false
  for (;;) {
    // A value begins here.
    const first = bytes[at] as number
    if (first === 0x22) {
      at = skipString(json, at)
      if (at < 0) return -1
    } else if (first === 0x7b || first === 0x5b) {
      if (depth === DEPTH_MAX) return -1
      outer[depth++] = isObject ? 1 : 0
      isObject = first === 0x7b
      at++
      if (isSpace(bytes[at] as number)) at = skipSpace(bytes, at)
      if (bytes[at] !== first + 2) {
        if (isObject && (at = skipName(json, at)) < 0) return -1
        continue
      }
      at++
      isObject = outer[--depth] === 1
    } else {
      at = first >= 0x61 ? skipWord(bytes, at) : skipNumber(bytes, at)
      if (at < 0) return -1
    }
    // A value has ended here; so may what it is in.
    for (;;) {
      if (depth === 0) return at
      if (isSpace(bytes[at] as number)) at = skipSpace(bytes, at)
      const next = bytes[at++] as number
      if (next === 0x2c) break
      if (next !== (isObject ? 0x7d : 0x5d)) return -1
      isObject = outer[--depth] === 1
    }
    if (isSpace(bytes[at] as number)) at = skipSpace(bytes, at)
    if (isObject && (at = skipName(json, at)) < 0) return -1
  }
}

/** Behind a member's name and colon, where its value begins. */
function skipName(json: JsonBytes, from: number): number {
  const { bytes } = json
  if (bytes[from] !== 0x22) return -1
  let at = skipString(json, from)
  if (at < 0) return -1
  if (bytes[at] !== 0x3a && bytes[(at = skipSpace(bytes, at))] !== 0x3a) return -1
  at++
  return isSpace(bytes[at] as number) ? skipSpace(bytes, at) : at
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d
}

const TRUE = 0x65757274
const NULL = 0x6c6c756e
const ALSE = 0x65736c61

/** The end of `true`, `false` or `null`; -1 when it is none of them. */
export function skipWord(bytes: Uint8Array, from: number): number {
  const four = fourAt(bytes, from)
  if (four === TRUE || four === NULL) return from + 4
  return bytes[from] === 0x66 && fourAt(bytes, from + 1) === ALSE ? from + 5 : -1
}

function fourAt(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
  return low | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)
}

/** The end of the number that begins at `from`; -1 when it is none. */
export function skipNumber(bytes: Uint8Array, from: number): number {
  let at = bytes[from] === 0x2d ? from + 1 : from
  if (bytes[at] === 0x30) at++
  else if ((at = skipDigits(bytes, at)) < 0) return -1
  if (bytes[at] === 0x2e && (at = skipDigits(bytes, at + 1)) < 0) return -1
  if (((bytes[at] as number) | 0x20) !== 0x65) return at
  const sign = bytes[at + 1]
  return skipDigits(bytes, sign === 0x2b || sign === 0x2d ? at + 2 : at + 1)
}

/** Behind one digit or more; -1 when there is none. */
function skipDigits(bytes: Uint8Array, from: number): number {
  let at = from
  while (((bytes[at] as number) ^ 0x30) < 10) at++
  return at === from ? -1 : at
}

function isHex(byte: number): boolean {
  return (byte ^ 0x30) < 10 || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66)
}
