/**
 * One lane's timer wheel: all deadlines of all exchanges on one interval timer.
 *
 * An entry stands in the slot of its deadline. Moving a deadline later costs nothing: the entry
 * stays where it is and is called at its old time, so its owner looks again at what is due. The
 * timer stops at the first tick that leaves no entry: where they come and go one at a time, starting
 * and stopping it for each would cost more than all else that is done here.
 *
 * Between turns `#tick` is the tick of the last one. Its slot is looked at once more by the next
 * turn, for entries that were due after that turn but within the same tick.
 */

/** Something with a deadline. The link fields belong to the wheel. */
export interface Timed {
  /**
   * Called once the time given to {@link Wheel.set} has come, at most one tick late; earlier where
   * a deadline was moved later.
   */
  onDeadline(nowMs: number): void
  wheelSlot: number
  wheelNext: Timed | undefined
  wheelPrevious: Timed | undefined
  wheelDueMs: number
}

/** The wheel's own part of an entry. */
export abstract class WheelEntry implements Timed {
  wheelSlot = -1
  wheelNext: Timed | undefined = undefined
  wheelPrevious: Timed | undefined = undefined
  wheelDueMs = 0

  abstract onDeadline(nowMs: number): void
}

/** What a wheel needs of time: ms from any origin, and a repeating call. */
export interface Clock {
  now(): number
  setInterval(callback: () => void, ms: number): NodeJS.Timeout
  clearInterval(timer: NodeJS.Timeout | undefined): void
}

const SLOTS = 512

const REAL_CLOCK: Clock = {
  now: () => performance.now(),
  setInterval: (callback, ms) => setInterval(callback, ms),
  clearInterval: (timer) => clearInterval(timer),
}

/** Times are those of its clock, `performance.now()` unless told otherwise. */
export class Wheel {
  readonly #tickMs: number
  readonly #slots: (Timed | undefined)[] = Array.from({ length: SLOTS }, () => undefined)
  #count = 0
  #tick: number
  #timer: NodeJS.Timeout | undefined
  readonly #onTick: () => void
  readonly #clock: Clock

  /** `onTick` runs with every tick, after the deadlines. */
  constructor(tickMs: number, onTick: () => void, clock: Clock = REAL_CLOCK) {
    this.#tickMs = tickMs
    this.#onTick = onTick
    this.#clock = clock
    this.#tick = Math.floor(clock.now() / tickMs)
  }

  /** Entries that are set. */
  get size(): number {
    return this.#count
  }

  /** Sets or moves an entry's deadline. */
  set(entry: Timed, dueMs: number): void {
    if (entry.wheelSlot >= 0) {
      if (dueMs >= entry.wheelDueMs) return
      this.#unlink(entry)
    }
    this.#link(entry, dueMs)
  }

  /** Takes an entry out; nothing happens when it is not in. */
  clear(entry: Timed): void {
    if (entry.wheelSlot < 0) return
    this.#unlink(entry)
  }

  /** Stops the timer; entries stay. */
  stop(): void {
    this.#clock.clearInterval(this.#timer)
    this.#timer = undefined
  }

  #unlink(entry: Timed): void {
    if (entry.wheelPrevious) entry.wheelPrevious.wheelNext = entry.wheelNext
    else this.#slots[entry.wheelSlot] = entry.wheelNext
    if (entry.wheelNext) entry.wheelNext.wheelPrevious = entry.wheelPrevious
    entry.wheelSlot = -1
    entry.wheelNext = undefined
    entry.wheelPrevious = undefined
    this.#count--
  }

  #link(entry: Timed, dueMs: number): void {
    if (this.#timer === undefined) {
      this.#tick = Math.floor(this.#clock.now() / this.#tickMs)
      this.#timer = this.#clock.setInterval(() => this.#turn(), this.#tickMs)
    }
    const due = Math.max(Math.floor(dueMs / this.#tickMs), this.#tick)
    const slot = due % SLOTS
    const head = this.#slots[slot]
    entry.wheelSlot = slot
    entry.wheelDueMs = dueMs
    entry.wheelNext = head
    entry.wheelPrevious = undefined
    if (head) head.wheelPrevious = entry
    this.#slots[slot] = entry
    this.#count++
  }

  #turn(): void {
    const nowMs = this.#clock.now()
    const now = Math.floor(nowMs / this.#tickMs)
    const first = Math.max(this.#tick, now - SLOTS + 1)
    const due: Timed[] = []
    for (let tick = first; tick <= now; tick++) {
      for (let entry = this.#slots[tick % SLOTS]; entry; entry = entry.wheelNext) {
        if (entry.wheelDueMs <= nowMs) due.push(entry)
      }
    }
    this.#tick = now
    for (const entry of due) {
      // One that was called before it may have cleared or moved it.
      if (entry.wheelSlot < 0 || entry.wheelDueMs > nowMs) continue
      this.clear(entry)
      entry.onDeadline(nowMs)
    }
    this.#onTick()
    if (this.#count === 0) this.stop()
  }
}
