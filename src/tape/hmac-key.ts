/**
 * The key that a recording's `key_hmac`s are made with: 32 random bytes in `hmac.key` of its tape
 * folder, as 64 hex digits and a line break, mode 0600. Made with the recording and kept for as long
 * as there is one. It opens nothing: with it, and a credential in hand, one finds its exchanges.
 */
import { randomBytes } from 'node:crypto'
import { RolltapeError, errorText } from '../errors.ts'
import type { Disk } from './disk.ts'
import { replaceFile } from './disk.ts'

const KEY_BYTES = 32

/**
 * The recording's key, in hex; made where there is none. To be called by who holds the lock.
 * @throws RolltapeError `recording_unwritable` when it cannot be read or made.
 */
export function openHmacKey(folder: string, disk: Disk): string {
  const path = `${folder}/hmac.key`
  try {
    const key = disk.readFileSync(path).toString('latin1').trim()
    if (/^[0-9a-f]{64}$/.test(key)) return key
    throw new Error('it does not hold 64 hex digits')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unusable(path, error)
  }
  try {
    return make(path, disk)
  } catch (error) {
    throw unusable(path, error)
  }
}

function make(path: string, disk: Disk): string {
  const key = randomBytes(KEY_BYTES).toString('hex')
  replaceFile(disk, path, `${key}\n`)
  return key
}

function unusable(path: string, cause: unknown): RolltapeError {
  const message = `the recording's key ${path} cannot be used: ${errorText(cause)}`
  return new RolltapeError('recording_unwritable', message, {
    cause,
    hint: 'put it back from a copy; without it the next start makes another, and later key_hmacs are others',
  })
}
