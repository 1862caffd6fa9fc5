/**
 * Who has taken which record: one state byte per record and run, moved by compare-and-swap, so that
 * lanes on any thread agree without a message. Beside it, which asking session each recorded one is
 * bound to, per run, and what was given back.
 *
 *   free ──claim──▶ claimed ──use──▶ used        release: claimed ──▶ returned, which is free too
 *
 * A cursor's position is the lowest record of its session that is not used: it is read off the
 * states, never kept.
 */
import { RolltapeError } from '../errors.ts'
import { hash64 } from '../hash.ts'
import { RUNS_MAX, SESSION_ID_BYTES_MAX } from '../limits.ts'
import { Hints } from './hints.ts'
import type { ReplayIndex } from './index-table.ts'
import { RELEASES_WORDS, Releases } from './releases.ts'

const FREE = 0
const USED = 1
/** Free again: who had claimed it has gone, and may come to ask anew. */
const RETURNED = 2
/** Claimed by lane 0; the next number is lane 1's, and so on: a lane that dies frees its own. */
const CLAIMED = 3

/** Words of a run's head: the two halves of its name's hash. */
const HEAD_WORDS = 2
/** Bytes of a run's name: its length, and the most that one has. */
const NAME_BYTES = 4 + SESSION_ID_BYTES_MAX

/** The memory of all claims on one index. Pages nobody touches cost nothing. */
export interface ClaimsMemory {
  readonly runs: SharedArrayBuffer
  readonly states: SharedArrayBuffer
  readonly bindings: SharedArrayBuffer
  /** By asking session, the recorded one it may be bound to, plus one (open addressing). */
  readonly asking: SharedArrayBuffer
  readonly releases: SharedArrayBuffer
  /** Names of the runs: their length in bytes, then the bytes. */
  readonly names: SharedArrayBuffer
}

/** Makes memory for the claims on `records` records of `sessions` sessions. */
export function makeClaimsMemory(records: number, sessions: number): ClaimsMemory {
  return {
    runs: new SharedArrayBuffer(RUNS_MAX * HEAD_WORDS * 4),
    states: new SharedArrayBuffer(Math.max(1, RUNS_MAX * records)),
    bindings: new SharedArrayBuffer(Math.max(1, RUNS_MAX * sessions) * HEAD_WORDS * 4),
    asking: new SharedArrayBuffer(RUNS_MAX * askingSlots(sessions) * 4),
    releases: new SharedArrayBuffer(RUNS_MAX * RELEASES_WORDS * 4),
    names: new SharedArrayBuffer(RUNS_MAX * NAME_BYTES),
  }
}

function askingSlots(sessions: number): number {
  return Math.max(4, sessions * 2)
}

/** Views of one run's part of the memory. */
interface RunViews {
  readonly states: Uint8Array
  readonly bindings: Int32Array
  readonly asking: Int32Array
  readonly releases: Int32Array
}

/** The claims of one run. */
export class RunClaims {
  /** Where to begin in lists; right after {@link catchUp}. */
  readonly hints = new Hints()
  readonly #states: Uint8Array
  readonly #bindings: Int32Array
  readonly #asking: Int32Array
  readonly #releases: Releases
  readonly #mine: number
  /** Recorded session by asking one, as this thread has learnt them. */
  readonly #bound = new Map<string, number>()
  /** All recorded sessions before this one are bound. */
  #unboundFrom = 0

  constructor({ states, bindings, asking, releases }: RunViews, lane: number) {
    this.#mine = CLAIMED + lane
    this.#states = states
    this.#bindings = bindings
    this.#asking = asking
    this.#releases = new Releases(releases)
  }

