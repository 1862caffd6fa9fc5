/** A request explained in a thread of its own, which reads the recording and ends. */
import { Worker } from 'node:worker_threads'
import { RolltapeError } from '../errors.ts'
import type { IgnoreRules, Json } from '../replay/canonical.ts'
import type { ExplainedRequest } from '../replay/explain-recording.ts'
import { workerUrl } from '../workers.ts'
import { failure } from './lane-questions.ts'
import type { LaneFailure } from './lane-questions.ts'

/** What the thread is started with. */
export interface ExplainWorkerData {
  /** A `.jsonl`, or a tape folder. */
  readonly file: string
  readonly head: string
  readonly body: Json
  readonly ignore: IgnoreRules
}

/** What it says. */
export type ExplainReply =
  | { readonly explained: ExplainedRequest }
  | { readonly failed: LaneFailure }

/**
 * Explains a request; the signal ends the thread.
 * @throws RolltapeError what reading the recording throws; `draining` when the signal fires.
 */
export async function explainAside(
  workerData: ExplainWorkerData,
  signal: AbortSignal,
): Promise<ExplainedRequest> {
  const worker = new Worker(workerUrl('explain'), { name: 'explain', workerData })
  const { promise, resolve, reject } = Promise.withResolvers<ExplainReply>()
  worker.once('message', resolve)
  worker.once('error', reject)
  worker.once('exit', () => reject(new Error('the thread that read the recording ended')))
  const stop = (): void => reject(new RolltapeError('draining', 'given up before it was done'))
  signal.addEventListener('abort', stop)
  try {
    if (signal.aborted) stop()
    const reply = await promise
    if ('failed' in reply) throw failure(reply.failed)
    return reply.explained
  } finally {
    signal.removeEventListener('abort', stop)
    await worker.terminate()
  }
}
