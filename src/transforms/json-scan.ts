/**
 * Jumps over JSON in its bytes: where the members of an object and the items of a list stand,
 * without making anything of them. About 1 ns a byte. Nothing is validated: what is found is as good
 * as the bytes, and what is no JSON as far as the scan can see is said to be none.
 *
 * Positions are of the buffer that is given, so a stretch of it can be scanned where it stands.
 */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const COMMA = 0x2c
const COLON = 0x3a
/** Strings up to this are gone through byte by byte. */
const SHORT = 32

/** Told of a member: its name with its quotes, then its value, each from its start up to its end. */
export type MemberVisit = (
  keyStart: number,
  keyEnd: number,
  valueStart: number,
  valueEnd: number,
) => void

/** Where a text begins that may have a byte-order mark and space before it. */
export function textStart(bytes: Buffer): number {
  const isMarked = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
  return skipSpace(bytes, isMarked ? 3 : 0)
}

/**
 * Tells of every member of the object that opens at `at`, in order.
 * @returns the place behind the object; -1 when it is none, or does not end.
 */
export function scanMembers(bytes: Buffer, at: number, visit: MemberVisit): number {
  if (bytes[at] !== OPEN_BRACE) return -1
  let from = skipSpace(bytes, at + 1)
  if (bytes[from] === CLOSE_BRACE) return from + 1
  for (;;) {
    if (bytes[from] !== QUOTE) return -1
    const keyEnd = stringEnd(bytes, from)
    if (keyEnd < 0) return -1
    const colon = skipSpace(bytes, keyEnd)
    if (bytes[colon] !== COLON) return -1
    const value = skipSpace(bytes, colon + 1)
    const valueEnd = skipValue(bytes, value)
    if (valueEnd < 0) return -1
    visit(from, keyEnd, value, valueEnd)
    const next = skipSpace(bytes, valueEnd)
    if (bytes[next] === CLOSE_BRACE) return next + 1
    if (bytes[next] !== COMMA) return -1
    from = skipSpace(bytes, next + 1)
  }
}

/**
 * Tells of every item of the list that opens at `at`.
 * @returns the place behind the list; -1 when it is none, or does not end.
 */
export function scanItems(
  bytes: Buffer,
  at: number,
  visit: (start: number, end: number) => void,
): number {
  if (bytes[at] !== OPEN_BRACKET) return -1
  let from = skipSpace(bytes, at + 1)
  if (bytes[from] === CLOSE_BRACKET) return from + 1
  for (;;) {
    const end = skipValue(bytes, from)
    if (end < 0) return -1
    visit(from, end)
    const next = skipSpace(bytes, end)
    if (bytes[next] === CLOSE_BRACKET) return next + 1
    if (bytes[next] !== COMMA) return -1
    from = skipSpace(bytes, next + 1)
  }
}

/** The string that stands there, unescaped; undefined when it is none. */
export function stringAt(bytes: Buffer, start: number, end: number): string | undefined {
  // Most names have neither escapes nor anything beyond ASCII.
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number
    if (byte === BACKSLASH || byte >= 0x80 || byte < 0x20) return parsed(bytes, start, end)
  }
  return bytes.toString('latin1', start + 1, end - 1)
}

/** Whether the bytes there are these, in ASCII. */
export function isTextAt(bytes: Buffer, start: number, end: number, text: string): boolean {
  return end - start === text.length && bytes.toString('latin1', start, end) === text
}

/** Behind all space from there on. */
export function skipSpace(bytes: Buffer, at: number): number {
  let i = at
  while (i < bytes.length && (bytes[i] as number) <= 0x20) i++
  return i
}

/** Index after the value that begins at `at`; -1 when it does not end. */
export function skipValue(bytes: Buffer, at: number): number {
  const first = bytes[at]
  if (first === QUOTE) return stringEnd(bytes, at)
  if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return skipScalar(bytes, at)
  let depth = 0
  for (let i = at; i < bytes.length; i++) {
    const byte = bytes[i]
    if (byte === QUOTE) {
      i = stringEnd(bytes, i) - 1
      if (i < 0) return -1
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (--depth === 0) return i + 1
    }
  }
  return -1
}

function parsed(bytes: Buffer, start: number, end: number): string | undefined {
  try {
    return JSON.parse(bytes.toString('utf8', start, end)) as string
  } catch {
    return undefined
  }
}

/** Index after the closing quote of the string that opens at `at`; -1 when it does not close. */
function stringEnd(bytes: Buffer, at: number): number {
  let from = at + 1
  // Most strings are short: to call for a search costs more than to look at some bytes.
  for (const near = Math.min(bytes.length, from + SHORT); from < near; from++) {
    const byte = bytes[from]
    if (byte === QUOTE) return from + 1
    if (byte === BACKSLASH) from++
  }
  let quote = bytes.indexOf(QUOTE, from)
  while (quote >= 0) {
    let slashes = 0
    while (bytes[quote - 1 - slashes] === BACKSLASH) slashes++
    if (slashes % 2 === 0) return quote + 1
    quote = bytes.indexOf(QUOTE, quote + 1)
  }
  return -1
}

function skipScalar(bytes: Buffer, at: number): number {
  let i = at
  while (i < bytes.length && !isScalarEnd(bytes[i] as number)) i++
  return i === at ? -1 : i
}

function isScalarEnd(byte: number): boolean {
  return byte === COMMA || byte === CLOSE_BRACE || byte === CLOSE_BRACKET || byte <= 0x20
}
