/** The threads that make an index, from the side of whoever waits for it. */
import { availableParallelism } from 'node:os'
import { Piscina } from 'piscina'
import { RolltapeError } from '../errors.ts'
import { INDEX_STRETCH_BYTES, INDEX_THREADS_MAX } from '../limits.ts'
import { workerUrl } from '../workers.ts'
import type { IndexAnswer, IndexResultOf, IndexTask } from './index-task.ts'

/** Threads for one reading; ended when it is over. */
export class IndexPool {
  readonly #pool: Piscina<IndexTask, IndexAnswer>

  /** As many threads as so many bytes are worth. */
  constructor(bytes: number) {
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
   * Has a task done. `handedOver` goes to the thread and is gone here.
   * @throws what the task throws.
   */
  async run<T extends IndexTask>(
    task: T,
    handedOver: readonly ArrayBuffer[] = [],
  ): Promise<IndexResultOf<T>> {
    // Piscina's type for the list does not fit the one of this Node.
    const answer = await this.#pool.run(task, { transferList: handedOver as never })
    if ('failed' in answer) {
      const { code, message, hint } = answer.failed
      throw new RolltapeError(code, message, hint === undefined ? {} : { hint })
    }
    return answer as IndexResultOf<T>
  }

  /** Ends the threads, and what they are at. */
  async close(): Promise<void> {
    await this.#pool.destroy()
  }
}
