/**
 * Reading a whole tape on the command line: in steps, so that signals and the progress bar get
 * through.
 */
import { RolltapeError } from '../errors.ts'
import { readFrames, type TapeFrames } from '../tape/check.ts'
import type { ReadingTold } from './progress.ts'

/**
 * Reads all frames of a tape folder.
 * @throws RolltapeError `draining` when it is stopped.
 */
export async function framesOf(
  folder: string,
  stopping: AbortSignal,
  { onProgress }: Pick<ReadingTold, 'onProgress'>,
): Promise<TapeFrames> {
  const reading = readFrames(folder)
  for (;;) {
    const { done, value } = reading.next()
    if (done === true) return value
    onProgress(...value)
    await breathe(stopping)
  }
}

/**
 * Lets signals and the progress bar through.
 * @throws RolltapeError `draining` when it is stopped.
 */
export async function breathe(stopping: AbortSignal): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
  if (stopping.aborted) throw new RolltapeError('draining', 'stopped before all was read')
}
