/**
 * Finds terminal marks in SSE bytes without parsing them: a byte search for what every mark of a
 * protocol holds, and a look at what stands before it. A mark is found however it is cut over
 * chunks and however its line or its JSON is spaced:
 *
 *   data: [DONE]            at a line's start, any blanks between
 *   event: message_stop     at a line's start, any blanks between
 *   "type" : "message_stop" as the start of a JSON string, wherever it stands
 *
 * A mark that is found may still be text of the model's (a line inside multi-line data, a string
 * that begins with the mark's name): that costs commits and nothing else, so false alarms are
 * allowed and misses are not. Only a type spelt with \u escapes, which no server writes, is missed.
 */

/** Which marks end a stream, by what the path says about its protocol. */
export type MarkSet = 'done' | 'message_stop' | 'response'

interface Marks {
  /** What every mark of the set holds: where none of these occurs, no mark can. */
  readonly needles: readonly Buffer[]
  /** The field whose value the needle is, at a line's start. */
  readonly field: Buffer
  /** A needle also counts right behind the quote that opens a JSON string. */
  readonly quoted: boolean
}

const MARKS: Record<MarkSet, Marks> = {
  done: marks('data:', false, ['[DONE]']),
  message_stop: marks('event:', true, ['message_stop']),
  response: marks('event:', true, ['response.completed', 'response.failed', 'response.incomplete']),
}

/** Longest needle: `response.incomplete`. */
const NEEDLE_BYTES_MAX = 19
/** Two of them: where the first is cut after its first byte, Node's decoder takes both off. */
const BOM_BYTES = 6
const LF = 10
const CR = 13
const QUOTE = 0x22
const BACKSLASH = 0x5c
const NOTHING = Buffer.alloc(0)
const ESCAPE = Buffer.of(BACKSLASH)

/** Watches one stream, chunk by chunk. */
export class MarkScanner {
  readonly #marks: Marks
  /** Between calls: of the bytes so far, the last that a mark completed later can need. */
  #kept: Buffer = NOTHING
  /** Between calls: what is kept begins where a line does. */
  #startsLine = true

  constructor(set: MarkSet) {
    this.#marks = MARKS[set]
  }

  /** True when a mark is complete with this chunk. */
  scan(chunk: Buffer): boolean {
    const bytes = this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk])
    const found = this.#find(bytes)
    this.#keep(bytes)
    return found
  }

  #find(bytes: Buffer): boolean {
    for (const needle of this.#marks.needles) {
      for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) {
        if (this.#isMark(bytes, at)) return true
      }
    }
    return false
  }

  #isMark(bytes: Buffer, at: number): boolean {
    const { field, quoted } = this.#marks
    if (quoted && bytes[at - 1] === QUOTE && bytes[at - 2] !== BACKSLASH) return true
    let fieldEnd = at
    while (fieldEnd > 0 && isBlank(bytes[fieldEnd - 1])) fieldEnd--
    const start = fieldEnd - field.length
    if (start < 0 || bytes.compare(field, 0, field.length, start, fieldEnd) !== 0) return false
    let lineStart = start
    while (start - lineStart < BOM_BYTES && (bytes[lineStart - 1] ?? 0) >= 0x80) lineStart--
    return lineStart === 0 ? this.#startsLine : isLineEnd(bytes[lineStart - 1])
  }

  #keep(bytes: Buffer): void {
    const { length } = bytes
    if (isLineEnd(bytes[length - 1])) {
      this.#kept = NOTHING
      this.#startsLine = true
      return
    }
    const start = Math.max(bytes.lastIndexOf(LF), bytes.lastIndexOf(CR)) + 1
    const open = start > 0 || this.#startsLine ? this.#openLine(bytes.subarray(start)) : undefined
    this.#startsLine = open !== undefined
    this.#kept = open ?? (this.#marks.quoted ? this.#openString(bytes) : NOTHING)
  }

  /** An unfinished line, its blanks left out, if it can still become `field needle`. */
  #openLine(line: Buffer): Buffer | undefined {
    const { field } = this.#marks
    let from = 0
    while (from < BOM_BYTES && (line[from] ?? 0) >= 0x80) from++
    const fieldEnd = Math.min(from + field.length, line.length)
    if (line.compare(field, 0, fieldEnd - from, from, fieldEnd) !== 0) return undefined
    let valueStart = fieldEnd
    while (isBlank(line[valueStart])) valueStart++
    const value = line.subarray(valueStart)
    return this.#begins(value) ? Buffer.concat([line.subarray(0, fieldEnd), value]) : undefined
  }

  /** The end of the bytes from the last quote on, and what may escape it, if a needle may follow. */
  #openString(bytes: Buffer): Buffer {
    if (bytes[bytes.length - 1] === BACKSLASH) return ESCAPE
    const quote = bytes.lastIndexOf(QUOTE)
    if (quote < 0 || bytes.length - quote > NEEDLE_BYTES_MAX) return NOTHING
    if (!this.#begins(bytes.subarray(quote + 1))) return NOTHING
    return Buffer.from(bytes.subarray(Math.max(0, quote - 1)))
  }

  /** True for the beginning of a needle, nothing included. */
  #begins(value: Buffer): boolean {
    return this.#marks.needles.some((needle) => {
      const { length } = value
      return length < needle.length && needle.compare(value, 0, length, 0, length) === 0
    })
  }
}

/** The marks that end a generation stream at this path; undefined where none is known. */
export function markSetOf(path: string): MarkSet | undefined {
  const end = path.length > 1 && path.endsWith('/') ? path.length - 1 : path.length
  if (path.endsWith('/completions', end)) return 'done'
  if (path.endsWith('/responses', end)) return 'response'
  // The Assistants API has messages of its own.
  if (path.endsWith('/messages', end) && !path.includes('/threads/')) return 'message_stop'
  return undefined
}

function marks(field: string, quoted: boolean, needles: readonly string[]): Marks {
  return {
    needles: needles.map((needle) => Buffer.from(needle)),
    field: Buffer.from(field),
    quoted,
  }
}

/** What a trim may take off: space, controls, and (in UTF-8) space outside ASCII. */
function isBlank(byte: number | undefined): boolean {
  if (byte === undefined || isLineEnd(byte)) return false
  return byte <= 0x20 || byte >= 0x80
}

function isLineEnd(byte: number | undefined): boolean {
  return byte === LF || byte === CR
}
