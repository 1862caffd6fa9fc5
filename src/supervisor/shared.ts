/**
 * What all lanes of a process share: one sequence number, the turns of every session, and each
 * lane's counters. Plain shared memory, so that a request costs no message.
 */
import { RolltapeError } from '../errors.ts'
import { hash64 } from '../hash.ts'
import { LANES_MAX, SESSIONS_MAX } from '../limits.ts'

/** Counters that a verdict is made of. */
export const VERDICT_COUNTERS = [
  'servedExact',
  'servedByRule',
  'missed',
  'exhausted',
  'aborted',
  'unusable',
  'modelMismatch',
  'live',
  'verifiedSame',
  'verifiedDifferent',
  'verifiedAlone',
] as const

/** What a lane counts. Each lane writes its own row; anybody may read. */
export const COUNTERS = [
  'beats',
  'inFlight',
  'exchanges',
  'refused',
  'tapeRefused',
  'untaped',
  'clientGone',
  'retries',
  'egress',
  'tapedBytes',
  'hintsDropped',
  ...VERDICT_COUNTERS,
  'loopDelayMs',
  'loopUtilization',
] as const

/** Name of a counter. */
export type CounterName = (typeof COUNTERS)[number]

/** One lane's counters. */
export class LaneCounters {
  readonly #row: Float64Array

  constructor(row: Float64Array) {
    this.#row = row
  }

  add(name: CounterName, by = 1): void {
    const at = COUNTERS.indexOf(name)
    this.#row[at] = (this.#row[at] ?? 0) + by
  }

  set(name: CounterName, value: number): void {
    this.#row[COUNTERS.indexOf(name)] = value
  }

  get(name: CounterName): number {
    return this.#row[COUNTERS.indexOf(name)] ?? 0
  }
}

/** Memory of what all lanes count in one recording: exchange numbers and turns. */
export interface SharedMemory {
  readonly sequence: SharedArrayBuffer
  readonly turns: SharedArrayBuffer
}

/** Where the counters end, and the flag begins that is set while somebody watches exchanges. */
const WATCHED_AT = LANES_MAX * COUNTERS.length * 8

/** Where the places of exchanges begin, see `ticket-table.ts`. */
export const TICKETS_AT = WATCHED_AT + 8
/** Words of them before the lanes' rows. */
export const TICKET_ROWS = 16
/** Words of a row: a cache line, so that lanes do not wait for each other's. */
export const TICKET_ROW_WORDS = 16

/** Memory of all lanes' counters, and what stands behind them. */
export function makeCounters(): SharedArrayBuffer {
  return new SharedArrayBuffer(TICKETS_AT + 4 * (TICKET_ROWS + LANES_MAX * TICKET_ROW_WORDS))
}

/** The flag that is set while somebody watches exchanges: lanes tell of them only then. */
export class WatchFlag {
  readonly #flag: Int32Array

  /** `counters` is the memory of all lanes' counters, behind which it stands. */
  constructor(counters: SharedArrayBuffer) {
    this.#flag = new Int32Array(counters, WATCHED_AT, 1)
  }

