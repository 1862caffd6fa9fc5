/**
 * The replay index: what a lane must know of every record to choose one, in shared memory that all
 * lanes read. Bodies stay on disk.
 *
 * One record takes 96 bytes here. Records stand in the order of their `seq`; those with the same
 * key are chained in that order. Lookup tables map a key to its chain's first record (open
 * addressing, twice as many slots as records).
 */
import type { Key } from './key.ts'

/** What is known of one record. */
export interface IndexEntry {
  readonly rawKey: Key
  readonly canonicalKey: Key
  /** Number of its session in {@link ReplayIndex.sessions}. */
  readonly session: number
  readonly turn: number
  readonly seq: number
  /** Number of its segment in {@link ReplayIndex.segments}; -1 without a tape. */
  readonly segment: number
  /** Offset of its last frame. */
  readonly offset: number
  /** Where its line stands in the `.jsonl`; -1 when the source is a tape alone. */
  readonly lineOffset: number
  readonly lineBytes: number
  readonly flags: number
  readonly status: number
  /** Number of the model in {@link ReplayIndex.models}; -1 when none is known. */
  readonly model: number
}

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

const WORDS = 24
const AT = { raw: 0, canonical: 4, session: 8, turn: 9, seq: 10, segment: 12, offset: 13 } as const
const AT_LINE = { offset: 15, bytes: 17, flags: 18, status: 19 } as const
const NEXT_RAW = 20
const NEXT_CANONICAL = 21
const MODEL = 22
const TWO_32 = 2 ** 32

/** The memory of an index, as it is handed to a lane's thread. */
export interface IndexMemory {
  readonly count: number
  readonly entries: SharedArrayBuffer
  readonly rawTable: SharedArrayBuffer
  readonly canonicalTable: SharedArrayBuffer
  readonly sessions: readonly string[]
  readonly segments: readonly string[]
  readonly models: readonly string[]
}

/** What the numbers in entries stand for. */
export type IndexNames = Pick<IndexMemory, 'sessions' | 'segments' | 'models'>

/** Which of the two keys. */
export type KeyKind = 'raw' | 'canonical'

/** Reads an index. */
export class ReplayIndex {
  readonly memory: IndexMemory
  readonly count: number
  readonly sessions: readonly string[]
  readonly segments: readonly string[]
  readonly #words: Int32Array
  readonly #tables: Record<KeyKind, Int32Array>
  readonly #sessionNumbers: ReadonlyMap<string, number>

  constructor(memory: IndexMemory) {
    this.memory = memory
    this.count = memory.count
    this.sessions = memory.sessions
    this.segments = memory.segments
    this.#words = new Int32Array(memory.entries)
    this.#tables = {
      raw: new Int32Array(memory.rawTable),
      canonical: new Int32Array(memory.canonicalTable),
    }
    this.#sessionNumbers = new Map(memory.sessions.map((name, i) => [name, i]))
  }

  /** Number of a recorded session; undefined when none has this name. */
  sessionNumber(name: string): number | undefined {
    return this.#sessionNumbers.get(name)
  }

  /** First record with this key, or -1. */
  first(kind: KeyKind, key: Key): number {
    const table = this.#tables[kind]
    for (let slot = slotOf(key, table.length); ; slot = (slot + 1) % table.length) {
      const record = (table[slot] ?? 0) - 1
      if (record < 0 || this.hasKey(record, kind, key)) return record
    }
  }

  /** The next record with the same key, or -1. */
  next(kind: KeyKind, record: number): number {
    return this.#word(record, kind === 'raw' ? NEXT_RAW : NEXT_CANONICAL) - 1
  }

  session(record: number): number {
    return this.#word(record, AT.session)
  }

  /** Its turn, from 1; 0 where none is known. */
  turn(record: number): number {
    return this.#word(record, AT.turn)
  }

  flags(record: number): number {
    return this.#word(record, AT_LINE.flags)
  }

  /** The model that was asked; undefined when none is known. */
  model(record: number): string | undefined {
    return this.memory.models[this.#word(record, MODEL)]
  }

  /** All of a record's entry. */
  entry(record: number): IndexEntry {
    const word = (at: number): number => this.#word(record, at)
    const long = (at: number): number => word(at + 1) * TWO_32 + (word(at) >>> 0)
    return {
      rawKey: [word(0), word(1), word(2), word(3)],
      canonicalKey: [word(4), word(5), word(6), word(7)],
      session: word(AT.session),
      turn: word(AT.turn),
      seq: long(AT.seq),
      segment: word(AT.segment),
      offset: long(AT.offset),
      lineOffset: long(AT_LINE.offset),
      lineBytes: word(AT_LINE.bytes),
      flags: word(AT_LINE.flags),
      status: word(AT_LINE.status),
      model: word(MODEL),
    }
  }

  #word(record: number, at: number): number {
    return this.#words[record * WORDS + at] ?? 0
  }

  /** True when the record has this key. */
  hasKey(record: number, kind: KeyKind, key: Key): boolean {
    const at = AT[kind]
    return (
      this.#word(record, at) === key[0] &&
      this.#word(record, at + 1) === key[1] &&
      this.#word(record, at + 2) === key[2] &&
      this.#word(record, at + 3) === key[3]
    )
  }
}

