/**
 * A lane's thread as the supervisor holds it: started, listened to, drained, ended. What goes
 * between the two is the messages below and the shared memory, nothing else.
 */
import { Worker } from 'node:worker_threads'
import { RolltapeError, errorText } from '../errors.ts'
import type { AdmissionRule } from '../lane/admission.ts'
import type { LaneLog } from '../lane/context.ts'
import type { DrainReport } from '../lane/lane.ts'
import type { ServingOrder } from '../lane/parts.ts'
import type { PackedConfig } from '../options.ts'
import { workerUrl } from '../workers.ts'
import { Questions, failure } from './lane-questions.ts'
import type {
  LaneAsk,
  LaneFailure,
  LaneQuestion,
  LaneQuestions,
  LaneReply,
} from './lane-questions.ts'
import type { WatchBatch } from './watched.ts'

/** What the thread is started with. */
export interface LaneWorkerData {
  readonly lane: number
  readonly config: PackedConfig
  /** Memory of all lanes' counters. */
  readonly counters: SharedArrayBuffer
  readonly order: ServingOrder
  readonly admission: readonly AdmissionRule[]
  readonly port: number
  readonly reusePort: boolean
}

/** What the supervisor says to a lane. */
export type LaneCommand =
  | { readonly type: 'drain'; readonly timeoutMs: number }
  | { readonly type: 'watched_taken' }
  | LaneAsk

/** What a lane says to the supervisor. */
export type LaneMessage =
  | { readonly type: 'ready'; readonly port: number }
  | ({ readonly type: 'failed' } & LaneFailure)
  | {
      readonly type: 'log'
      readonly level: keyof LaneLog
      readonly fields: object
      readonly text: string
    }
  | { readonly type: 'drained'; readonly report: DrainReport }
  | { readonly type: 'watched'; readonly batch: WatchBatch }
  | LaneReply

/** Young generation of a lane's heap: short-lived objects of many streams should die young. */
const YOUNG_GENERATION_MB = 64
/** What a lane may take beyond its drain deadline to write and derive the rest. */
const DRAIN_MARGIN_MS = 60_000

/** A running lane thread. */
export class LaneThread {
  readonly port: number
  readonly #worker: Worker
  readonly #questions: Questions
  #draining = false

  private constructor(worker: Worker, port: number) {
    this.#worker = worker
    this.port = port
    this.#questions = new Questions((ask) => worker.postMessage(ask))
    worker.on('message', (message: LaneMessage) => {
      if (message.type === 'reply') this.#questions.onReply(message)
    })
  }

  /**
   * Starts a lane; resolves once it listens. `onDeath` is called when it ends without being asked.
   * @throws RolltapeError `listen_failed`, or what else kept the lane from starting.
   */
  static async start(
    data: LaneWorkerData,
    log: LaneLog,
    onDeath: (reason: string) => void,
    onWatched: (batch: WatchBatch) => void = () => undefined,
    entry: URL = workerUrl('lane'),
  ): Promise<LaneThread> {
    const worker = new Worker(entry, {
      workerData: data,
      name: `lane-${data.lane}`,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    })
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    worker.on('message', (message: LaneMessage) => {
      if (message.type === 'ready') resolve(message.port)
      else if (message.type === 'log') log[message.level](message.fields, message.text)
      else if (message.type === 'failed') reject(failure(message))
      else if (message.type === 'watched') {
        onWatched(message.batch)
        worker.postMessage({ type: 'watched_taken' } satisfies LaneCommand)
      }
    })
    let failed: string | undefined
    worker.on('error', (error) => {
      failed = errorText(error)
      reject(new RolltapeError('internal_error', `the lane failed: ${failed}`, { cause: error }))
    })
    worker.once('exit', (code) => {
      const reason = failed ?? `it ended with code ${code}`
      reject(new RolltapeError('internal_error', `the lane did not start: ${reason}`))
      const end = (): void => {
        if (thread === undefined) return
        thread.#questions.onEnd(reason)
        if (!thread.#draining) onDeath(reason)
      }
      // It may have become ready in this very turn: whoever waits for that goes first.
      if (thread === undefined) setImmediate(end)
      else end()
    })
    let thread: LaneThread | undefined
    try {
      thread = new LaneThread(worker, await promise)
      return thread
    } catch (error) {
      await worker.terminate()
      throw error
    }
  }

  /**
   * Asks the lane; it answers once, or its end does.
   * @throws RolltapeError `lane_lost`, or what the lane says.
   */
  ask<Q extends LaneQuestion>(
    question: Q,
    asked: LaneQuestions[Q]['asked'],
  ): Promise<LaneQuestions[Q]['answered']> {
    return this.#questions.ask(question, asked)
  }

  /** Drains the lane and waits for its thread to end. */
  async drain(timeoutMs: number): Promise<DrainReport> {
    this.#draining = true
    const exited = new Promise((ended) => this.#worker.once('exit', ended))
    const { promise, resolve } = Promise.withResolvers<DrainReport>()
    this.#worker.on('message', (message: LaneMessage) => {
      if (message.type === 'drained') resolve(message.report)
    })
    this.#worker.once('exit', () => resolve({ cut: 0, trouble: 'the lane ended while draining' }))
    const timer = setTimeout(() => {
      resolve({ cut: 0, trouble: 'the lane did not end in time' })
      void this.#worker.terminate()
    }, timeoutMs + DRAIN_MARGIN_MS)
    const command: LaneCommand = { type: 'drain', timeoutMs }
    this.#worker.postMessage(command)
    const report = await promise
    await exited
    clearTimeout(timer)
    return report
  }

  /** Ends the thread at once. */
  async terminate(): Promise<void> {
    this.#draining = true
    await this.#worker.terminate()
  }
}
