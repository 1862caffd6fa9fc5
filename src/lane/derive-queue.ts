/**
 * A lane's hand-over to its derive workers: where finished exchanges end on the tape, many to a task.
 *
 * At most 1024 hints wait. Beyond that they are dropped, and once the queue has run dry the
 * segments are walked from the first dropped end on: the tape is the queue. A task that fails is
 * tried again exchange by exchange, so that one that breaks its worker does not take others along.
 */
import { RolltapeError, errorText } from '../errors.ts'
import { APPEND_RETRY_MS, DERIVE_BATCH_ENOUGH, HINTS_MAX } from '../limits.ts'
import type { TapePosition } from '../tape/exchange.ts'
import type { DeriveResult, DeriveTask } from '../trajectory/derive-task.ts'
import type { Verified } from '../replay/verdict.ts'
import { DerivePool } from './derive-pool.ts'
import type { DerivePoolOptions } from './derive-pool.ts'
import { batchOf, earlier, numberOf, order } from './ends.ts'
import { HeldEnds } from './held-ends.ts'
import type { HeldEnd } from './held-ends.ts'

/** How often lines that the file does not take are offered once more where this is the end. */
const LAST_TRIES = 2

/** How long a batch may wait for more exchanges to end. */
const BATCH_MS_MAX = 20

/** How long somebody waits for records before they are made in a hurry. */
const HURRY_MS = 250

/** Ends that one walk looks for; below the bound on hints, which they become. */
const WALK_ENDS_MAX = HINTS_MAX / 4

/** What a queue is made with. */
export interface DeriveQueueOptions extends DerivePoolOptions {
  /** Told the number of hints that were dropped. */
  readonly onDropped: (hints: number) => void
  /** Told how answers compared with recorded ones, if any did. */
  readonly onVerified?: (counts: Verified) => void
}

/** Somebody who waits for the records of what had ended when they asked. */
interface Barrier {
  /** `performance.now()` when they asked. */
  readonly sinceMs: number
  readonly left: Set<TapePosition>
  /** Dropped ends up to here are waited for too; undefined when none were dropped. */
  readonly walkTo: TapePosition | undefined
  resolve(): void
  reject(error: RolltapeError): void
}

/** Derives what a lane (or recovery) hands it. */
export class DeriveQueue {
  /** Exchanges whose records are in the file. */
  derived = 0
  /** Exchanges whose records could not be made or written. */
  lost = 0
  /** Why lines are not written now; null while they are. */
  trouble: string | null = null
  #closed = false
  readonly #options: DeriveQueueOptions
  readonly #pool: DerivePool
  #hints: TapePosition[] = []
  #voids: number[] = []
  /** The earliest end that was dropped and that no walk has looked for yet. */
  #walkFrom: TapePosition | undefined
  /** Bytes the tape had when that end came. */
  #walkBytes = 0
  #running = 0
  #timer: NodeJS.Timeout | undefined
  readonly #idle: (() => void)[] = []
  /** When the first of those asked. */
  #idleSinceMs = 0
  /** Ends without a record yet, the dropped ones apart; with the tape's bytes when they came. */
  readonly #pending = new Map<TapePosition, number>()
  readonly #barriers = new Set<Barrier>()
  #lastEnd: TapePosition | undefined
  readonly #held = new HeldEnds()
  /** A walk is under way, up to where it began looking. */
  #walking: TapePosition | undefined

  constructor(options: DeriveQueueOptions) {
    this.#options = options
    this.#pool = new DerivePool(options)
  }

  /** Exchanges that wait here. */
  get waiting(): number {
    return this.#hints.length + this.#voids.length
  }

  /** True while somebody waits for records who has for a moment. */
  get isHurried(): boolean {
    const [barrier] = this.#barriers
    const idleMs = this.#idle.length > 0 ? this.#idleSinceMs : Infinity
    const sinceMs = Math.min(barrier?.sinceMs ?? Infinity, idleMs)
    return performance.now() - sinceMs >= HURRY_MS
  }

  /** True when the next hint would be dropped. */
  get full(): boolean {
    return this.#hints.length >= HINTS_MAX
  }

  /** Exchanges that have ended and have no record yet; dropped ones count only once they are found. */
  get lagExchanges(): number {
    return this.#pending.size
  }

