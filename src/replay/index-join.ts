/**
 * Joins packed records into an index: names of all parts into one numbering, records by `seq`, the
 * lists chained. All in typed arrays, so that a million records cost their bytes and no objects.
 */
import {
  AT_FILE,
  AT_NEXT,
  INDEX_WORDS,
  LIST,
  areListed,
  slotFor,
  listHash,
  tableSlots,
} from './index-table.ts'
import type { IndexMemory, KeyList } from './index-table.ts'
import {
  AT,
  HAS_NO_HEAD,
  IS_STREAM,
  IS_TURN_LINE,
  IS_UNUSABLE,
  Numbering,
  PACKED_WORDS,
  isNoKey,
  readLong,
  writeLong,
} from './packed.ts'
import type { PackedRecords } from './packed.ts'

/** Packed records of one of the source's files. */
export interface IndexPart extends PackedRecords {
  /** Number of the file. */
  readonly file: number
}

/** An index without its tables. */
export type JoinedEntries = Omit<IndexMemory, 'tables'>

/**
 * Makes the entries of parts, which stand in the order of their source. `onTape` has the names of
 * the segments that are there; a record whose segment is not is answered from its line.
 */
export function joinEntries(
  parts: readonly IndexPart[],
  onTape: ReadonlySet<string>,
): JoinedEntries {
  const count = parts.reduce((sum, { words }) => sum + words.length / PACKED_WORDS, 0)
  const sessions = new Numbering()
  const segments = new Numbering()
  const models = new Numbering()
  const numbered = parts.map(({ names }) => ({
    sessions: Int32Array.from(names.sessions, (name) => sessions.of(name)),
    segments: Int32Array.from(names.segments, (name) =>
      onTape.has(name) ? segments.of(name) : -1,
    ),
    models: Int32Array.from(names.models, (name) => models.of(name)),
  }))
  const seqs = seqsOf(parts, numbered, count)
  const ranks = ranksOf(seqs)
  const entries = new SharedArrayBuffer(Math.max(1, count) * INDEX_WORDS * 4)
  const words = new Int32Array(entries)
  let line = 0
  for (const [i, part] of parts.entries()) {
    const numbers = numbered[i] as (typeof numbered)[number]
    const packed = part.words
    for (let from = 0; from < packed.length; from += PACKED_WORDS, line++) {
      const at = (ranks === undefined ? line : (ranks[line] ?? 0)) * INDEX_WORDS
      for (let word = 0; word < PACKED_WORDS; word++) {
        words[at + word] = packed[from + word] as number
      }
      words[at + AT.session] = numbers.sessions[words[at + AT.session] ?? 0] ?? 0
      const model = words[at + AT.model] ?? -1
      words[at + AT.model] = model < 0 ? -1 : (numbers.models[model] ?? -1)
      writeLong(words, at + AT.seq, seqs[line] ?? 0)
      placeOnTape(words, at, numbers.segments)
      words[at + AT_FILE] = part.file
    }
  }
  const sessionFirst = chainSessions(words, count, sessions.names.length)
  return {
    count,
    entries,
    sessionFirst,
    sessions: sessions.names,
    segments: segments.names,
    models: models.names,
  }
}

/** A record on tape is unusable when it never had a head, another when its line has no answer. */
function placeOnTape(words: Int32Array, at: number, segments: Int32Array): void {
  const told = words[at + AT.segment] ?? -1
  const segment = told < 0 ? -1 : (segments[told] ?? -1)
  words[at + AT.segment] = segment
  if (segment < 0) return writeLong(words, at + AT.offset, 0)
  const flags = words[at + AT.flags] ?? 0
  const isUnusable = (flags & HAS_NO_HEAD) !== 0
  words[at + AT.flags] = isUnusable ? flags | IS_UNUSABLE : flags & ~IS_UNUSABLE
}

/**
 * The number of each line. Turn lines are written as turns end, so their turns count; a recorder
 * that was started again begins at 1. Other lines without a number stand in the order of the file.
 */
function seqsOf(
  parts: readonly PackedRecords[],
  numbered: readonly { readonly sessions: Int32Array }[],
  count: number,
): Float64Array {
  const seqs = new Float64Array(count)
  /** Turns of this part of a file of turn lines; a turn that comes again begins another part. */
  const turns = new Set<number>()
  let turnsFrom = 0
  let seqMax = 0
  let line = 0
  for (const [i, { words }] of parts.entries()) {
    for (let at = 0; at < words.length; at += PACKED_WORDS, line++) {
      const told = readLong(words, at + AT.seq)
      let seq = told < 0 ? seqMax + 1 : told
      const turn = words[at + AT.turn] ?? 0
      if (turn > 0 && ((words[at + AT.flags] ?? 0) & IS_TURN_LINE) !== 0) {
        const session = numbered[i]?.sessions[words[at + AT.session] ?? 0] ?? 0
        const key = turn * 2 ** 21 + (session % 2 ** 21)
        if (turns.has(key)) {
          turns.clear()
          turnsFrom = seqMax
        }
        turns.add(key)
        seq = turnsFrom + turn
      }
      seqMax = Math.max(seqMax, seq)
      seqs[line] = seq
    }
  }
  return seqs
}

const RADIX_BITS = 16
const RADIX = 2 ** RADIX_BITS

