/**
 * A lane's hand-over to its derive workers: where finished exchanges end on the tape, 16 to a task.
 *
 * At most 1024 hints wait. Beyond that they are dropped, and once the queue has run dry the
 * segments are walked from the first dropped end on: the tape is the queue. A task that fails is
 * tried again exchange by exchange, so that one that breaks its worker does not take others along.
 */
import { Piscina } from 'piscina'
import { errorText } from '../errors.ts'
import { APPEND_RETRY_MS, DERIVE_BATCH_MAX, DERIVE_TIMEOUT_MS, HINTS_MAX } from '../limits.ts'
import type { TapePosition } from '../tape/exchange.ts'
import { parseSegmentName } from '../tape/format.ts'
import type { DeriveResult, DeriveTask } from '../trajectory/derive-task.ts'
import type { Verified } from '../replay/verdict.ts'
import { workerUrl } from '../workers.ts'
import type { LaneLog } from './context.ts'

/** How often lines that the file does not take are offered once more where this is the end. */
const LAST_TRIES = 2

/** How long a batch may wait for more exchanges to end. */
const BATCH_MS_MAX = 20

/** Ends that one walk looks for; below the bound on hints, which they become. */
const WALK_ENDS_MAX = HINTS_MAX / 4

/** Where a queue's workers find their tape and their appender. */
export interface DeriveQueueOptions {
  readonly folder: string
  readonly appender: number
  readonly workers: number
  readonly log: LaneLog
  /** Told the number of hints that were dropped. */
  readonly onDropped: (hints: number) => void
  /** Told how answers compared with recorded ones, if any did. */
  readonly onVerified?: (counts: Verified) => void
  /** After how long a task's worker is taken for hung; {@link DERIVE_TIMEOUT_MS} unless given. */
  readonly timeoutMs?: number
}

/** Derives what a lane (or recovery) hands it. */
export class DeriveQueue {
  /** Exchanges whose records are in the file. */
  derived = 0
  /** Exchanges whose records could not be made or written. */
  lost = 0
  #refusing = false
  #closed = false
  readonly #options: DeriveQueueOptions
  readonly #pool: Piscina<DeriveTask, DeriveResult>
  #hints: TapePosition[] = []
  #voids: number[] = []
  /** The earliest end that was dropped and that no walk has looked for yet. */
  #walkFrom: TapePosition | undefined
  #running = 0
  #timer: NodeJS.Timeout | undefined
  readonly #idle: (() => void)[] = []

  constructor(options: DeriveQueueOptions) {
    this.#options = options
    this.#pool = new Piscina({
      filename: workerUrl('derive').href,
      minThreads: options.workers,
      maxThreads: options.workers,
      maxQueue: options.workers * 2,
      idleTimeout: 60_000,
      recordTiming: false,
      workerData: { folder: options.folder, appender: options.appender },
    })
  }

  /** Exchanges that wait here. */
  get waiting(): number {
    return this.#hints.length + this.#voids.length
  }

  /** True when the next hint would be dropped. */
  get full(): boolean {
    return this.#hints.length >= HINTS_MAX
  }

  /** An exchange's last frame is on the tape. */
  hint(position: TapePosition): void {
    if (this.#hints.length >= HINTS_MAX) {
      this.#walkFrom = earlier(position, this.#walkFrom)
      this.#options.onDropped(1)
      return
    }
    this.#hints.push(position)
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
    this.#idle.push(resolve)
    this.#next(true)
    return promise
  }

  /** Ends the workers; what they are at is abandoned (call {@link drained} before). */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#pool.destroy()
  }

  /**
   * Starts what tasks there are workers for. A task costs its lane 25–30 µs however small it is, so
   * fewer exchanges than a batch wait a moment for more (`partial`: they have waited).
   */
  #next(partial: boolean): void {
    while (this.#running < this.#options.workers) {
      const task = this.#task(partial || this.#idle.length > 0)
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
  }

  #start(task: DeriveTask): void {
    this.#running++
    void this.#run(task).then(async (result) => {
      if (result?.walked !== undefined) this.#walked(result.walked)
      if (result?.refused !== undefined) await this.#refused(task, result.refused)
      this.#running--
      this.#next(false)
    })
  }

  /** The file takes no lines now: they wait on the tape, for the next start where this is the end. */
  async #refused(task: DeriveTask, reason: string): Promise<void> {
    const { log } = this.#options
    if (!this.#refusing) log.error({ reason }, 'records cannot be written; they wait on the tape')
    this.#refusing = true
    if (this.#idle.length === 0 && !this.#closed) {
      await new Promise((resolve) => setTimeout(resolve, APPEND_RETRY_MS).unref())
      this.#voids.push(...task.voids)
      for (const end of task.ends) this.hint(end)
      return
    }
    for (let tries = 0; tries < LAST_TRIES; tries++) {
      const result = await this.#attempt(task).catch(() => undefined)
      if (result !== undefined && result.refused === undefined) return this.#count(result)
    }
    this.lost += task.ends.length
    log.error({ reason, ...task }, 'records are not written; the next start makes them')
  }

  #task(partial: boolean): DeriveTask | undefined {
    if (this.#hints.length >= DERIVE_BATCH_MAX || (partial && this.waiting > 0)) {
      const ends = this.#hints.splice(0, DERIVE_BATCH_MAX)
      return { ends, voids: this.#voids.splice(0) }
    }
    const from = this.#walkFrom
    if (from === undefined || this.#running > 0) return undefined
    // What is dropped from now on may lie behind the end of this walk.
    this.#walkFrom = undefined
    return { ends: [], walk: { from, endsMax: WALK_ENDS_MAX }, voids: [] }
  }

  /** Ends that were found become hints; where there is no room, or there are more, walk again. */
  #walked({ ends, next }: NonNullable<DeriveResult['walked']>): void {
    const room = HINTS_MAX - this.#hints.length
    this.#hints.push(...ends.slice(0, room))
    const rest = ends[room] ?? (ends.length < WALK_ENDS_MAX ? undefined : next)
    if (rest !== undefined) this.#walkFrom = earlier(rest, this.#walkFrom)
  }

  async #run(task: DeriveTask): Promise<DeriveResult | undefined> {
    try {
      const result = await this.#attempt(task)
      this.#count(result)
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
        log.error({ ...end, err: errorText(again) }, 'no record could be made; the tape has all')
      }
    }
  }

  async #done(task: DeriveTask, result: DeriveResult): Promise<void> {
    this.#count(result)
    if (result.refused !== undefined) await this.#refused(task, result.refused)
  }

  #attempt(task: DeriveTask): Promise<DeriveResult> {
    const timeoutMs = this.#options.timeoutMs ?? DERIVE_TIMEOUT_MS
    return this.#pool.run(task, { signal: AbortSignal.timeout(timeoutMs) })
  }

  #count(result: DeriveResult): void {
    this.derived += result.derived
    this.lost += result.unreadable.length
    if (result.derived > 0) this.#refusing = false
    if (result.verified !== undefined) this.#options.onVerified?.(result.verified)
    for (const { position, reason } of result.unreadable) {
      this.#options.log.error({ ...position, reason }, 'an exchange cannot be read from the tape')
    }
  }
}

/** The one of two places in a lane's segments that comes first. */
function earlier(one: TapePosition, other: TapePosition | undefined): TapePosition {
  if (other === undefined) return one
  const [a, b] = [numberOf(one), numberOf(other)]
  return a < b || (a === b && one.offset < other.offset) ? one : other
}

function numberOf({ segment }: TapePosition): number {
  return parseSegmentName(segment)?.number ?? 0
}
