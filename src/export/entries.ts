/**
 * Where a recording's records stand and what of each counts before it is read again: columns of
 * numbers, 45 bytes a record, so that an index of millions fits where their lines would not.
 */
import { hash64 } from '../hash.ts'
import type { Asked } from '../trajectory/retries.ts'
import { RetryLinks } from '../trajectory/retries.ts'

/** One record, as the index knows it. */
export interface Entry {
  /** Number of its session and run, by the order in which they were first read. */
  readonly session: number
  /** Number of its file, and where the line stands there. */
  readonly file: number
  readonly offset: number
  readonly length: number
  /** Infinity where the line has none. */
  readonly seq: number
  /** Epoch s. */
  readonly start: number
  readonly asked: Asked
  /** Asked for by the filters. */
  readonly isSelected: boolean
}

const SELECTED = 1
const FAILED = 2
const MARKED = 4
const CAN_RETRY = 8
const RETRIED = 16

/** No record. */
const NONE = 0xffff_ffff

/** The entries of a recording. */
export class Entries {
  #count = 0
  #session = new Uint32Array(1024)
  #file = new Uint32Array(1024)
  #offset = new Float64Array(1024)
  #length = new Uint32Array(1024)
  #seq = new Float64Array(1024)
  #start = new Float64Array(1024)
  #digest = new Int32Array(2048)
  #flags = new Uint8Array(1024)
  /** Number of the record that each asks again; made by {@link arrange}. */
  #retryOf = new Uint32Array(0)
  /** Entries by arrival, session after session, sessions by their first selected record. */
  #sorted = new Uint32Array(0)

  get count(): number {
    return this.#count
  }

  add(entry: Entry): void {
    const at = this.#count++
    if (at === this.#session.length) this.#grow()
    const { digest, failed, marked } = entry.asked
    this.#session[at] = entry.session
    this.#file[at] = entry.file
    this.#offset[at] = entry.offset
    this.#length[at] = entry.length
    this.#seq[at] = entry.seq
    this.#start[at] = entry.start
    const [low, high] = hash64(digest ?? '')
    this.#digest[2 * at] = low
    this.#digest[2 * at + 1] = high
    this.#flags[at] =
      (entry.isSelected ? SELECTED : 0) |
      (failed ? FAILED : 0) |
      (marked ? MARKED : 0) |
      (digest === undefined ? 0 : CAN_RETRY)
  }

  /** Sorts what was added, and links what asks again. */
  arrange(sessionCount: number): void {
    this.#link()
    const byArrival = Uint32Array.from({ length: this.#count }, (_, at) => at).sort((a, b) =>
      this.#compare(a, b),
    )
    const ranks = new Uint32Array(sessionCount).fill(NONE)
    let next = 0
    for (const at of byArrival) {
      const session = this.#session[at] ?? 0
      if (ranks[session] !== NONE || !this.isSelected(at)) continue
      ranks[session] = next++
    }
    const rank = (at: number): number => ranks[this.#session[at] ?? 0] ?? NONE
    this.#sorted = byArrival
      .filter((at) => rank(at) !== NONE)
      .sort((a, b) => rank(a) - rank(b) || this.#compare(a, b))
  }

  /** The selected entries of the sessions in turn; each list is in the order of arrival. */
  *bySession(): Generator<{ readonly session: number; readonly entries: Uint32Array }> {
    for (let from = 0; from < this.#sorted.length;) {
      const session = this.#session[this.#sorted[from] ?? 0] ?? 0
      let to = from
      while (to < this.#sorted.length && this.#session[this.#sorted[to] ?? 0] === session) to++
      const entries = this.#sorted.subarray(from, to).filter((at) => this.isSelected(at))
      yield { session, entries }
      from = to
    }
  }

  isSelected(at: number): boolean {
    return ((this.#flags[at] ?? 0) & SELECTED) !== 0
  }

  /** Whether a later record asks the same again, as this one's answer was lost. */
  isRetried(at: number): boolean {
    return ((this.#flags[at] ?? 0) & RETRIED) !== 0
  }

  /** The record that this one asks again. */
  retryOf(at: number): number | undefined {
    const before = this.#retryOf[at] ?? NONE
    return before === NONE ? undefined : before
  }

  place(at: number): Pick<Entry, 'file' | 'offset' | 'length'> {
    return {
      file: this.#file[at] ?? 0,
      offset: this.#offset[at] ?? 0,
      length: this.#length[at] ?? 0,
    }
  }

  /**
   * All records, chosen or not, in groups of sessions: `groups` has the group of each session's number,
   * -1 for none. Each list is by `seq`, each number once.
   */
  *grouped(groups: readonly number[]): Generator<{ group: number; entries: Uint32Array }> {
    const groupOf = (at: number): number => groups[this.#session[at] ?? 0] ?? -1
    const all = Uint32Array.from({ length: this.#count }, (_, at) => at)
      .filter((at) => groupOf(at) >= 0)
      .sort((a, b) => groupOf(a) - groupOf(b) || this.#compare(a, b))
    for (let from = 0; from < all.length;) {
      const group = groupOf(all[from] ?? 0)
      let to = from
      while (to < all.length && groupOf(all[to] ?? 0) === group) to++
      const entries = all.subarray(from, to)
      const isFirst = (at: number, i: number): boolean =>
        i === 0 || this.#seq[at] !== this.#seq[entries[i - 1] ?? 0]
      yield { group, entries: entries.filter(isFirst) }
      from = to
    }
  }

  /** Over all records, chosen or not: what was asked again stays so whatever is exported. */
  #link(): void {
    const sorted = Uint32Array.from({ length: this.#count }, (_, at) => at).sort(
      (a, b) => (this.#session[a] ?? 0) - (this.#session[b] ?? 0) || this.#compare(a, b),
    )
    this.#retryOf = new Uint32Array(this.#count).fill(NONE)
    let links = new RetryLinks<number>()
    let session = NONE
    for (const at of sorted) {
      if (this.#session[at] !== session) {
        session = this.#session[at] ?? 0
        links = new RetryLinks()
      }
      const before = links.follow(at, this.#askedBy(at))
      if (before === undefined) continue
      this.#retryOf[at] = before
      this.#flags[before] = (this.#flags[before] ?? 0) | RETRIED
    }
  }

  #askedBy(at: number): Asked {
    const flags = this.#flags[at] ?? 0
    const digest = `${this.#digest[2 * at]} ${this.#digest[2 * at + 1]}`
    return {
      digest: (flags & CAN_RETRY) === 0 ? undefined : digest,
      failed: (flags & FAILED) !== 0,
      marked: (flags & MARKED) !== 0,
    }
  }

  #compare(a: number, b: number): number {
    const [seqA = 0, seqB = 0] = [this.#seq[a], this.#seq[b]]
    if (seqA !== seqB) return seqA - seqB
    return (this.#start[a] ?? 0) - (this.#start[b] ?? 0) || a - b
  }

  #grow(): void {
    this.#session = doubled(this.#session, Uint32Array)
    this.#file = doubled(this.#file, Uint32Array)
    this.#offset = doubled(this.#offset, Float64Array)
    this.#length = doubled(this.#length, Uint32Array)
    this.#seq = doubled(this.#seq, Float64Array)
    this.#start = doubled(this.#start, Float64Array)
    this.#digest = doubled(this.#digest, Int32Array)
    this.#flags = doubled(this.#flags, Uint8Array)
  }
}

type Column = { set(from: never): void; readonly length: number }

function doubled<T extends Column>(column: T, make: new (length: number) => T): T {
  const larger = new make(column.length * 2)
  larger.set(column as never)
  return larger
}
