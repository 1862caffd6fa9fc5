/**
 * The appender's thread as the supervisor holds it: started, asked, ended. Lines come to it from
 * derive workers, never through here.
 */
import { Worker } from 'node:worker_threads'
import { RolltapeError, errorText } from '../errors.ts'
import type { AppenderFiles, Checkpoint, ClosedPart } from '../trajectory/appender.ts'
import type { SessionSum } from '../trajectory/session-sums.ts'
import type { SeqRange } from '../trajectory/seq-set.ts'
import { workerUrl } from '../workers.ts'
import type { WatchBatch } from './watched.ts'

/** What the supervisor says to the appender. */
export type AppenderCommand =
  | { readonly type: 'derived'; readonly durable: boolean }
  | { readonly type: 'settle'; readonly seq: number }
  | { readonly type: 'state' }
  | { readonly type: 'watch'; readonly watched: boolean }
  | { readonly type: 'watched_taken' }
  | { readonly type: 'sessions' }
  | { readonly type: 'rotate'; readonly to: string }
  | { readonly type: 'close' }

/** How its end went. */
export interface AppenderClose {
  /** Lines written since it began. */
  readonly lines: number
  /** What could not be written; null when all was. */
  readonly trouble: string | null
}

/** How far it is. */
export interface AppenderState {
  /** Lines written since it began. */
  readonly lines: number
  /** Bytes of the file. */
  readonly bytes: number
  /** Lines of the file. */
  readonly partLines: number
}

/** What the appender says to the supervisor. */
export type AppenderMessage =
  | { readonly type: 'ready' }
  | { readonly type: 'derived'; readonly ranges: readonly SeqRange[]; readonly error?: string }
  | ({ readonly type: 'state' } & AppenderState)
  | { readonly type: 'watched'; readonly batch: WatchBatch }
  | { readonly type: 'sessions'; readonly sums: readonly SessionSum[] }
  | { readonly type: 'rotated'; readonly closed?: ClosedPart; readonly error?: string }
  | { readonly type: 'trouble'; readonly message: string }
  | ({ readonly type: 'closed' } & AppenderClose)

/** A running appender. */
export class AppenderThread {
  readonly #worker: Worker
  readonly #ended: Promise<void>
  #isOver = false
  /** Who waits for a message of each type, first asked first answered. */
  readonly #waiting = new Map<string, ((message: AppenderMessage | undefined) => void)[]>()
  /** Takes what watchers are told of records. */
  onWatched: (batch: WatchBatch) => void = () => undefined

  private constructor(worker: Worker, onTrouble: (message: string) => void) {
    this.#worker = worker
    this.#ended = new Promise((resolve) => {
      worker.once('exit', () => {
        this.#isOver = true
        for (const waiting of this.#waiting.values()) for (const tell of waiting) tell(undefined)
        this.#waiting.clear()
        resolve()
      })
    })
    worker.on('error', (error) => onTrouble(`the appender failed: ${errorText(error)}`))
    worker.on('message', (message: AppenderMessage) => {
      if (message.type === 'trouble') onTrouble(message.message)
      this.#waiting.get(message.type)?.shift()?.(message)
      if (message.type !== 'watched') return
      this.onWatched(message.batch)
      this.#tell({ type: 'watched_taken' })
    })
  }

  /**
   * Starts one; resolves once it has the file open.
   * @throws RolltapeError `recording_unwritable` when it cannot open it.
   */
  static async start(
    files: AppenderFiles,
    from: Checkpoint,
    onTrouble: (message: string) => void,
  ): Promise<AppenderThread> {
    const worker = new Worker(workerUrl('append'), { name: 'append', workerData: { files, from } })
    let reason = 'its thread ended'
    const thread = new AppenderThread(worker, (message) => {
      reason = message
      onTrouble(message)
    })
    if ((await thread.#hear('ready')) !== undefined) return thread
    const message = `cannot record to ${files.jsonl}: ${reason}`
    throw new RolltapeError('recording_unwritable', message)
  }

  /** Its thread's id; derive workers find it by that. */
  get id(): number {
    return this.#worker.threadId
  }

  /**
   * Which exchanges have their line now; with `durable` those lines are on the disk itself.
   * @throws when the thread has ended, or the disk does not take them.
   */
  async derived(durable = false): Promise<readonly SeqRange[]> {
    this.#tell({ type: 'derived', durable })
    const answer = await this.#hear('derived')
    if (answer === undefined) throw new Error('the appender has ended')
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer.ranges
  }

  /**
   * How far it is.
   * @throws when the thread has ended.
   */
  async state(): Promise<AppenderState> {
    this.#tell({ type: 'state' })
    const answer = await this.#hear('state')
    if (answer === undefined) throw new Error('the appender has ended')
    const { lines, bytes, partLines } = answer
    return { lines, bytes, partLines }
  }

  /** Whether records are to be told of. */
  watch(watched: boolean): void {
    this.#tell({ type: 'watch', watched })
  }

  /** What sessions come to since this was asked last. */
  async sessionSums(): Promise<readonly SessionSum[]> {
    this.#tell({ type: 'sessions' })
    return (await this.#hear('sessions'))?.sums ?? []
  }

  /**
   * Gives the file this name and begins another in its place.
   * @throws RolltapeError `tape_unavailable` when that cannot be; then all is as before.
   */
  async rotate(to: string): Promise<ClosedPart> {
    this.#tell({ type: 'rotate', to })
    const answer = await this.#hear('rotated')
    if (answer?.closed !== undefined) return answer.closed
    const reason = answer?.error ?? 'the appender has ended'
    throw new RolltapeError('tape_unavailable', `the part cannot be closed: ${reason}`)
  }

  /** Every number up to this has its line, or will never have one. */
  settle(seq: number): void {
    this.#tell({ type: 'settle', seq })
  }

  /** Writes the last of it and ends the thread. */
  async close(): Promise<AppenderClose> {
    this.#tell({ type: 'close' })
    const closed = await this.#hear('closed')
    await this.#ended
    return closed ?? { lines: 0, trouble: 'the appender had ended' }
  }

  /** Ends the thread at once. */
  async terminate(): Promise<void> {
    await this.#worker.terminate()
  }

  #tell(command: AppenderCommand): void {
    this.#worker.postMessage(command)
  }

  /** The answer of a type; undefined when the thread ends, or has ended, without one. */
  #hear<T extends AppenderMessage['type']>(
    type: T,
  ): Promise<Extract<AppenderMessage, { type: T }> | undefined> {
    if (this.#isOver) return Promise.resolve(undefined)
    const waiting = this.#waiting.get(type) ?? []
    this.#waiting.set(type, waiting)
    return new Promise((resolve) => {
      waiting.push((message) => {
        resolve(message as Extract<AppenderMessage, { type: T }> | undefined)
      })
    })
  }
}
