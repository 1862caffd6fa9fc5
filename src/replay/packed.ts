/**
 * What is known of one record, packed into words of a fixed number, so that a million of them are
 * one piece of memory that can be handed between threads and written to disk as it stands.
 *
 *   word  0–3  raw key        8  session      12     segment, -1 without   17  bytes of the line
 *         4–7  canonical key  9  turn         13–14  offset of last frame  18  flags | status << 16
 *                            10–11  seq       15–16  offset of the line    19  model, -1 without
 *
 * Two words are a number up to 2^53, the low half first. Session, segment and model are numbers in
 * lists of names that go along.
 */
import { NO_KEY } from './key.ts'
import type { Key } from './key.ts'

/** Words of one packed record. */
export const PACKED_WORDS = 20

/** Where each field begins. */
export const AT = {
  raw: 0,
  canonical: 4,
  session: 8,
  turn: 9,
  seq: 10,
  segment: 12,
  offset: 13,
  lineOffset: 15,
  lineBytes: 17,
  flags: 18,
  model: 19,
} as const

/** A call that makes the model produce. */
export const IS_GENERATION = 1
/** The answer broke off: it replays its bytes, then the socket is destroyed. */
export const IS_TRUNCATED = 2
/** Served only with `replayPartial`. */
export const IS_PARTIAL = 4
/** There is nothing to answer with. */
export const IS_UNUSABLE = 8
/** The answer was a stream. */
export const IS_STREAM = 16
/** A protocol whose answers can be given streamed or whole, however they were recorded. */
export const IS_SHAPED = 32
/** A turn line: its turn is its place, not its line. */
export const IS_TURN_LINE = 64
/** Without a head: not even its tape has an answer. */
export const HAS_NO_HEAD = 128

const STATUS_SHIFT = 16
const FLAGS_MASK = 0xffff

/** Names that numbers in packed records stand for. */
export interface PackedNames {
  readonly sessions: readonly string[]
  readonly segments: readonly string[]
  readonly models: readonly string[]
}

/** Records, packed, in the order of their source. */
export interface PackedRecords {
  readonly words: Int32Array
  readonly names: PackedNames
}

/** One record to be packed. */
export interface PackedFields {
  readonly rawKey: Key
  readonly canonicalKey: Key
  readonly session: string
  readonly turn: number
  /** Undefined where lines are not numbered. */
  readonly seq: number | undefined
  /** Undefined without a tape. */
  readonly segment: string | undefined
  readonly offset: number
  /** -1 where there is no line. */
  readonly lineOffset: number
  readonly lineBytes: number
  readonly flags: number
  readonly status: number
  readonly model: string | null
}

/** Numbers for names, from 0, by first sight. */
export class Numbering {
  readonly names: string[] = []
  readonly #numbers = new Map<string, number>()
  #last = ''
  #lastNumber = -1

  of(name: string): number {
    if (name !== this.#last || this.#lastNumber < 0) {
      this.#lastNumber = this.#find(name)
      this.#last = name
    }
    return this.#lastNumber
  }

  #find(name: string): number {
    const known = this.#numbers.get(name)
    if (known !== undefined) return known
    this.#numbers.set(name, this.names.length)
    return this.names.push(name) - 1
  }
}

/** Packs records one after the other. */
export class Packer {
  #words = new Int32Array(256 * PACKED_WORDS)
  #count = 0
  #sessions = new Numbering()
  #segments = new Numbering()
  #models = new Numbering()

  get count(): number {
    return this.#count
  }

