/**
 * An answer as its client gets it, once what was asked for on the tape's behalf is taken out. The
 * lane uses it while the answer comes; derive and replay, with what stands on the tape, to see the
 * same bytes again.
 */
import { EventStrip } from './strip-events.ts'
import { JsonStrip } from './strip-json.ts'
import { applyEdits } from './splice.ts'
import type { StripSpec } from './transform.ts'

/** Makes one answer into what its client gets. */
export interface AnswerStrip {
  /** The head goes with the first bytes: their length is not known before. */
  readonly holdsHead: boolean
  /** Takes what came; gives what the client gets now, which may be nothing. */
  push(chunk: Buffer): Buffer
  /** The answer came whole; gives the rest. */
  end(): Buffer
  /** Why it, or some of its events, went as it was; null when all was looked through. */
  readonly skipped: string | null
  /** Headers as the client gets them; to be asked when something is given. */
  headers(flat: string[]): string[]
}

/** The head of an answer; names and values in turn. */
export interface AnswerHead {
  readonly status: number
  readonly flat: readonly string[]
}

/**
 * How an answer is stripped; a text says why it is not: errors, other types, and what is encoded all
 * the same pass as they are.
 */
export function stripFor(spec: StripSpec, { status, flat }: AnswerHead): AnswerStrip | string {
  if (status < 200 || status >= 300 || status === 204) return `status ${status}`
  const encoding = valueOf(flat, 'content-encoding')?.trim().toLowerCase() ?? ''
  if (encoding !== '' && encoding !== 'identity') return `content-encoding ${encoding.slice(0, 40)}`
  const type = valueOf(flat, 'content-type')?.toLowerCase() ?? ''
  if (type.includes('text/event-stream')) return new StreamAnswer(spec)
  return /[/+]json\b/.test(type) ? new WholeAnswer(spec) : `content-type ${type.slice(0, 80)}`
}

/** A stream: its events leave as they come. */
class StreamAnswer implements AnswerStrip {
  readonly holdsHead = false
  readonly #events: EventStrip

  constructor(spec: StripSpec) {
    this.#events = new EventStrip(spec)
  }

  push(chunk: Buffer): Buffer {
    return this.#events.push(chunk)
  }

  end(): Buffer {
    return this.#events.end()
  }

  get skipped(): string | null {
    return this.#events.skipped
  }

  /** Nobody knows its length any more. */
  headers(flat: string[]): string[] {
    return valueOf(flat, 'content-length') === undefined
      ? flat
      : flat.filter((_, i) => flat[i - (i % 2)]?.toLowerCase() !== 'content-length')
  }
}

/** An answer in one piece: it leaves once it is whole, or too long. */
class WholeAnswer implements AnswerStrip {
  readonly holdsHead = true
  skipped: string | null = null
  readonly #json: JsonStrip
  readonly #bytesMax: number
  #parts: Buffer[] = []
  #bytes = 0
  #isRaw = false
  #length: number | undefined

  constructor(spec: StripSpec) {
    this.#json = new JsonStrip(spec)
    this.#bytesMax = spec.bodyBytesMax
  }

  push(chunk: Buffer): Buffer {
    if (this.#isRaw) return chunk
    this.#parts.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes <= this.#bytesMax) return chunk.subarray(0, 0)
    this.#isRaw = true
    this.skipped = `the answer has more than ${this.#bytesMax} bytes`
    return Buffer.concat(this.#parts.splice(0))
  }

  end(): Buffer {
    const body = Buffer.concat(this.#parts.splice(0))
    if (this.#isRaw) return body
    const { edits, isRead } = this.#json.read(body, 0, false)
    if (!isRead) this.skipped = 'the answer is no JSON object'
    const stripped = applyEdits(body, edits)
    this.#length = stripped.length
    return stripped
  }

  headers(flat: string[]): string[] {
    const length = this.#length
    if (length === undefined) return flat
    return flat.map((part, i) =>
      i % 2 === 1 && flat[i - 1]?.toLowerCase() === 'content-length' ? String(length) : part,
    )
  }
}

function valueOf(flat: readonly string[], name: string): string | undefined {
  for (let i = 0; i + 1 < flat.length; i += 2) {
    if (flat[i]?.toLowerCase() === name) return flat[i + 1]
  }
  return undefined
}
