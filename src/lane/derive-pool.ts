/**
 * The threads that make records for a lane. They make way for traffic, which takes what they do ten
 * times as long where cores are short; so while somebody waits for records, and has for a moment,
 * there are others that do not. A thread cannot be given back what it gave away.
 */
import { EventEmitter } from 'node:events'
import { Piscina } from 'piscina'
import { errorText } from '../errors.ts'
import { DERIVE_TIMEOUT_MS } from '../limits.ts'
import type { DeriveResult, DeriveTask } from '../trajectory/derive-task.ts'
import type { RecordRequests } from '../trajectory/derive.ts'
import { workerUrl } from '../workers.ts'
import type { LaneLog } from './context.ts'

/** Where derive workers find their tape and their appender. */
export interface DerivePoolOptions {
  readonly folder: string
  readonly appender: number
  readonly workers: number
  /** Whether requests go into the records; `full` unless given. */
  readonly requests?: RecordRequests
  readonly log: LaneLog
  /** After how long a task's worker is taken for hung; {@link DERIVE_TIMEOUT_MS} unless given. */
  readonly timeoutMs?: number
}

const IDLE_MS = 60_000
/** Threads that do not make way are gone soon after they are not needed. */
const HURRIED_IDLE_MS = 2_000

/** Where such threads cannot be started, it is not tried again for so long. */
const HURRIED_REST_MS = 10_000

type Pool = Piscina<DeriveTask, DeriveResult>

/** As many threads as a queue has workers, and as many again while it is in a hurry. */
export class DerivePool {
  readonly #options: DerivePoolOptions
  /** Undefined once its threads could not be started, until it is needed again. */
  #steady: Pool | undefined
  #hurried: Pool | undefined
  /** Until when all is left to those that make way. */
  #restsUntilMs = 0
  #isClosed = false

  constructor(options: DerivePoolOptions) {
    this.#options = options
    this.#steady = this.#steadyPool()
  }

  /**
   * Runs a task; `isHurried`: in a thread that makes way for nobody.
   * Refused where no thread can be started now.
   * @throws what the task does, or when it takes too long: then its thread is ended before.
   */
  async run(task: DeriveTask, isHurried: boolean): Promise<DeriveResult> {
    const hurried = isHurried ? this.#hurriedPool() : undefined
    if (hurried !== undefined) {
      try {
        return await this.#runIn(hurried, task)
      } catch (error) {
        // Else its threads could not be started.
        if (this.#hurried === hurried || this.#isClosed) throw error
      }
    }
    if (this.#isClosed) throw new Error('the pool is closed')
    const steady = (this.#steady ??= this.#steadyPool())
    try {
      return await this.#runIn(steady, task)
    } catch (error) {
      if (this.#steady === steady || this.#isClosed) throw error
      return {
        derived: 0,
        unreadable: [],
        refused: `no thread can be started: ${errorText(error)}`,
      }
    }
  }

  async #runIn(pool: Pool, task: DeriveTask): Promise<DeriveResult> {
    // A timer of its own: those of `AbortSignal.timeout` stay, with their tasks, until they are due.
    const signal = new EventEmitter()
    const timeoutMs = this.#options.timeoutMs ?? DERIVE_TIMEOUT_MS
    const timer = setTimeout(() => signal.emit('abort'), timeoutMs)
    try {
      return await pool.run(task, { signal })
    } finally {
      clearTimeout(timer)
    }
  }

  /** Ends the threads; what they are at is abandoned. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([this.#steady?.destroy(), this.#hurried?.destroy()])
  }

  /** What waits for a thread that could not be started would wait until it is taken for hung. */
  #steadyPool(): Pool {
    const pool = this.#makePool(false)
    pool.on('error', (error) => {
      this.#told(error)
      if (this.#steady === pool) this.#steady = undefined
      void pool.destroy()
    })
    return pool
  }

  /** Undefined where there is none, and none can be started now. */
  #hurriedPool(): Pool | undefined {
    if (this.#hurried !== undefined) return this.#hurried
    if (this.#isClosed || performance.now() < this.#restsUntilMs) return undefined
    const pool = this.#makePool(true)
    pool.on('error', (error) => {
      this.#told(error)
      this.#restsUntilMs = performance.now() + HURRIED_REST_MS
      if (this.#hurried === pool) this.#hurried = undefined
      void pool.destroy()
    })
    return (this.#hurried = pool)
  }

  #told(error: unknown): void {
    this.#options.log.warn({ err: errorText(error) }, 'a derive worker could not be started')
  }

  #makePool(isHurried: boolean): Pool {
    const { folder, appender, workers, requests = 'full' } = this.#options
    return new Piscina({
      filename: workerUrl('derive').href,
      minThreads: isHurried ? 0 : workers,
      maxThreads: workers,
      maxQueue: workers * 2,
      idleTimeout: isHurried ? HURRIED_IDLE_MS : IDLE_MS,
      recordTiming: false,
      workerData: { folder, appender, requests, makesWay: !isHurried },
    })
  }
}
