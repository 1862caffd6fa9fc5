/** The thread that reads trajectories: answers each question once. */
import { parentPort, workerData } from 'node:worker_threads'
import { toRolltapeError } from '../src/errors.ts'
import type { LibraryAsk, LibraryReply } from '../src/supervisor/library-thread.ts'
import { TrajectoryLibrary } from '../src/trajectory/trajectory-library.ts'
import type { LibraryFiles } from '../src/trajectory/trajectory-library.ts'

const library = new TrajectoryLibrary(workerData as LibraryFiles)

parentPort?.on('message', ({ id, question, asked }: LibraryAsk) => void answer(id, question, asked))

async function answer(
  id: number,
  question: LibraryAsk['question'],
  asked: LibraryAsk['asked'],
): Promise<void> {
  let reply: LibraryReply
  try {
    const answered = await (library[question] as (asked: unknown) => unknown)(asked)
    reply = { id, answered } as LibraryReply
  } catch (error) {
    const { code, message, hint } = toRolltapeError(error)
    reply = { id, failed: { code, text: message, ...(hint !== undefined && { hint }) } }
  }
  parentPort?.postMessage(reply)
}
