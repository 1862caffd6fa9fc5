/**
 * The replay index: what a lane must know of every record to choose one, in shared memory that all
 * lanes read. Bodies stay on disk.
 *
 * A record takes 104 bytes here, and 32 in tables. Records stand in the order of their `seq`, and
 * each is in six lists, in that order too: those with its raw key, with its canonical key and form,
 * both again within its session, those of its session, and all. Each list is chained from its first
 * record on, which a table finds (open addressing, twice as many slots as records).
 */
import type { Key } from './key.ts'
import { AT, IS_STREAM, PACKED_WORDS, flagsOf, readLong, statusOf } from './packed.ts'

/** Words of a record: as packed, its file, its place in five lists. */
export const INDEX_WORDS = PACKED_WORDS + 6
/** Which of the source's files its line is in. */
export const AT_FILE = PACKED_WORDS
/** Number of the next record in the lists 0 to 4, plus one; 0 where there is none. */
export const AT_NEXT = PACKED_WORDS + 1

/** The lists a record is in. */
export const LIST = {
  raw: 0,
  rawOfSession: 1,
  canonical: 2,
  canonicalOfSession: 3,
  session: 4,
  all: 5,
} as const

/** One of the lists. */
export type List = (typeof LIST)[keyof typeof LIST]

/** The lists that are found by a key. */
export type KeyList = 0 | 1 | 2 | 3

/** All lists that are found by a key. */
export const KEY_LISTS: readonly KeyList[] = [0, 1, 2, 3]

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
  /** Number of the file its line is in. */
  readonly file: number
  /** Where its line stands in that file; -1 when the source is a tape alone. */
  readonly lineOffset: number
  readonly lineBytes: number
  readonly flags: number
  readonly status: number
  /** Number of the model in {@link IndexMemory.models}; -1 when none is known. */
  readonly model: number
}

/** The memory of an index, as it is handed to a lane's thread. */
export interface IndexMemory {
  readonly count: number
  readonly entries: SharedArrayBuffer
  /** The tables of the lists that are found by a key. */
  readonly tables: readonly SharedArrayBuffer[]
  /** First record of each session, plus one. */
  readonly sessionFirst: SharedArrayBuffer
  readonly sessions: readonly string[]
  readonly segments: readonly string[]
  readonly models: readonly string[]
}

/** What the numbers in entries stand for. */
export type IndexNames = Pick<IndexMemory, 'sessions' | 'segments' | 'models'>

/** Slots of a table for so many records. */
export function tableSlots(records: number): number {
  return Math.max(8, records * 2)
}

/** Where in a table a list of this hash is looked for first. */
export function slotFor(hash: number, slots: number): number {
  return Math.floor(((hash >>> 0) / 2 ** 32) * slots)
}

/** The hash of a key's list, a whole number of 32 bits. */
export function listHash(list: KeyList, key0: number, session: number, isStream: boolean): number {
  let hash = key0
  if (list === LIST.rawOfSession || list === LIST.canonicalOfSession) {
    hash ^= Math.imul(session + 1, 0x9e3779b1)
  }
  return list >= LIST.canonical && isStream ? ~hash : hash
}

/** True when two records of an index are in the same list of this kind. */
export function areListed(words: Int32Array, list: KeyList, one: number, other: number): boolean {
  const at = list < LIST.canonical ? AT.raw : AT.canonical
  const [a, b] = [one * INDEX_WORDS, other * INDEX_WORDS]
  for (let i = at; i < at + 4; i++) if (words[a + i] !== words[b + i]) return false
  if ((list & 1) === 1 && words[a + AT.session] !== words[b + AT.session]) return false
  if (list < LIST.canonical) return true
  return (((words[a + AT.flags] ?? 0) ^ (words[b + AT.flags] ?? 0)) & IS_STREAM) === 0
}

/** Reads an index. */
export class ReplayIndex {
  readonly memory: IndexMemory
  readonly count: number
  readonly sessions: readonly string[]
  readonly segments: readonly string[]
  readonly #words: Int32Array
  readonly #tables: readonly Int32Array[]
  readonly #sessionFirst: Int32Array
  readonly #sessionNumbers: ReadonlyMap<string, number>

