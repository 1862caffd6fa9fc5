/**
 * What a process or a lane that died has left of a recording: looked for on its tape, and its records
 * made up for.
 */
import { Worker } from 'node:worker_threads'
import { DeriveQueue } from '../lane/derive-queue.ts'
import type { DeriveQueueOptions } from '../lane/derive-queue.ts'
import type { Recovery } from '../tape/recovery.ts'
import type { SeqRange } from '../trajectory/seq-set.ts'
import { workerUrl } from '../workers.ts'
import { progressLog } from './log.ts'

/** What the thread that looks at a tape is started with. */
export interface InspectWorkerData {
  readonly folder: string
  readonly derived: readonly SeqRange[]
  readonly before: ReadonlyMap<number, number>
}

/** Makes the records that a crash left unmade. Returns how many could not be made or written. */
export async function derivePending(
  recovery: Recovery,
  options: Omit<DeriveQueueOptions, 'onDropped'>,
): Promise<number> {
  if (recovery.pending.length === 0) return 0
  const queue = new DeriveQueue({ ...options, onDropped: () => undefined })
  const progress = progressLog(options.log, 'deriving records')
  try {
    for (const [i, position] of recovery.pending.entries()) {
      queue.hint(position)
      if (queue.full) await queue.drained()
      progress(i + 1, recovery.pending.length)
    }
    await queue.drained()
    return queue.lost
  } finally {
    await queue.close()
  }
}

/** Looks at the tape in a thread: hundreds of megabytes may have to be read. */
export function inspectAside(workerData: InspectWorkerData): Promise<Recovery> {
  const worker = new Worker(workerUrl('inspect'), { name: 'inspect', workerData })
  const { promise, resolve, reject } = Promise.withResolvers<Recovery>()
  worker.once('message', resolve)
  worker.once('error', reject)
  worker.once('exit', () => reject(new Error('the thread that read the tape ended')))
  return promise
}
