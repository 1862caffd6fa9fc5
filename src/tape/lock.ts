/**
 * Who records here: one process at a time may write to a recording's tape folder.
 *
 * The lock names host, boot, process and its start time, so a lock that a crash left behind is
 * taken over only where it is proven that its owner is gone: on the same host, after another boot,
 * or when no process of that id and start time runs. Example:
 *
 *   {"host":"node7","boot":"1c2d…","pid":4711,"startTicks":"88213","since":"2026-01-01T00:00:00Z"}
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { RolltapeError } from '../errors.ts'
import type { Disk } from './disk.ts'
import { writeWhole } from './disk.ts'

/** Of the digest that names the lock of a lock. */
const DIGEST_CHARS = 12

interface LockHolder {
  readonly host: string
  readonly boot: string
  readonly pid: number
  /** Start of the process in clock ticks since boot, as text. */
  readonly startTicks: string
  readonly since: string
}

/**
 * Takes the lock of a tape folder; the function returned gives it back. With `takeOver` also one that
 * cannot be proven to be left behind, which `onTaken` is told of; never one of a process that runs here.
 * @throws RolltapeError `recording_locked` while another process may hold it.
 */
export function takeLock(
  folder: string,
  disk: Disk,
  takeOver = false,
  onTaken?: (why: string) => void,
): () => void {
  const path = `${folder}/lock`
  if (!takeOver) return take(path, disk)
  try {
    return take(path, disk)
  } catch (error) {
    const isLocked = error instanceof RolltapeError && error.code === 'recording_locked'
    const text = readText(path, disk)
    if (!isLocked || text === undefined || runsHere(parseHolder(text))) throw error
    removeLeft(path, text, disk)
    const release = take(path, disk)
    onTaken?.(error.message)
    return release
  }
}

/** True for a holder that is proven to run, on this very machine. */
function runsHere(holder: LockHolder | undefined): boolean {
  if (holder?.host !== hostname() || holder.boot !== bootId()) return false
  return holder.startTicks !== '' && startTicks(holder.pid) === holder.startTicks
}

/** Why somebody may be recording into a tape folder right now; undefined when nobody is. */
export function recordedNow(folder: string, disk: Disk): string | undefined {
  const text = readText(`${folder}/lock`, disk)
  if (text === undefined) return undefined
  const holder = parseHolder(text)
  return holder === undefined ? 'its lock cannot be read' : heldBecause(holder)
}

function take(path: string, disk: Disk): () => void {
  for (let tries = 0; ; tries++) {
    try {
      writeHolder(path, disk)
      return () => disk.removeSync(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const text = readText(path, disk)
    const holder = text === undefined ? undefined : parseHolder(text)
    if (text === undefined || holder === undefined) {
      throw locked(path, undefined, 'it cannot be read')
    }
    const alive = heldBecause(holder)
    if (alive !== undefined || tries > 0) throw locked(path, holder, alive ?? 'it came back')
    removeLeft(path, text, disk)
  }
}

/**
 * Removes a lock that was left behind. Of several who found it only one may, and only while it is
 * the one they found: else the last would remove what the first has made in its place. So each
 * takes a lock of that very lock first, which may have been left behind as well.
 */
function removeLeft(path: string, text: string, disk: Disk): void {
  const digest = createHash('sha256').update(text).digest('hex').slice(0, DIGEST_CHARS)
  const release = take(`${path}-${digest}`, disk)
  try {
    if (readText(path, disk) === text) disk.removeSync(path)
  } finally {
    release()
  }
}

/** Makes the lock; one that cannot be written would keep everybody out, so it is taken away. */
function writeHolder(path: string, disk: Disk): void {
  const fd = disk.openSync(path, 'wx')
  try {
    try {
      writeWhole(disk, fd, Buffer.from(`${JSON.stringify(self())}\n`))
    } finally {
      disk.closeSync(fd)
    }
  } catch (error) {
    disk.removeSync(path)
    throw error
  }
}

function self(): LockHolder {
  return {
    host: hostname(),
    boot: bootId(),
    pid: process.pid,
    startTicks: startTicks(process.pid) ?? '',
    since: new Date().toISOString(),
  }
}

/** Why the holder may still be at work; undefined when it is proven gone. */
function heldBecause(holder: LockHolder): string | undefined {
  if (holder.host !== hostname()) return `its owner runs on host ${holder.host}`
  if (holder.boot !== bootId()) return undefined
  const ticks = startTicks(holder.pid)
  if (ticks !== undefined && ticks === holder.startTicks) return `process ${holder.pid} runs`
  if (ticks === undefined && isAlive(holder.pid)) return `process ${holder.pid} runs`
  return undefined
}

function readText(path: string, disk: Disk): string | undefined {
  try {
    return disk.readFileSync(path).toString('utf8')
  } catch {
    return undefined
  }
}

function parseHolder(text: string): LockHolder | undefined {
  try {
    return JSON.parse(text) as LockHolder
  } catch {
    return undefined
  }
}

function locked(path: string, holder: LockHolder | undefined, why: string): RolltapeError {
  const since = holder === undefined ? '' : `, since ${holder.since}`
  const more = runsHere(holder) ? '' : '; --take-over if it is gone for certain'
  return new RolltapeError(
    'recording_locked',
    `another rolltape records here: ${path} is held (${why}${since})`,
    { hint: `record into another file, or stop the other one${more}` },
  )
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return ''
  }
}

/** When a process began, in clock ticks since boot; undefined when there is none or no /proc. */
function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
