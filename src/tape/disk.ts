/**
 * The tape's only door to the file system. Everything under `src/tape/` goes through this object,
 * so that a test can make the Nth operation fail or wait.
 *
 * The data plane uses the callback forms (`open`, `writev`, `fdatasync`, `syncFolder`, `close`) and
 * never waits for them; workers, recovery and the command line use the synchronous ones.
 */
import fs from 'node:fs'
import { dirname } from 'node:path'

type Done = (error: NodeJS.ErrnoException | null) => void

/** How a file system is. */
export interface Space {
  readonly freeBytes: number
  /** The number that the system knows it by. */
  readonly type: number
}

/** What the tape asks of a disk. */
export interface Disk {
  /** Makes a new file and fails when it is there already; mode 0600. */
  open(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void
  writev(
    fd: number,
    buffers: readonly Buffer[],
    position: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void
  fdatasync(fd: number, done: Done): void
  /** Makes a folder's entries durable (a new file's name survives a power cut). */
  syncFolder(folder: string, done: Done): void
  close(fd: number, done: Done): void
  /** The file system that a path is on: bytes free for us, and its type (`f_type` of statfs). */
  space(path: string, done: (error: Error | null, space: Space) => void): void

  openSync(path: string, flags: string): number
  readSync(fd: number, into: Buffer, at: number, bytes: number, position: number): number
  writeSync(fd: number, bytes: Buffer, position: number | null): number
  truncateSync(fd: number, bytes: number): void
  fdatasyncSync(fd: number): void
  closeSync(fd: number): void
  sizeSync(path: string): number
  /** An open file: its bytes, when it was last written, and whether a name still leads to it. */
  statSync(fd: number): {
    readonly bytes: number
    readonly writtenMs: number
    readonly isNamed: boolean
  }
  /** Says when an open file was last written. */
  setWrittenSync(fd: number, writtenMs: number): void
  listSync(folder: string): string[]
  makeFolderSync(folder: string): void
  readFileSync(path: string): Buffer
  /** Gives a file another name; who has it open writes on to it. */
  renameSync(from: string, to: string): void
  syncFolderSync(folder: string): void
  removeSync(path: string): void
}

/** The real file system. */
export const realDisk: Disk = {
  open: (path, done) => fs.open(path, 'wx+', 0o600, done),
  writev: (fd, buffers, position, done) => fs.writev(fd, buffers as Buffer[], position, done),
  fdatasync: (fd, done) => fs.fdatasync(fd, done),
  syncFolder: (folder, done) =>
    fs.open(folder, 'r', (error, fd) => {
      if (error) return done(error)
      fs.fsync(fd, (failed) => fs.close(fd, () => done(failed)))
    }),
  close: (fd, done) => fs.close(fd, done),
  space: (path, done) =>
    fs.statfs(path, (error, found) => {
      if (error) done(error, { freeBytes: 0, type: 0 })
      else done(null, { freeBytes: found.bavail * found.bsize, type: found.type })
    }),

  openSync: (path, flags) => fs.openSync(path, flags, 0o600),
  readSync: (fd, into, at, bytes, position) => fs.readSync(fd, into, at, bytes, position),
  writeSync: (fd, bytes, position) => fs.writeSync(fd, bytes, 0, bytes.length, position),
  truncateSync: (fd, bytes) => fs.ftruncateSync(fd, bytes),
  fdatasyncSync: (fd) => fs.fdatasyncSync(fd),
  closeSync: (fd) => fs.closeSync(fd),
  sizeSync: (path) => fs.statSync(path).size,
  statSync: (fd) => {
    const { size, mtimeMs, nlink } = fs.fstatSync(fd)
    return { bytes: size, writtenMs: mtimeMs, isNamed: nlink > 0 }
  },
  setWrittenSync: (fd, writtenMs) => fs.futimesSync(fd, writtenMs / 1_000, writtenMs / 1_000),
  listSync: (folder) => fs.readdirSync(folder),
  makeFolderSync: (folder) => void fs.mkdirSync(folder, { recursive: true, mode: 0o700 }),
  readFileSync: (path) => fs.readFileSync(path),
  renameSync: (from, to) => fs.renameSync(from, to),
  syncFolderSync: (folder) => {
    const fd = fs.openSync(folder, 'r')
    try {
      fs.fsyncSync(fd)
    } finally {
      fs.closeSync(fd)
    }
  },
  removeSync: (path) => fs.rmSync(path, { force: true }),
}

/**
 * Replaces a file whole, or makes it: a power cut leaves the one or the other, and once this returns
 * the new one. What is half written stands beside it, as `<path>.new`.
 * @throws when the disk does; then the file is as it was, unless the last step, making its name
 *   durable, failed: then it is the one or the other.
 */
export function replaceFile(disk: Disk, path: string, content: Buffer | string): void {
  const beside = `${path}.new`
  try {
    const fd = disk.openSync(beside, 'w')
    try {
      writeWhole(disk, fd, Buffer.from(content as string))
      disk.fdatasyncSync(fd)
    } finally {
      disk.closeSync(fd)
    }
    disk.renameSync(beside, path)
  } catch (error) {
    try {
      disk.removeSync(beside)
    } catch {
      // What went wrong first is told.
    }
    throw error
  }
  disk.syncFolderSync(dirname(path))
}

/**
 * Writes all of it, from this place on.
 * @throws when the disk does, or takes no more: then as a disk that is full.
 */
export function writeWhole(disk: Disk, fd: number, bytes: Buffer, position = 0): void {
  for (let done = 0; done < bytes.length;) {
    const wrote = disk.writeSync(fd, bytes.subarray(done), position + done)
    if (wrote === 0) {
      const message = `the disk took ${done} of ${bytes.length} bytes`
      throw Object.assign(new Error(message), { code: 'ENOSPC' })
    }
    done += wrote
  }
}

/** Descriptors, of the process and of the system, and memory. */
const SHORTAGES: ReadonlySet<unknown> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'])

/** True for what the process is short of now and may have in a moment: nothing is wrong with the file. */
export function isShortage(error: unknown): boolean {
  return SHORTAGES.has((error as { code?: unknown }).code)
}