  /** Bytes of tape since the oldest of those; `tapeBytes` is what the tape has now. */
  lagBytes(tapeBytes: number): number {
    let oldest = this.#walkFrom === undefined ? tapeBytes : this.#walkBytes
    for (const bytes of this.#pending.values()) oldest = Math.min(oldest, bytes)
    return tapeBytes - oldest
  }

  /** An exchange's last frame is on the tape, which had `tapeBytes` then. */
  hint(position: TapePosition, tapeBytes = 0): void {
    if (this.#held.holds(numberOf(position))) return this.#hold({ position, tapeBytes })
    this.#lastEnd = position
    if (this.#hints.length >= HINTS_MAX) {
      this.#pending.delete(position)
      this.#walkLater({ position, tapeBytes })
      this.#options.onDropped(1)
      return
    }
    this.#hints.push(position)
    if (!this.#pending.has(position)) this.#pending.set(position, tapeBytes)
    this.#next(false)
  }

  /** Ends in segments after this one belong to the next part: they wait. */
  hold(segment: number): void {
    this.#held.hold(segment)
  }

  /** The next part may be written: what has waited goes on. */
  release(): void {
    const { ends, dropped } = this.#held.release()
    for (const { position, tapeBytes } of ends) this.hint(position, tapeBytes)
    if (dropped !== undefined) this.#walkLater(dropped)
    this.#next(false)
  }

  /** An exchange of this number will never be on the tape. */
  void(seq: number): void {
    this.#voids.push(seq)
    this.#next(false)
  }

  /** Resolves once everything handed over before is derived. */
  drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    if (this.#idle.push(resolve) === 1) this.#idleSinceMs = performance.now()
    this.#next(true)
    return promise
  }

  /**
   * Resolves once everything handed over before has its record, however much comes after.
   * @throws RolltapeError `tape_unavailable` when the file does not take lines.
   */
  settled(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const walks = this.#walkFrom !== undefined || this.#walking !== undefined
    const walkTo = walks ? this.#lastEnd : undefined
    const sinceMs = performance.now()
    const left = new Set(this.#pending.keys())
    this.#barriers.add({ sinceMs, left, walkTo, resolve, reject })
    this.#next(true)
    return promise
  }

  /** Ends the workers; what they are at is abandoned (call {@link drained} before). */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#break('rolltape stops')
    await this.#pool.close()
  }

  /**
   * Starts what tasks there are workers for. A task costs its lane 25–30 µs however small it is, so
   * fewer exchanges than a batch wait a moment for more (`partial`: they have waited).
   */
  #next(partial: boolean): void {
    while (this.#running < this.#options.workers) {
      const task = this.#task(partial || this.#idle.length > 0 || this.#barriers.size > 0)
      if (task === undefined) break
      this.#start(task)
    }
    if (this.waiting > 0 && this.#running < this.#options.workers) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined
        this.#next(true)
      }, BATCH_MS_MAX)
    }
    if (this.#running === 0 && this.waiting === 0 && this.#walkFrom === undefined) {
      for (const resolve of this.#idle.splice(0)) resolve()
    }
    for (const barrier of this.#barriers) {
      if (barrier.left.size > 0 || this.#isWalkedBefore(barrier.walkTo)) continue
      this.#barriers.delete(barrier)
      barrier.resolve()
    }
  }

  /** Ends up to here are still looked for on the tape. */
  #isWalkedBefore(position: TapePosition | undefined): boolean {
    if (position === undefined) return false
    return [this.#walkFrom, this.#walking].some(
      (from) => from !== undefined && order(from, position) <= 0,
    )
  }

  /** These have their record, or will never have one. */
  #settle(ends: readonly TapePosition[]): void {
    for (const end of ends) {
      this.#pending.delete(end)
      for (const { left } of this.#barriers) left.delete(end)
    }
  }

  /** Nobody waits for what may take until the disk has room again. */
  #break(reason: string): void {
    const error = new RolltapeError('tape_unavailable', `records cannot be written: ${reason}`, {
      hint: 'they wait on the tape, and are made once the disk takes them',
    })
    for (const { reject } of this.#barriers) reject(error)
    this.#barriers.clear()
  }

  #start(task: DeriveTask): void {
    this.#running++
    void this.#run(task).then(async (result) => {
      if (task.walk !== undefined && result?.refused === undefined) this.#walked(result?.walked)
      if (result?.refused !== undefined) await this.#refused(task, result.refused)
      this.#running--
      this.#next(false)
    })
  }

  /** The file takes no lines now: they wait on the tape, for the next start where this is the end. */
  async #refused(task: DeriveTask, reason: string): Promise<void> {
    const { log } = this.#options
    if (this.trouble === null)
      log.error({ reason }, 'records cannot be written; they wait on the tape')
    this.trouble = reason
    this.#break(reason)
    if (this.#idle.length === 0 && !this.#closed) {
      await new Promise((resolve) => setTimeout(resolve, APPEND_RETRY_MS).unref())
      this.#voids.push(...task.voids)
      for (const end of task.ends) this.hint(end)
      if (task.walk === undefined) return
      this.#walking = undefined
      this.#walkFrom = earlier(task.walk.from, this.#walkFrom)
      return
    }
    for (let tries = 0; tries < LAST_TRIES; tries++) {
      const result = await this.#attempt(task).catch(() => undefined)
      if (result === undefined || result.refused !== undefined) continue
      if (task.walk !== undefined) this.#walked(result.walked)
      return this.#count(task, result)
    }
    if (task.walk !== undefined) {
      this.lost++
      this.#walked(undefined)
    }
    this.lost += task.ends.length
    this.#settle(task.ends)
    log.error({ reason, ...task }, 'records are not written; the next start makes them')
  }

  #task(partial: boolean): DeriveTask | undefined {
    if (this.#hints.length >= DERIVE_BATCH_ENOUGH || (partial && this.waiting > 0)) {
      const ends = this.#hints.splice(0, batchOf(this.#hints))
      return { ends, voids: this.#voids.splice(0) }
    }
    const from = this.#walkFrom
    if (from === undefined || this.#running > 0) return undefined
    // What is dropped from now on may lie behind the end of this walk.
    this.#walkFrom = undefined
    this.#walking = from
    return { ends: [], walk: { from, endsMax: WALK_ENDS_MAX }, voids: [] }
  }

  /** Ends that were found become hints; where there is no room, or there are more, walk again. */
  #walked(walked: DeriveResult['walked']): void {
    this.#walking = undefined
    if (walked === undefined) return this.#break('the tape cannot be walked')
    this.trouble = null
    const { ends, next } = walked
    const room = HINTS_MAX - this.#hints.length
    for (const end of ends.slice(0, room)) {
      if (this.#held.holds(numberOf(end))) {
        this.#hold({ position: end, tapeBytes: this.#walkBytes })
        continue
      }
      this.#hints.push(end)
      this.#pending.set(end, this.#walkBytes)
      for (const { left, walkTo } of this.#barriers) {
        if (walkTo !== undefined && order(end, walkTo) <= 0) left.add(end)
      }
    }
    const rest = ends[room] ?? (ends.length < WALK_ENDS_MAX ? undefined : next)
    if (rest === undefined) return
    const place = { position: rest, tapeBytes: this.#walkBytes }
    if (this.#held.holds(numberOf(rest))) this.#held.walkFrom(place)
    else this.#walkFrom = earlier(rest, this.#walkFrom)
  }

  #hold(end: HeldEnd): void {
    if (!this.#held.add(end)) this.#options.onDropped(1)
  }

  #walkLater({ position, tapeBytes }: HeldEnd): void {
    if (this.#walkFrom === undefined) this.#walkBytes = tapeBytes
    this.#walkFrom = earlier(position, this.#walkFrom)
  }

  async #run(task: DeriveTask): Promise<DeriveResult | undefined> {
    try {
      const result = await this.#attempt(task)
      this.#count(task, result)
      return result
    } catch (error) {
      const { log } = this.#options
      log.warn({ err: errorText(error), exchanges: task.ends.length }, 'derive failed, once more')
    }
    for (const end of task.ends) await this.#alone(end)
    for (const seq of task.voids) this.#voids.push(seq)
    return task.walk && this.#walkAgain(task)
  }

  async #walkAgain(task: DeriveTask): Promise<DeriveResult | undefined> {
    try {
      return await this.#attempt(task)
    } catch (error) {
      const { log } = this.#options
      const fields = { ...task.walk?.from, err: errorText(error) }
      log.error(fields, 'the tape cannot be walked; what ended there is derived at the next start')
      return undefined
    }
  }

  /** One exchange by itself; one that breaks its worker again gets the barest record there is. */
  async #alone(end: TapePosition): Promise<void> {
    const { log } = this.#options
    const alone = { ends: [end], voids: [] }
    try {
      return await this.#done(alone, await this.#attempt(alone))
    } catch (error) {
      const reason = errorText(error)
      log.error(
        { ...end, err: reason },
        'derive failed twice; the record says so, the tape has all',
      )
      const bare = { ...alone, bare: reason }
      try {
        return await this.#done(bare, await this.#attempt(bare))
      } catch (again) {
        this.lost++
        this.#settle([end])
        log.error({ ...end, err: errorText(again) }, 'no record could be made; the tape has all')
      }
    }
  }

  async #done(task: DeriveTask, result: DeriveResult): Promise<void> {
    this.#count(task, result)
    if (result.refused !== undefined) await this.#refused(task, result.refused)
  }

  #attempt(task: DeriveTask): Promise<DeriveResult> {
    return this.#pool.run(task, this.isHurried)
  }

  #count(task: DeriveTask, result: DeriveResult): void {
    this.derived += result.derived
    this.lost += result.unreadable.length
    if (result.derived > 0) this.trouble = null
    if (result.verified !== undefined) this.#options.onVerified?.(result.verified)
    if (result.refused === undefined) this.#settle(task.ends)
    for (const { position, reason } of result.unreadable) {
      this.#options.log.error({ ...position, reason }, 'an exchange cannot be read from the tape')
    }
  }
}