  /** Hears of what others have given back; to be called before hints are relied on. */
  catchUp(index: ReplayIndex): void {
    this.#releases.catchUp(
      (record) => this.hints.lower(index, record),
      () => this.#forget(),
    )
  }

  /** Takes a free record; false when somebody else has it. */
  claim(record: number): boolean {
    const met = Atomics.compareExchange(this.#states, record, FREE, this.#mine)
    return met === FREE || (met === RETURNED && this.claimReturned(record))
  }

  /** Takes a record that was given back; false when it was not, or somebody else has it. */
  claimReturned(record: number): boolean {
    return Atomics.compareExchange(this.#states, record, RETURNED, this.#mine) === RETURNED
  }

  /** Takes a record that somebody has claimed, whoever it is; false when it is free or used. */
  takeOver(record: number): boolean {
    let state = Atomics.load(this.#states, record)
    while (state >= CLAIMED) {
      const met = Atomics.compareExchange(this.#states, record, state, this.#mine)
      if (met === state) return true
      state = met
    }
    return false
  }

  /** The claimed record's last byte has been handed to the kernel. */
  use(record: number): void {
    Atomics.compareExchange(this.#states, record, this.#mine, USED)
  }

  /** Gives a record that this lane has claimed back. */
  release(record: number): void {
    const mine = this.#mine
    if (Atomics.compareExchange(this.#states, record, mine, RETURNED) !== mine) return
    this.#releases.tell(record)
  }

  isFree(record: number): boolean {
    const state = Atomics.load(this.#states, record)
    return state === FREE || state === RETURNED
  }

  isUsed(record: number): boolean {
    return Atomics.load(this.#states, record) === USED
  }

  /** Makes a record free or used, whoever has used it; one that is claimed stays so (false). */
  place(record: number, isUsed: boolean): boolean {
    let met = Atomics.load(this.#states, record)
    const to = isUsed ? USED : FREE
    while (met < CLAIMED && met !== to) {
      const now = Atomics.compareExchange(this.#states, record, met, to)
      if (now === met && met === USED) this.#releases.tell(record)
      met = now === met ? to : now
    }
    return met < CLAIMED
  }

  /** Asking sessions that this thread knows, with the recorded ones they are bound to. */
  get boundHere(): ReadonlyMap<string, number> {
    return this.#bound
  }

  /** The recorded session this asking one is bound to; -1 when it is bound to none. */
  bound(asking: string): number {
    const known = this.#bound.get(asking)
    if (known !== undefined) return known
    const session = this.#lookUp(hash64(asking))
    if (session >= 0) this.#bound.set(asking, session)
    return session
  }

  /** True when no asking session is bound to this recorded one. */
  isUnbound(session: number): boolean {
    return Atomics.load(this.#bindings, session * HEAD_WORDS) === 0
  }

  /** The lowest recorded session that nobody is bound to, or -1. */
  firstUnbound(): number {
    const sessions = this.#bindings.length / HEAD_WORDS
    while (this.#unboundFrom < sessions && !this.isUnbound(this.#unboundFrom)) this.#unboundFrom++
    return this.#unboundFrom < sessions ? this.#unboundFrom : -1
  }

  /** Binds an asking session to a recorded one; false when that one was bound meanwhile. */
  bind(session: number, asking: string): boolean {
    const hash = hash64(asking)
    const at = session * HEAD_WORDS
    if (Atomics.compareExchange(this.#bindings, at, 0, hash[0]) !== 0) return false
    Atomics.store(this.#bindings, at + 1, hash[1])
    const slots = this.#asking.length
    let slot = (hash[0] >>> 0) % slots
    for (let left = slots; left > 0; left--, slot = (slot + 1) % slots) {
      if (Atomics.compareExchange(this.#asking, slot, 0, session + 1) === 0) break
    }
    this.#bound.set(asking, session)
    return true
  }

  /** Makes all records free and all sessions unbound again. */
  reset(): void {
    this.#states.fill(FREE)
    this.#asking.fill(0)
    this.#bindings.fill(0)
    this.#releases.tellAll()
    this.#forget()
  }

  /** Makes all records free that this lane has claimed; those that were used stay so. */
  freeClaimed(): void {
    for (let record = 0; record < this.#states.length; record++) {
      Atomics.compareExchange(this.#states, record, this.#mine, RETURNED)
    }
    this.#releases.tellAll()
  }

  /** Sets the bytes of all records that were used. */
  markUsed(used: Uint8Array): void {
    for (const [record, state] of this.#states.entries()) if (state === USED) used[record] = 1
  }

  /** Each session that is bound stands behind its hash's slot, no empty one between. */
  #lookUp(hash: readonly [number, number]): number {
    const slots = this.#asking.length
    let slot = (hash[0] >>> 0) % slots
    for (let left = slots; left > 0; left--, slot = (slot + 1) % slots) {
      const session = Atomics.load(this.#asking, slot) - 1
      if (session < 0) return -1
      const at = session * HEAD_WORDS
      if (Atomics.load(this.#bindings, at) !== hash[0]) continue
      if (Atomics.load(this.#bindings, at + 1) === hash[1]) return session
    }
    return -1
  }

  #forget(): void {
    this.hints.drop()
    this.#bound.clear()
    this.#unboundFrom = 0
  }
}

/** The claims of all runs on one index. */
export class Claims {
  readonly #memory: ClaimsMemory
  readonly #records: number
  readonly #sessions: number
  readonly #runs: Int32Array
  readonly #lane: number
  readonly #known = new Map<string, RunClaims>()

  /** `lane` is the one that claims through this. */
  constructor(memory: ClaimsMemory, records: number, sessions: number, lane = 0) {
    this.#lane = lane
    this.#memory = memory
    this.#records = records
    this.#sessions = sessions
    this.#runs = new Int32Array(memory.runs)
  }

  /**
   * The claims of a run, made when it is new.
   * @throws RolltapeError `over_capacity` when {@link RUNS_MAX} runs are known.
   */
  run(name: string): RunClaims {
    const known = this.#known.get(name)
    if (known) return known
    const run = this.#at(this.#slot(name))
    this.#known.set(name, run)
    return run
  }

  /** The claims of a run that there is already; undefined when there is none of this name. */
  find(name: string): RunClaims | undefined {
    for (const [known, claims] of this.named()) if (known === name) return claims
    return undefined
  }

  /** The runs that this thread has met. */
  get known(): ReadonlyMap<string, RunClaims> {
    return this.#known
  }

  /** All runs there are, with their names. */
  *named(): Generator<[name: string, claims: RunClaims]> {
    for (let slot = 0; slot < RUNS_MAX && this.#runs[slot * HEAD_WORDS] !== 0; slot++) {
      yield [this.#nameAt(slot), this.#at(slot)]
    }
  }

  /** The claims of all runs there are. */
  *all(): Generator<RunClaims> {
    for (let slot = 0; slot < RUNS_MAX && this.#runs[slot * HEAD_WORDS] !== 0; slot++) {
      yield this.#at(slot)
    }
  }

  /** The name is written before the second half of its hash, for which everybody waits. */
  #writeName(slot: number, name: string): void {
    const bytes = Buffer.from(name).subarray(0, SESSION_ID_BYTES_MAX)
    const place = Buffer.from(this.#memory.names, slot * NAME_BYTES, NAME_BYTES)
    place.writeUInt32LE(bytes.length, 0)
    bytes.copy(place, 4)
  }

  #nameAt(slot: number): string {
    while (Atomics.load(this.#runs, slot * HEAD_WORDS + 1) === 0);
    const place = Buffer.from(this.#memory.names, slot * NAME_BYTES, NAME_BYTES)
    return place.toString('utf8', 4, 4 + place.readUInt32LE(0))
  }

  #at(slot: number): RunClaims {
    const { states, bindings, asking, releases } = this.#memory
    const sessions = this.#sessions
    const view = (memory: SharedArrayBuffer, words: number): Int32Array =>
      new Int32Array(memory, slot * words * 4, words)
    const views = {
      states: new Uint8Array(states, slot * this.#records, this.#records),
      bindings: view(bindings, sessions * HEAD_WORDS),
      asking: view(asking, askingSlots(sessions)),
      releases: view(releases, RELEASES_WORDS),
    }
    return new RunClaims(views, this.#lane)
  }

  #slot(name: string): number {
    const [low, high] = hash64(name)
    for (let slot = 0; slot < RUNS_MAX; slot++) {
      const at = slot * HEAD_WORDS
      if (Atomics.compareExchange(this.#runs, at, 0, low) === 0) {
        this.#writeName(slot, name)
        Atomics.store(this.#runs, at + 1, high)
        return slot
      }
      // Whoever claimed the slot writes the second half right after the first.
      let second = Atomics.load(this.#runs, at + 1)
      while (second === 0) second = Atomics.load(this.#runs, at + 1)
      if (Atomics.load(this.#runs, at) === low && second === high) return slot
    }
    throw new RolltapeError(
      'over_capacity',
      `${RUNS_MAX} runs of this recording are known, which is the most; start rolltape anew`,
    )
  }
}