/** The place of each line by its number, those of the same number in file order; undefined when they are in order. */
function ranksOf(seqs: Float64Array): Uint32Array | undefined {
  let low = Infinity
  let high = -Infinity
  let isSorted = true
  for (const [i, seq] of seqs.entries()) {
    if (i > 0 && seq < (seqs[i - 1] ?? 0)) isSorted = false
    low = Math.min(low, seq)
    high = Math.max(high, seq)
  }
  if (isSorted) return undefined
  let order = Uint32Array.from(seqs, (_, i) => i)
  for (let divisor = 1; divisor <= high - low; divisor *= RADIX) {
    const digit = (line: number): number => Math.floor(((seqs[line] ?? 0) - low) / divisor) % RADIX
    const starts = new Uint32Array(RADIX + 1)
    for (const line of order) starts[digit(line) + 1] = (starts[digit(line) + 1] ?? 0) + 1
    for (let i = 1; i <= RADIX; i++) starts[i] = (starts[i] ?? 0) + (starts[i - 1] ?? 0)
    const next = new Uint32Array(order.length)
    for (const line of order) {
      const at = starts[digit(line)] ?? 0
      starts[digit(line)] = at + 1
      next[at] = line
    }
    order = next
  }
  const ranks = new Uint32Array(order.length)
  for (const [rank, line] of order.entries()) ranks[line] = rank
  return ranks
}

/** Slots of a table that fit a core's own cache, with what goes along: 128 KiB. */
const SLOTS_NEAR = 2 ** 14

/**
 * Chains the records of the lists of one kind, from the last to the first so that each becomes the
 * head, and gives their table. Several kinds may be chained at once, by several threads. Records
 * are taken by where in the table they belong, with all that is needed of them, so that memory is
 * gone through in its order.
 */
export function chain(entries: SharedArrayBuffer, count: number, list: KeyList): SharedArrayBuffer {
  const words = new Int32Array(entries)
  const slots = tableSlots(count)
  const memory = new SharedArrayBuffer(slots * 4)
  const table = new Int32Array(memory)
  /** The hash of each slot's list. */
  const hashes = new Int32Array(slots)
  const wanting = inReach(wantingOf(words, count, list), slots)
  for (let at = 0; at < wanting.length; at += WANTING_WORDS) {
    const record = wanting[at] as number
    const hash = wanting[at + 1] as number
    let slot = slotFor(hash, slots)
    for (; table[slot] !== 0; slot = slot + 1 === slots ? 0 : slot + 1) {
      if (hashes[slot] !== hash) continue
      if (areListed(words, list, (table[slot] as number) - 1, record)) break
    }
    const next = table[slot] as number
    // Most lists have one record: its entry, far off in memory, need not be touched.
    if (next !== 0) words[record * INDEX_WORDS + AT_NEXT + list] = next
    table[slot] = record + 1
    hashes[slot] = hash
  }
  return memory
}

/** A record that belongs into a table: its number, the hash of its list. */
const WANTING_WORDS = 2

/** The records that have such a key, in their order. */
function wantingOf(words: Int32Array, count: number, list: KeyList): Int32Array {
  const wanting = new Int32Array(count * WANTING_WORDS)
  const keyAt = list < LIST.canonical ? AT.raw : AT.canonical
  let to = 0
  for (let record = 0; record < count; record++) {
    const at = record * INDEX_WORDS
    const key0 = words[at + keyAt] as number
    if (key0 === 0 && isNoKey(words, at + keyAt)) continue
    const isStream = ((words[at + AT.flags] as number) & IS_STREAM) !== 0
    wanting[to] = record
    wanting[to + 1] = listHash(list, key0, words[at + AT.session] as number, isStream)
    to += WANTING_WORDS
  }
  return wanting.subarray(0, to)
}

/** The same, by pieces of the table, from the last to the first in each. */
function inReach(wanting: Int32Array, slots: number): Int32Array {
  const starts = new Uint32Array(Math.ceil(slots / SLOTS_NEAR) + 1)
  const pieceOf = (hash: number): number => Math.floor(slotFor(hash, slots) / SLOTS_NEAR)
  for (let at = 1; at < wanting.length; at += WANTING_WORDS) {
    const piece = pieceOf(wanting[at] as number) + 1
    starts[piece] = (starts[piece] as number) + WANTING_WORDS
  }
  for (let i = 1; i < starts.length; i++) {
    starts[i] = (starts[i] as number) + (starts[i - 1] as number)
  }
  const ordered = new Int32Array(wanting.length)
  for (let at = wanting.length - WANTING_WORDS; at >= 0; at -= WANTING_WORDS) {
    const hash = wanting[at + 1] as number
    const piece = pieceOf(hash)
    const to = starts[piece] as number
    starts[piece] = to + WANTING_WORDS
    ordered[to] = wanting[at] as number
    ordered[to + 1] = hash
  }
  return ordered
}

function chainSessions(words: Int32Array, count: number, sessions: number): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(Math.max(1, sessions) * 4)
  const first = new Int32Array(memory)
  for (let record = count - 1; record >= 0; record--) {
    const at = record * INDEX_WORDS
    const session = words[at + AT.session] ?? 0
    words[at + AT_NEXT + LIST.session] = first[session] ?? 0
    first[session] = record + 1
  }
  return memory
}
