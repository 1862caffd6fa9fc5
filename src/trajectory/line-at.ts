/** A line read back from where it stands. */
import { readSync } from 'node:fs'
import { RolltapeError } from '../errors.ts'

/**
 * Reads so many bytes.
 * @throws RolltapeError `wrong_state` when the file has become shorter.
 */
export function readLine(
  fd: number,
  { offset, length }: { readonly offset: number; readonly length: number },
): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  for (let done = 0; done < length;) {
    const read = readSync(fd, bytes, done, length - done, offset + done)
    if (read === 0) throw changed()
    done += read
  }
  return bytes
}

/** The files are not as they were when they were indexed. */
export function changed(): RolltapeError {
  return new RolltapeError('wrong_state', 'the recording was rotated or cut while it was read', {
    hint: 'ask again',
  })
}
