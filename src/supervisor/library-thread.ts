/**
 * The thread that reads trajectories, as the supervisor holds it: started when it is first asked,
 * asked, ended. What goes between the two is the messages below.
 */
import { Worker } from 'node:worker_threads'
import { RolltapeError, errorText } from '../errors.ts'
import type {
  LibraryFiles,
  LibraryQuestion,
  LibraryQuestions,
} from '../trajectory/trajectory-library.ts'
import { workerUrl } from '../workers.ts'
import { failure } from './lane-questions.ts'
import type { LaneFailure } from './lane-questions.ts'

/** A question on its way to the thread. */
export interface LibraryAsk {
  readonly id: number
  readonly question: LibraryQuestion
  readonly asked: LibraryQuestions[LibraryQuestion]['asked']
}

/** An answer on its way back. */
export interface LibraryReply {
  readonly id: number
  readonly answered?: LibraryQuestions[LibraryQuestion]['answered']
  readonly failed?: LaneFailure
}

interface Waiting {
  resolve(answered: unknown): void
  reject(error: RolltapeError): void
}

/** A thread over one recording's files. */
export class LibraryThread {
  readonly #files: LibraryFiles
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #lastId = 0
  #closed = false

  constructor(files: LibraryFiles) {
    this.#files = files
  }

  /**
   * Asks.
   * @throws RolltapeError `draining` when it is closed, or what the thread says.
   */
  ask<Q extends LibraryQuestion>(
    question: Q,
    asked: LibraryQuestions[Q]['asked'],
  ): Promise<LibraryQuestions[Q]['answered']> {
    if (this.#closed) return Promise.reject(left())
    const worker = (this.#worker ??= this.#start())
    const id = ++this.#lastId
    const { promise, resolve, reject } = Promise.withResolvers<LibraryQuestions[Q]['answered']>()
    this.#waiting.set(id, { resolve: resolve as (answered: unknown) => void, reject })
    worker.postMessage({ id, question, asked } satisfies LibraryAsk)
    return promise
  }

  /** Ends the thread; who waits is told. */
  async close(): Promise<void> {
    this.#closed = true
    this.#reject(left())
    await this.#worker?.terminate()
  }

  #start(): Worker {
    const worker = new Worker(workerUrl('trajectories'), {
      name: 'trajectories',
      workerData: this.#files,
    })
    worker.unref()
    worker.on('message', ({ id, answered, failed }: LibraryReply) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (failed === undefined) waiting?.resolve(answered)
      else waiting?.reject(failure(failed))
    })
    let reason = 'it ended'
    worker.on('error', (error) => (reason = errorText(error)))
    worker.once('exit', () => {
      if (this.#worker === worker) this.#worker = undefined
      const message = `the thread that reads trajectories failed: ${reason}`
      this.#reject(new RolltapeError('internal_error', message))
    })
    return worker
  }

  #reject(error: RolltapeError): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
  }
}

function left(): RolltapeError {
  return new RolltapeError('draining', 'the recording is being closed')
}
