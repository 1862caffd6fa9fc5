/**
 * A unix socket's place: taken only from a socket that nobody listens on, and never open to others,
 * not even for a moment. The socket is made in a folder of its own that only its owner may enter,
 * gets its mode there, and is moved to its place in one step.
 */
import { chmodSync, lstatSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { dirname, join } from 'node:path'
import { RolltapeError, errorText } from '../errors.ts'

/** A socket that is made aside and then moved. */
export interface SocketPlace {
  /** Where to bind. */
  readonly aside: string
  /** Moves it to its place; call it once it listens. */
  move(): void
  /** Takes what is left away; what somebody else has put there meanwhile stays. */
  remove(): void
}

/**
 * Prepares a place.
 * @throws RolltapeError `listen_failed` when somebody listens there, or something else stands there.
 */
export async function takeSocketPlace(path: string): Promise<SocketPlace> {
  await checkFree(path)
  let folder: string
  try {
    folder = mkdtempSync(join(dirname(path), '.rt-'))
  } catch (cause) {
    throw failed(path, errorText(cause), 'choose a folder that this user may write to')
  }
  const aside = join(folder, 's')
  let inode: number | undefined
  return {
    aside,
    move: () => {
      chmodSync(aside, 0o600)
      inode = lstatSync(aside).ino
      renameSync(aside, path)
      rmSync(folder, { recursive: true, force: true })
    },
    remove: () => {
      rmSync(folder, { recursive: true, force: true })
      const found = lstatSync(path, { throwIfNoEntry: false })
      if (inode !== undefined && found?.ino === inode) rmSync(path, { force: true })
    },
  }
}

async function checkFree(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket())
    throw failed(path, 'there is a file that is no socket', 'choose another path')
  if (await isListenedOn(path)) {
    throw failed(path, 'another process listens there', 'stop it, or choose another path')
  }
}

function isListenedOn(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = createConnection(path)
  socket.once('connect', () => resolve(true))
  // What cannot be told (no permission, say) counts as in use.
  socket.once('error', ({ code }: NodeJS.ErrnoException) => {
    resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT')
  })
  return promise.finally(() => socket.destroy())
}

function failed(path: string, reason: string, what: string): RolltapeError {
  return new RolltapeError('listen_failed', `cannot listen on unix:${path}: ${reason}`, {
    hint: `${what}, or --control off`,
  })
}
