/**
 * The real disk with one operation of the data plane made to fail: the Nth, counted over open,
 * syncFolder, writev, fdatasync and close. It also tells how many writes were ever under way at
 * once, and which files are open.
 */
import { realDisk } from '../../src/tape/disk.ts'
import type { Disk } from '../../src/tape/disk.ts'

/** How an operation fails; `short` is a write of which the disk takes a part. */
export type Fault = 'EIO' | 'ENOSPC' | 'EMFILE' | 'short'

/** What a write was asked to do. */
export interface Write {
  readonly position: number
  readonly buffers: number
  readonly bytes: number
}

/** A disk under a test's command. */
export class FaultyDisk {
  readonly disk: Disk
  /** Every operation so far, by name. */
  readonly operations: string[] = []
  readonly writes: Write[] = []
  readonly openFiles = new Set<number>()
  /** Most writes and syncs that were under way at once. */
  concurrentMax = 0
  /** The operation that fails, from 0, and how; later ones work. */
  failAt: { readonly operation: number; readonly fault: Fault } | undefined
  /** While set, every write fails with it. */
  failing: Fault | undefined
  #running = 0
  #holding = false
  #held: (() => void)[] = []

  constructor() {
    this.disk = {
      ...realDisk,
      open: (path, done) => {
        const error = this.#next('open')
        if (error) return later(() => done(error, -1))
        realDisk.open(path, (failed, fd) => {
          if (!failed) this.openFiles.add(fd)
          done(failed, fd)
        })
      },
      writev: (fd, buffers, position, done) => {
        const error = this.#next('writev')
        const bytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0)
        this.writes.push({ position, buffers: buffers.length, bytes })
        this.#begin()
        const end = (failed: NodeJS.ErrnoException | null, written: number): void => {
          this.#running--
          done(failed, written)
        }
        const start = (): void => {
          if (error?.code === 'short') {
            const half = Buffer.concat(buffers).subarray(0, bytes >> 1)
            realDisk.writev(fd, [half], position, end)
          } else if (error) later(() => end(error, 0))
          else realDisk.writev(fd, buffers, position, end)
        }
        if (this.#holding) this.#held.push(start)
        else start()
      },
      fdatasync: (fd, done) => {
        const error = this.#next('fdatasync')
        this.#begin()
        const end = (failed: NodeJS.ErrnoException | null): void => {
          this.#running--
          done(failed)
        }
        if (error) later(() => end(error))
        else realDisk.fdatasync(fd, end)
      },
      syncFolder: (folder, done) => {
        const error = this.#next('syncFolder')
        if (error) later(() => done(error))
        else realDisk.syncFolder(folder, done)
      },
      close: (fd, done) => {
        const error = this.#next('close')
        this.openFiles.delete(fd)
        realDisk.close(fd, () => done(error))
      },
    }
  }

  /** Holds writes from now on. */
  hold(): void {
    this.#holding = true
  }

  /** Lets held writes go, and later ones through. */
  release(): void {
    this.#holding = false
    for (const start of this.#held.splice(0)) start()
  }

  #begin(): void {
    this.#running++
    this.concurrentMax = Math.max(this.concurrentMax, this.#running)
  }

  #next(name: string): NodeJS.ErrnoException | null {
    const operation = this.operations.push(name) - 1
    const fault = this.failAt?.operation === operation ? this.failAt.fault : undefined
    const code = fault ?? (name === 'writev' ? this.failing : undefined)
    if (code === undefined) return null
    // Only a write can be short.
    const told = code === 'short' && name !== 'writev' ? 'EIO' : code
    return Object.assign(new Error(`${told}: ${name}`), { code: told })
  }
}

function later(callback: () => void): void {
  setImmediate(callback)
}
