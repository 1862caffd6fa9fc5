/**
 * The threads that make an index, from the side of whoever waits for it. What is read at a glance
 * is read by whoever waits: to start a thread would take longer.
 */
import { availableParallelism } from 'node:os'
import { Piscina } from 'piscina'
import { RolltapeError } from '../errors.ts'
import { INDEX_GLANCE_BYTES, INDEX_STRETCH_BYTES, INDEX_THREADS_MAX } from '../limits.ts'
import { workerUrl } from '../workers.ts'
import type { IndexAnswer, IndexResultOf, IndexTask } from './index-task.ts'

/** Threads for one reading; ended when it is over. */
export class IndexPool {
  /** Undefined when no thread is worth its start. */
  readonly #pool: Piscina<IndexTask, IndexAnswer> | undefined

  /** As many threads as so many bytes are worth. */
  constructor(bytes: number) {
    if (bytes <= INDEX_GLANCE_BYTES) return
    const worth = Math.ceil(bytes / INDEX_STRETCH_BYTES)
    const threads = Math.max(1, Math.min(INDEX_THREADS_MAX, availableParallelism(), worth))
    this.#pool = new Piscina({
      filename: workerUrl('replay-index').href,
      minThreads: threads,
      maxThreads: threads,
      recordTiming: false,
    })
  }

  /**
   * Has a task done.
   * @throws what the task throws.
   */
  async run<T extends IndexTask>(task: T): Promise<IndexResultOf<T>> {
    const answer = this.#pool === undefined ? await runHere(task) : await this.#pool.run(task)
    if ('failed' in answer) {
      const { code, message, hint } = answer.failed
      throw new RolltapeError(code, message, hint === undefined ? {} : { hint })
    }
    return answer as IndexResultOf<T>
  }

  /** Ends the threads, and what they are at. */
  async close(): Promise<void> {
    await this.#pool?.destroy()
  }
}

/** Loaded only where it is needed: it brings with it all that reads a tape. */
async function runHere(task: IndexTask): Promise<IndexAnswer> {
  const { runIndexTask } = await import('./index-task.ts')
  return runIndexTask(task)
}