/** Makes an index out of entries. They are put in the order of `seq`. */
export function makeIndex(entries: readonly IndexEntry[], names: IndexNames): IndexMemory {
  const sorted = [...entries].sort((a, b) => a.seq - b.seq)
  const slots = Math.max(8, sorted.length * 2)
  const memory: IndexMemory = {
    count: sorted.length,
    entries: new SharedArrayBuffer(Math.max(1, sorted.length) * WORDS * 4),
    rawTable: new SharedArrayBuffer(slots * 4),
    canonicalTable: new SharedArrayBuffer(slots * 4),
    sessions: names.sessions,
    segments: names.segments,
    models: names.models,
  }
  const words = new Int32Array(memory.entries)
  for (const [record, entry] of sorted.entries()) writeEntry(words, record * WORDS, entry)
  chain(words, new Int32Array(memory.rawTable), sorted, 'raw')
  chain(words, new Int32Array(memory.canonicalTable), sorted, 'canonical')
  return memory
}

function writeEntry(words: Int32Array, at: number, entry: IndexEntry): void {
  const long = (offset: number, value: number): void => {
    words[at + offset] = (value % TWO_32) | 0
    words[at + offset + 1] = Math.floor(value / TWO_32)
  }
  words.set(entry.rawKey, at + AT.raw)
  words.set(entry.canonicalKey, at + AT.canonical)
  words[at + AT.session] = entry.session
  words[at + AT.turn] = entry.turn
  long(AT.seq, entry.seq)
  words[at + AT.segment] = entry.segment
  long(AT.offset, entry.offset)
  long(AT_LINE.offset, entry.lineOffset)
  words[at + AT_LINE.bytes] = entry.lineBytes
  words[at + AT_LINE.flags] = entry.flags
  words[at + AT_LINE.status] = entry.status
  words[at + MODEL] = entry.model
}

/** Chains the records of each key, from the last to the first so that each becomes the head. */
function chain(
  words: Int32Array,
  table: Int32Array,
  sorted: readonly IndexEntry[],
  kind: KeyKind,
): void {
  const next = kind === 'raw' ? NEXT_RAW : NEXT_CANONICAL
  for (let record = sorted.length - 1; record >= 0; record--) {
    const entry = sorted[record] as IndexEntry
    const key = kind === 'raw' ? entry.rawKey : entry.canonicalKey
    if (key.every((word) => word === 0)) continue
    let slot = slotOf(key, table.length)
    for (; table[slot] !== 0; slot = (slot + 1) % table.length) {
      const head = sorted[(table[slot] ?? 0) - 1] as IndexEntry
      const other = kind === 'raw' ? head.rawKey : head.canonicalKey
      if (other.every((word, i) => word === key[i])) break
    }
    words[record * WORDS + next] = table[slot] ?? 0
    table[slot] = record + 1
  }
}

function slotOf(key: Key, slots: number): number {
  return (key[0] >>> 0) % slots
}
