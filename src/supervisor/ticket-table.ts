/**
 * The places of a process: how many exchanges run at once, what they hold, and who waits, over all
 * lanes. Shared memory behind the lanes' counters; a place costs no message.
 *
 * Words: the sums over all lanes, then a row per lane. What a lane holds stands in its row too, so
 * that a lane that dies gives it back. A lane whose requests wait shows the number of its first one;
 * the lowest number goes first, so the line is one over all lanes. A lane that lets a place go wakes
 * the lane whose turn it is.
 */
import { LANES_MAX } from '../limits.ts'
import { TICKETS_AT, TICKET_ROWS, TICKET_ROW_WORDS } from './shared.ts'

/** How much may be in flight; 0 is no bound. */
export interface TicketBounds {
  readonly countMax: number
  readonly kibMax: number
}

const COUNT = 0
const KIB = 1
const WAITING = 2
const NUMBER = 3
const ROW = { count: 0, kib: 1, waiting: 2, first: 3, wake: 4 } as const

/** A view of the places, the same in every thread. */
export class TicketTable {
  readonly #words: Int32Array

  /** `counters` is the memory of all lanes' counters, behind which it stands. */
  constructor(counters: SharedArrayBuffer) {
    const words = TICKET_ROWS + LANES_MAX * TICKET_ROW_WORDS
    this.#words = new Int32Array(counters, TICKETS_AT, words)
  }

  /** Exchanges that have a place. */
  get inFlight(): number {
    return Atomics.load(this.#words, COUNT)
  }

  /** What they count for, in KiB. */
  get inFlightKib(): number {
    return Atomics.load(this.#words, KIB)
  }

  /** Requests that wait, over all lanes. */
  get waiting(): number {
    return Atomics.load(this.#words, WAITING)
  }

  /** Takes a place, if there is one. */
  take(lane: number, kib: number, { countMax, kibMax }: TicketBounds): boolean {
    const words = this.#words
    const at = rowOf(lane)
    if (!addUpTo(words, COUNT, 1, countMax)) return false
    // A thread is ended at calls and loops: between a sum and its row there is neither.
    words[at + ROW.count] = (words[at + ROW.count] ?? 0) + 1
    if (!addUpTo(words, KIB, kib, kibMax)) {
      Atomics.sub(words, COUNT, 1)
      words[at + ROW.count] = (words[at + ROW.count] ?? 0) - 1
      return false
    }
    words[at + ROW.kib] = (words[at + ROW.kib] ?? 0) + kib
    return true
  }

  /** What has a place holds more, if it may. */
  grow(lane: number, kib: number, kibMax: number): boolean {
    const words = this.#words
    const at = rowOf(lane) + ROW.kib
    if (!addUpTo(words, KIB, kib, kibMax)) return false
    words[at] = (words[at] ?? 0) + kib
    return true
  }

  /** Gives a place back. */
  give(lane: number, kib: number): void {
    const words = this.#words
    const at = rowOf(lane)
    Atomics.sub(words, COUNT, 1)
    words[at + ROW.count] = (words[at + ROW.count] ?? 0) - 1
    Atomics.sub(words, KIB, kib)
    words[at + ROW.kib] = (words[at + ROW.kib] ?? 0) - kib
  }

  /** A number in the line; never 0. */
  enqueue(lane: number): number {
    Atomics.add(this.#words, WAITING, 1)
    Atomics.add(this.#words, rowOf(lane) + ROW.waiting, 1)
    const number = (Atomics.add(this.#words, NUMBER, 1) + 1) | 0
    return number === 0 ? this.#another() : number
  }

  /** One waits no longer, whether it got a place or not. */
  dequeue(lane: number): void {
    Atomics.sub(this.#words, WAITING, 1)
    Atomics.sub(this.#words, rowOf(lane) + ROW.waiting, 1)
  }

  /** Shows the number of a lane's first in line; 0 when none waits there. */
  show(lane: number, number: number): void {
    Atomics.store(this.#words, rowOf(lane) + ROW.first, number)
  }

  /** The lane whose turn it is; -1 when none waits. */
  turn(): number {
    let lowest = 0
    let turn = -1
    for (let lane = 0; lane < LANES_MAX; lane++) {
      const number = Atomics.load(this.#words, rowOf(lane) + ROW.first)
      if (number === 0 || (turn >= 0 && ((number - lowest) | 0) >= 0)) continue
      lowest = number
      turn = lane
    }
    return turn
  }

  /** Tells a lane that it may be its turn. */
  wake(lane: number): void {
    const at = rowOf(lane) + ROW.wake
    Atomics.add(this.#words, at, 1)
    Atomics.notify(this.#words, at)
  }

  /** Resolves when the lane is woken. */
  async woken(lane: number): Promise<void> {
    const at = rowOf(lane) + ROW.wake
    await Atomics.waitAsync(this.#words, at, Atomics.load(this.#words, at)).value
  }

  /** Gives back what a lane held that has died. */
  free(lane: number): void {
    const words = this.#words
    const at = rowOf(lane)
    Atomics.store(words, at + ROW.first, 0)
    Atomics.sub(words, WAITING, Atomics.exchange(words, at + ROW.waiting, 0))
    Atomics.sub(words, COUNT, Atomics.exchange(words, at + ROW.count, 0))
    Atomics.sub(words, KIB, Atomics.exchange(words, at + ROW.kib, 0))
    const turn = this.turn()
    if (turn >= 0) this.wake(turn)
  }

  #another(): number {
    return Atomics.add(this.#words, NUMBER, 1) + 1
  }
}

function rowOf(lane: number): number {
  return TICKET_ROWS + lane * TICKET_ROW_WORDS
}

/** Adds, unless that is more than the bound. */
function addUpTo(words: Int32Array, at: number, more: number, max: number): boolean {
  if (max === 0) {
    Atomics.add(words, at, more)
    return true
  }
  for (;;) {
    const now = Atomics.load(words, at)
    if (now + more > max) return false
    if (Atomics.compareExchange(words, at, now, now + more) === now) return true
  }
}