  add(fields: PackedFields): void {
    const at = this.#count++ * PACKED_WORDS
    if (at + PACKED_WORDS > this.#words.length) this.#grow()
    const words = this.#words
    for (let i = 0; i < 4; i++) {
      words[at + AT.raw + i] = fields.rawKey[i] ?? 0
      words[at + AT.canonical + i] = fields.canonicalKey[i] ?? 0
    }
    words[at + AT.session] = this.#sessions.of(fields.session)
    words[at + AT.turn] = fields.turn
    writeLong(words, at + AT.seq, fields.seq ?? -1)
    words[at + AT.segment] = fields.segment === undefined ? -1 : this.#segments.of(fields.segment)
    writeLong(words, at + AT.offset, fields.offset)
    writeLong(words, at + AT.lineOffset, fields.lineOffset)
    words[at + AT.lineBytes] = fields.lineBytes
    words[at + AT.flags] = (fields.flags & FLAGS_MASK) | (fields.status << STATUS_SHIFT)
    words[at + AT.model] = fields.model === null ? -1 : this.#models.of(fields.model)
  }

  /** Takes the nth of other packed records, whose line stands there. */
  addPacked(
    { words, names }: PackedRecords,
    n: number,
    line: { offset: number; length: number },
  ): void {
    const at = this.#count++ * PACKED_WORDS
    if (at + PACKED_WORDS > this.#words.length) this.#grow()
    const own = this.#words
    const from = n * PACKED_WORDS
    own.set(words.subarray(from, from + PACKED_WORDS), at)
    own[at + AT.session] = this.#sessions.of(names.sessions[words[from + AT.session] ?? 0] ?? '')
    const segment = words[from + AT.segment] ?? -1
    own[at + AT.segment] = segment < 0 ? -1 : this.#segments.of(names.segments[segment] ?? '')
    const model = words[from + AT.model] ?? -1
    own[at + AT.model] = model < 0 ? -1 : this.#models.of(names.models[model] ?? '')
    writeLong(own, at + AT.lineOffset, line.offset)
    own[at + AT.lineBytes] = line.length
  }

  /** All that was packed, in memory of its own that threads may share; the next begins empty. */
  take(): PackedRecords {
    const length = this.#count * PACKED_WORDS
    const words = new Int32Array(new SharedArrayBuffer(length * 4))
    words.set(this.#words.subarray(0, length))
    const records = {
      words,
      names: {
        sessions: this.#sessions.names,
        segments: this.#segments.names,
        models: this.#models.names,
      },
    }
    this.#count = 0
    this.#sessions = new Numbering()
    this.#segments = new Numbering()
    this.#models = new Numbering()
    return records
  }

  #grow(): void {
    const words = new Int32Array(this.#words.length * 2)
    words.set(this.#words)
    this.#words = words
  }
}

/** Writes a whole number up to 2^53, or -1, into two words. */
export function writeLong(words: Int32Array, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32)
  words[at] = (value - high * 2 ** 32) | 0
  words[at + 1] = high
}

/** Reads what {@link writeLong} wrote. */
export function readLong(words: Int32Array, at: number): number {
  return (words[at + 1] ?? 0) * 2 ** 32 + ((words[at] ?? 0) >>> 0)
}

/** Which records are served at all. */
export interface ServedRules {
  readonly onUnusable: 'error' | 'skip'
  readonly replayPartial: boolean
}

/** True when a record with these flags is served: others no cursor stops at. */
export function isServed(flags: number, { onUnusable, replayPartial }: ServedRules): boolean {
  const isPartial = (flags & IS_PARTIAL) !== 0
  // Of an answer that nobody waited for, not even its head came: that is no record to stop at.
  if ((flags & IS_UNUSABLE) !== 0 && (isPartial || onUnusable === 'skip')) return false
  return replayPartial || !isPartial
}

/** The flags out of a record's flags word. */
export function flagsOf(word: number): number {
  return word & FLAGS_MASK
}

/** The HTTP status out of a record's flags word; 0 when none is known. */
export function statusOf(word: number): number {
  return word >>> STATUS_SHIFT
}

/** True when four words are the key of nothing. */
export function isNoKey(words: Int32Array, at: number): boolean {
  return NO_KEY.every((word, i) => words[at + i] === word)
}