  get isSet(): boolean {
    return Atomics.load(this.#flag, 0) === 1
  }

  set(watched: boolean): void {
    Atomics.store(this.#flag, 0, watched ? 1 : 0)
  }
}

/** One lane's counters in it. */
export function countersOf(memory: SharedArrayBuffer, lane: number): LaneCounters {
  const at = lane * COUNTERS.length * 8
  return new LaneCounters(new Float64Array(memory, at, COUNTERS.length))
}

/** Bytes of one session's entry: its hash (two i32), and its turns with the mark of a frozen one. */
const ENTRY_WORDS = 3
/** A bit that no count of turns comes to. */
const FROZEN = 0x4000_0000
const TURNS = FROZEN - 1
/** Twice as many slots as sessions, so that probing stays short. */
const SLOTS = SESSIONS_MAX * 2

/** Makes the memory for a recording. */
export function makeSharedMemory(): SharedMemory {
  return {
    sequence: new SharedArrayBuffer(32),
    turns: new SharedArrayBuffer(SLOTS * ENTRY_WORDS * 4),
  }
}

/** A view of the shared memory, the same in every thread. */
export class SharedTables {
  readonly memory: SharedMemory
  readonly #sequence: BigInt64Array
  readonly #sessions: Int32Array
  readonly #frozen: Int32Array
  readonly #turns: Int32Array
  /** Bytes free on the disk, and how many there must be; the latter 0 while there are. */
  readonly #space: Float64Array

  constructor(memory: SharedMemory) {
    this.memory = memory
    this.#sequence = new BigInt64Array(memory.sequence, 0, 1)
    this.#sessions = new Int32Array(memory.sequence, 8, 1)
    this.#frozen = new Int32Array(memory.sequence, 12, 1)
    this.#turns = new Int32Array(memory.turns)
    this.#space = new Float64Array(memory.sequence, 16, 2)
  }

  /** Why nothing new is to be recorded: the disk has too little room; undefined while it has enough. */
  get lowSpace(): string | undefined {
    const [free = 0, least = 0] = this.#space
    if (least === 0) return undefined
    return `${free} bytes are free, and min_free_bytes is ${least}`
  }

  /** Says that the disk has too little room, or (0) enough again. */
  setLowSpace(freeBytes: number, leastBytes: number): void {
    this.#space[0] = freeBytes
    this.#space[1] = leastBytes
  }

  /** The next exchange number. */
  nextSeq(): number {
    return Number(Atomics.add(this.#sequence, 0, 1n)) + 1
  }

  /** The last exchange number given out. */
  get seq(): number {
    return Number(Atomics.load(this.#sequence, 0))
  }

  /** Sets the number to go on from, at start. */
  set seq(value: number) {
    Atomics.store(this.#sequence, 0, BigInt(value))
  }

  /** Sessions with a turn count. */
  get sessions(): number {
    return Atomics.load(this.#sessions, 0)
  }

  /**
   * Counts one more turn of a session and returns its number, from 1.
   * @throws RolltapeError `over_capacity` when {@link SESSIONS_MAX} sessions are known already.
   */
  nextTurn(session: string): number {
    return (Atomics.add(this.#turns, this.#slot(session) + 2, 1) & TURNS) + 1
  }

  /** True when a turn of this session was counted. */
  hasSession(session: string): boolean {
    return this.turnsOf(session) > 0
  }

  /** How many turns of a session were counted. */
  turnsOf(session: string): number {
    return this.#wordOf(session) & TURNS
  }

  /** True once a session takes no more calls. While none is frozen this costs one load. */
  isFrozen(session: string): boolean {
    return Atomics.load(this.#frozen, 0) > 0 && (this.#wordOf(session) & FROZEN) !== 0
  }

  /**
   * From now on a session takes no more calls, or takes them again.
   * @throws RolltapeError `over_capacity` as {@link nextTurn}.
   */
  setFrozen(session: string, frozen: boolean): void {
    const at = this.#slot(session) + 2
    const before = frozen
      ? Atomics.or(this.#turns, at, FROZEN)
      : Atomics.and(this.#turns, at, ~FROZEN)
    if (((before & FROZEN) !== 0) !== frozen) Atomics.add(this.#frozen, 0, frozen ? 1 : -1)
  }

  /** A session's turns and mark; 0 when nothing is known of it. */
  #wordOf(session: string): number {
    const [low, high] = hash64(session)
    for (let slot = (high >>> 0) % SLOTS; ; slot = (slot + 1) % SLOTS) {
      const at = slot * ENTRY_WORDS
      const held = Atomics.load(this.#turns, at)
      if (held === 0) return 0
      if (held === low && settle(this.#turns, at + 1) === high) {
        return Atomics.load(this.#turns, at + 2)
      }
    }
  }

  /** Raises a session's turns to at least `turn`; for recovery. */
  raiseTurn(session: string, turn: number): void {
    const at = this.#slot(session) + 2
    if (Atomics.load(this.#turns, at) < turn) Atomics.store(this.#turns, at, turn)
  }

  /** The turns of all sessions as pairs of hash and count; for {@link loadTurns}. */
  dumpTurns(): Buffer {
    const words: number[] = []
    for (let at = 0; at < this.#turns.length; at += ENTRY_WORDS) {
      const low = this.#turns[at] ?? 0
      if (low !== 0) words.push(low, this.#turns[at + 1] ?? 0, (this.#turns[at + 2] ?? 0) & TURNS)
    }
    return Buffer.from(Int32Array.from(words).buffer)
  }

  /** Takes what {@link dumpTurns} wrote. */
  loadTurns(dump: Buffer): void {
    for (let at = 0; at + 12 <= dump.length; at += 12) {
      const slot = this.#find(dump.readInt32LE(at), dump.readInt32LE(at + 4))
      this.#turns[slot + 2] = dump.readInt32LE(at + 8)
    }
  }

  #slot(session: string): number {
    const [low, high] = hash64(session)
    return this.#find(low, high)
  }

  /** Open addressing with linear probing; a slot is claimed by compare-and-swap of its hash. */
  #find(low: number, high: number): number {
    let slot = (high >>> 0) % SLOTS
    for (;;) {
      const at = slot * ENTRY_WORDS
      const held = Atomics.load(this.#turns, at)
      if (held === low && settle(this.#turns, at + 1) === high) return at
      if (held === 0 && this.#claim(at, low, high)) return at
      slot = (slot + 1) % SLOTS
    }
  }

  #claim(at: number, low: number, high: number): boolean {
    if (Atomics.load(this.#sessions, 0) >= SESSIONS_MAX) {
      throw new RolltapeError(
        'over_capacity',
        `${SESSIONS_MAX} sessions are known to this recording, which is the most: start another`,
      )
    }
    // Two lanes may race for the slot with different sessions: whoever loses probes on. With the
    // same session the loser must see the winner's second half, so it waits for it to be there.
    if (Atomics.compareExchange(this.#turns, at, 0, low) !== 0) {
      return Atomics.load(this.#turns, at) === low && settle(this.#turns, at + 1) === high
    }
    Atomics.store(this.#turns, at + 1, high)
    Atomics.add(this.#sessions, 0, 1)
    return true
  }
}

/** The second half of a hash another thread is just writing; never 0 once written. */
function settle(words: Int32Array, at: number): number {
  let value = Atomics.load(words, at)
  while (value === 0) value = Atomics.load(words, at)
  return value
}
