/**
 * Strips a stream event by event, in its bytes: a whole event leaves in the call that it was
 * completed in, and at most one unfinished event is held.
 *
 * Events end at a blank line, be it LF, CR or CRLF (https://html.spec.whatwg.org/#event-stream).
 * However the bytes are cut, the same bytes come out. Between calls: `parts` is the unfinished event;
 * `isRaw` says that it is too long and what there is of it has gone out as it was; `owesLf` what
 * becomes of an LF that comes first, the other half of a CRLF whose event has gone.
 */
import { JsonStrip } from './strip-json.ts'
import { applyEdits } from './splice.ts'
import type { StripSpec } from './transform.ts'

const LF = 10
const CR = 13
const COLON = 0x3a
const SPACE = 0x20
const NOTHING = Buffer.alloc(0)
const DATA = Buffer.from('data')

/** Where a line of an event stands, without its end. */
interface Line {
  readonly start: number
  readonly end: number
}

/** Strips one stream. */
export class EventStrip {
  readonly #json: JsonStrip
  readonly #bytesMax: number
  #parts: Buffer[] = []
  #bytes = 0
  #isRaw = false
  /** The line that comes next has no byte yet. */
  #lineIsEmpty = true
  #lastIsCr = false
  #owesLf: 'keep' | 'drop' | undefined
  #isFirst = true
  #hasTooLong = false

  constructor(spec: StripSpec) {
    this.#json = new JsonStrip(spec)
    this.#bytesMax = spec.eventBytesMax
  }

  /** Which events went as they were; null when all were looked through. */
  get skipped(): string | null {
    return this.#hasTooLong ? `events of more than ${this.#bytesMax} bytes` : null
  }

  /** Takes the next bytes; gives what the client gets now. */
  push(chunk: Buffer): Buffer {
    const out: Buffer[] = []
    let from = this.#leadingLf(chunk, out)
    for (;;) {
      const end = this.#eventEnd(chunk, from)
      if (end < 0) break
      this.#take(chunk.subarray(from, end), out)
      const event = this.#whole()
      const isKept = this.#emit(event, out)
      this.#owesLf =
        chunk[end - 1] === CR && end === chunk.length ? (isKept ? 'keep' : 'drop') : undefined
      from = end
    }
    this.#take(chunk.subarray(from), out)
    return out.length === 1 ? (out[0] ?? NOTHING) : Buffer.concat(out)
  }

  /** The stream has ended: an event that nobody closed is taken for whole. */
  end(): Buffer {
    const out: Buffer[] = []
    if (this.#bytes > 0 || this.#isRaw) this.#emit(this.#whole(), out)
    return Buffer.concat(out)
  }

  #leadingLf(chunk: Buffer, out: Buffer[]): number {
    const owes = this.#owesLf
    if (owes === undefined || chunk.length === 0) return 0
    this.#owesLf = undefined
    if (chunk[0] !== LF) return 0
    this.#lastIsCr = false
    if (owes === 'keep') out.push(chunk.subarray(0, 1))
    return 1
  }

  /** The place behind the blank line that ends the event; -1 when it is not among the bytes. */
  #eventEnd(chunk: Buffer, from: number): number {
    let at = from
    if (this.#lastIsCr && at < chunk.length) {
      this.#lastIsCr = false
      if (chunk[at] === LF) at++
    }
    while (at < chunk.length) {
      const lineEnd = nextLineEnd(chunk, at)
      if (lineEnd > at) this.#lineIsEmpty = false
      if (lineEnd === chunk.length) return -1
      at = lineEnd + 1
      if (chunk[lineEnd] === CR) {
        if (at === chunk.length) this.#lastIsCr = true
        else if (chunk[at] === LF) at++
      }
      const isBlank = this.#lineIsEmpty
      this.#lineIsEmpty = true
      if (isBlank) {
        this.#lastIsCr = false
        return at
      }
    }
    return -1
  }

  /** Adds to the event; what is too long goes out as it is. */
  #take(bytes: Buffer, out: Buffer[]): void {
    if (bytes.length === 0) return
    if (this.#isRaw) return void out.push(bytes)
    this.#parts.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes <= this.#bytesMax) return
    this.#isRaw = true
    this.#hasTooLong = true
    out.push(...this.#parts)
    this.#parts = []
  }

  /** The event that has been gathered; undefined when it has gone out already. */
  #whole(): Buffer | undefined {
    const event = this.#isRaw ? undefined : this.#joined()
    this.#parts = []
    this.#bytes = 0
    this.#isRaw = false
    return event
  }

  #joined(): Buffer {
    const [only] = this.#parts
    return this.#parts.length === 1 && only !== undefined ? only : Buffer.concat(this.#parts)
  }

  /** Gives out what is left of an event; false when nothing is. */
  #emit(event: Buffer | undefined, out: Buffer[]): boolean {
    const isFirst = this.#isFirst
    this.#isFirst = false
    if (event === undefined) return true
    const stripped = this.#strip(event, isFirst)
    if (stripped === undefined) return false
    out.push(stripped)
    return true
  }

  /** Undefined when the event goes. */
  #strip(event: Buffer, isFirst: boolean): Buffer | undefined {
    const data = dataLines(event, isFirst)
    const [only] = data
    if (only === undefined) return event
    if (data.length > 1) return this.#stripLines(event, data)
    const { edits, isDropped } = this.#json.read(event.subarray(0, only.end), only.start, true)
    return isDropped ? undefined : applyEdits(event, edits)
  }

  /** Data on several lines is one text, which is edited where its pieces stand. */
  #stripLines(event: Buffer, data: readonly Line[]): Buffer | undefined {
    const text = Buffer.concat(
      data.flatMap(({ start, end }) => [event.subarray(start, end), Buffer.of(LF)]),
    )
    const places: number[] = []
    for (const { start, end } of data) for (let at = start; at <= end; at++) places.push(at)
    const { edits, isDropped } = this.#json.read(text, 0, true)
    if (isDropped) return undefined
    const moved = edits.map(({ start, end, bytes }) => ({
      start: places[start] ?? event.length,
      end: (places[end - 1] ?? event.length) + 1,
      bytes,
    }))
    return applyEdits(event, moved)
  }
}

function nextLineEnd(chunk: Buffer, from: number): number {
  for (let at = from; at < chunk.length; at++) {
    const byte = chunk[at]
    if (byte === LF || byte === CR) return at
  }
  return chunk.length
}

/** The values of an event's data lines. */
function dataLines(event: Buffer, isFirst: boolean): Line[] {
  const lines: Line[] = []
  const isMarked = isFirst && event[0] === 0xef && event[1] === 0xbb && event[2] === 0xbf
  for (let at = isMarked ? 3 : 0; at < event.length;) {
    const end = nextLineEnd(event, at)
    const isData = event.compare(DATA, 0, DATA.length, at, Math.min(end, at + DATA.length)) === 0
    const colon = at + DATA.length
    if (isData && colon < end && event[colon] === COLON) {
      lines.push({ start: event[colon + 1] === SPACE ? colon + 2 : colon + 1, end })
    }
    at = end + 1
  }
  return lines
}