  constructor(memory: IndexMemory) {
    this.memory = memory
    this.count = memory.count
    this.sessions = memory.sessions
    this.segments = memory.segments
    this.#words = new Int32Array(memory.entries)
    this.#tables = memory.tables.map((table) => new Int32Array(table))
    this.#sessionFirst = new Int32Array(memory.sessionFirst)
    this.#sessionNumbers = new Map(memory.sessions.map((name, i) => [name, i]))
  }

  /** Number of a recorded session; undefined when none has this name. */
  sessionNumber(name: string): number | undefined {
    return this.#sessionNumbers.get(name)
  }

  /** True when a record has this raw key. */
  hasRaw(key: Key): boolean {
    return this.first(LIST.raw, key, 0, false) >= 0
  }

  /**
   * First record of the list of a key, or -1. `session` counts in the lists of a session,
   * `isStream` in the canonical ones.
   */
  first(list: KeyList, key: Key, session: number, isStream: boolean): number {
    const table = this.#tables[list] as Int32Array
    const slots = table.length
    let slot = slotFor(listHash(list, key[0], session, isStream), slots)
    for (; ; slot = slot + 1 === slots ? 0 : slot + 1) {
      const record = (table[slot] ?? 0) - 1
      if (record < 0 || this.#isIn(record, list, key, session, isStream)) return record
    }
  }

  /** First record of a session, or -1. */
  firstOf(session: number): number {
    return (this.#sessionFirst[session] ?? 0) - 1
  }

  /** The next record in a list, or -1. */
  next(list: List, record: number): number {
    if (list === LIST.all) return record + 1 < this.count ? record + 1 : -1
    return this.#word(record, AT_NEXT + list) - 1
  }

  /** The first record of the list of this kind that a record is in. */
  head(list: List, record: number): number {
    if (list === LIST.all) return 0
    if (list === LIST.session) return this.firstOf(this.session(record))
    const at = record * INDEX_WORDS + (list < LIST.canonical ? AT.raw : AT.canonical)
    const [a = 0, b = 0, c = 0, d = 0] = this.#words.subarray(at, at + 4)
    const isStream = (this.flags(record) & IS_STREAM) !== 0
    return this.first(list, [a, b, c, d], this.session(record), isStream)
  }

  session(record: number): number {
    return this.#word(record, AT.session)
  }

  /** Its turn, from 1; 0 where none is known. */
  turn(record: number): number {
    return this.#word(record, AT.turn)
  }

  flags(record: number): number {
    return flagsOf(this.#word(record, AT.flags))
  }

  /** The model that was asked; undefined when none is known. */
  model(record: number): string | undefined {
    return this.memory.models[this.#word(record, AT.model)]
  }

  /** All of a record's entry. */
  entry(record: number): IndexEntry {
    const word = (at: number): number => this.#word(record, at)
    const long = (at: number): number => readLong(this.#words, record * INDEX_WORDS + at)
    return {
      rawKey: [word(0), word(1), word(2), word(3)],
      canonicalKey: [word(4), word(5), word(6), word(7)],
      session: word(AT.session),
      turn: word(AT.turn),
      seq: long(AT.seq),
      segment: word(AT.segment),
      offset: long(AT.offset),
      file: word(AT_FILE),
      lineOffset: long(AT.lineOffset),
      lineBytes: word(AT.lineBytes),
      flags: flagsOf(word(AT.flags)),
      status: statusOf(word(AT.flags)),
      model: word(AT.model),
    }
  }

  #word(record: number, at: number): number {
    return this.#words[record * INDEX_WORDS + at] ?? 0
  }

  #isIn(record: number, list: KeyList, key: Key, session: number, isStream: boolean): boolean {
    const at = list < LIST.canonical ? AT.raw : AT.canonical
    for (let i = 0; i < 4; i++) if (this.#word(record, at + i) !== key[i]) return false
    if ((list & 1) === 1 && this.session(record) !== session) return false
    return list < LIST.canonical || ((this.flags(record) & IS_STREAM) !== 0) === isStream
  }
}
