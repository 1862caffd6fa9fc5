/**
 * One lane's place: the thread that serves there now, and whoever comes after it. A thread that
 * dies or falls silent is replaced on the same port; whoever asks meanwhile waits for its successor.
 */
import { setTimeout } from 'node:timers/promises'
import { RolltapeError, errorText } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import type { DrainReport } from '../lane/lane.ts'
import { LANE_REPLACE_PAUSE_MS, LANE_SILENT_MS_MAX } from '../limits.ts'
import type { LaneQuestion, LaneQuestions } from './lane-questions.ts'
import { LaneThread } from './lane-thread.ts'
import type { LaneWorkerData } from './lane-thread.ts'
import type { WatchBatch } from './watched.ts'

/** So many short lives of threads in a row are borne in any case. */
const SHORT_LIVES_MAX = 3
/** How often a question is put to a successor. */
const ASKED_AGAIN_MAX = 3

/** What a seat asks of those that set it up. */
export interface SeatOptions {
  readonly lane: number
  readonly log: LaneLog
  /** The thread's entry file; {@link LaneThread}'s own unless given. */
  readonly entry: URL | undefined
  /** How long a thread is tried to be replaced. */
  readonly replaceMsMax: number
  /** What a thread that starts now is started with. */
  readonly dataFor: (port: number) => LaneWorkerData
  /** How often the thread has beaten. */
  readonly beats: () => number
  /** The thread has ended too early. */
  readonly onDeath: () => void
  /** Takes what watchers are told. */
  readonly onWatched: (batch: WatchBatch) => void
  /** The first successor is about to start. */
  readonly onReplace: () => void
  /** No successor could be started for `replaceMsMax`; true when it is to be tried on. */
  readonly onGivenUp: (error: unknown) => boolean
}

/** A lane's place. */
export class LaneSeat {
  readonly #options: SeatOptions
  readonly #stopping = new AbortController()
  #thread: LaneThread | undefined
  #replacing: Promise<void> | undefined
  #port = 0
  #beats = 0
  #beatMs = 0
  #startedMs = 0
  /** Threads in a row that died soon after their start. */
  #shortLives = 0

  constructor(options: SeatOptions) {
    this.#options = options
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#port
  }

  /** True while a thread serves. */
  get serves(): boolean {
    return this.#thread !== undefined
  }

  /** Starts the first thread; resolves when it serves. */
  async start(port: number): Promise<void> {
    const { dataFor, log, entry, onWatched } = this.#options
    const died = (reason: string): void => this.#died(reason)
    const thread = await LaneThread.start(dataFor(port), log, died, onWatched, entry)
    this.#thread = thread
    this.#port = thread.port
    this.#beatMs = performance.now()
    this.#startedMs = this.#beatMs
  }

  /** To be called every second: a thread that has not beaten for long is taken for dead. */
  look(): void {
    const beats = this.#options.beats()
    const nowMs = performance.now()
    if (this.#thread === undefined || beats !== this.#beats) {
      this.#beats = beats
      this.#beatMs = nowMs
    } else if (nowMs - this.#beatMs > LANE_SILENT_MS_MAX) {
      this.#died(`it was silent for ${LANE_SILENT_MS_MAX} ms`, this.#thread)
    }
  }

  /**
   * Asks the lane; where its thread dies over it, its successor is asked.
   * @throws RolltapeError `lane_lost` when none answers, or what the lane says.
   */
  async ask<Q extends LaneQuestion>(
    question: Q,
    asked: LaneQuestions[Q]['asked'],
  ): Promise<LaneQuestions[Q]['answered']> {
    let lost: unknown
    for (let tries = 0; tries < ASKED_AGAIN_MAX; tries++) {
      await this.#replacing
      const thread = this.#thread
      if (thread === undefined) break
      try {
        return await thread.ask(question, asked)
      } catch (error) {
        if (!(error instanceof RolltapeError) || error.code !== 'lane_lost') throw error
        lost = error
        // Its end is told a moment after it has come.
        if (this.#thread === thread) await setTimeout(LANE_REPLACE_PAUSE_MS)
      }
    }
    throw lost ?? new RolltapeError('lane_lost', `lane ${this.#options.lane} does not serve`)
  }

  /** Drains the thread and waits for its end; undefined when there is none. */
  async drain(timeoutMs: number): Promise<DrainReport | undefined> {
    this.#stopping.abort()
    await this.#replacing
    return this.#thread?.drain(timeoutMs)
  }

  /** Its clients have seen a reset; a new thread takes its place. */
  #died(reason: string, hung?: LaneThread): void {
    if (this.#stopping.signal.aborted) return
    const { log, lane, onDeath } = this.#options
    log.error({ port: this.#port, lane }, `a lane died and is replaced: ${reason}`)
    this.#thread = undefined
    const livedMs = performance.now() - this.#startedMs
    this.#shortLives = livedMs < LANE_SILENT_MS_MAX ? this.#shortLives + 1 : 0
    this.#replacing = this.#replace(hung, onDeath)
  }

  /** Starts a thread on the same port; what takes it may go away, so it is tried for a while. */
  async #replace(hung: LaneThread | undefined, onDeath: () => void): Promise<void> {
    await hung?.terminate()
    onDeath()
    const { log, lane, replaceMsMax, onReplace, onGivenUp } = this.#options
    const { signal } = this.#stopping
    let untilMs = performance.now() + replaceMsMax
    let resumed = false
    // A lane that dies as soon as it serves is no better than one that cannot be started.
    if (this.#shortLives > Math.max(SHORT_LIVES_MAX, replaceMsMax / LANE_REPLACE_PAUSE_MS)) {
      if (!onGivenUp(new Error('each of them died right after its start'))) return
      this.#shortLives = 0
    }
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        // At once: whoever dies next, and is alone then, must find this lane's death in the queue.
        if (!resumed) onReplace()
        if (!resumed && this.#shortLives > 1) await this.#pause()
        resumed = true
        return await this.start(this.#port)
      } catch (cause) {
        const err = errorText(cause)
        if (tries === 0) log.error({ err, lane }, 'the lane does not serve; it is tried again')
        if (performance.now() >= untilMs) {
          if (!onGivenUp(cause)) return
          untilMs = performance.now() + replaceMsMax
        }
      }
      await this.#pause()
    }
  }

  async #pause(): Promise<void> {
    const { signal } = this.#stopping
    await setTimeout(LANE_REPLACE_PAUSE_MS, undefined, { signal }).catch(() => undefined)
  }
}
