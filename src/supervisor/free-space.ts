/**
 * Looks after the disk that a recording is on, from the main thread: when it has less room than
 * `min_free_bytes` the lanes are told, through shared memory, and again when it has enough. What is
 * in flight goes on: that is what the room is for.
 */
import type { LaneLog } from '../lane/context.ts'
import { SPACE_LOOK_MS } from '../limits.ts'
import type { Disk } from '../tape/disk.ts'
import type { SharedTables } from './shared.ts'

/** Types of file systems whose disks are another machine's, or a program's (`statfs`, f_type). */
const NETWORK_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x65735546, 'FUSE'],
  [0x01021997, '9p'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
])

/** What is looked after. */
export interface FreeSpaceOptions {
  readonly folder: string
  /** 0 is no bound. */
  readonly minBytes: number
  readonly tables: SharedTables
  readonly log: LaneLog
  readonly disk: Disk
}

/** Looks after one disk. */
export class FreeSpace {
  readonly #options: FreeSpaceOptions
  readonly #timer: NodeJS.Timeout
  #looking = false
  #isLow = false
  #closed = false

  constructor(options: FreeSpaceOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.look(), SPACE_LOOK_MS)
    this.#timer.unref()
    this.#warnOfNetwork()
    this.look()
  }

  /** Asks the disk; a look that is under way is not joined by another. */
  look(): void {
    const { folder, minBytes, disk } = this.#options
    if (this.#looking || minBytes === 0) return
    this.#looking = true
    disk.space(folder, (error, { freeBytes }) => {
      this.#looking = false
      // A disk that cannot even say so fails its writes too, which is told there.
      if (error === null && !this.#closed) this.#found(freeBytes)
    })
  }

  /** Ends it; the lanes are gone by then. */
  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
  }

  #found(freeBytes: number): void {
    const { folder, minBytes, tables, log } = this.#options
    const isLow = freeBytes < minBytes
    tables.setLowSpace(freeBytes, isLow ? minBytes : 0)
    if (isLow === this.#isLow) return
    this.#isLow = isLow
    const fields = { folder, freeBytes, minFreeBytes: minBytes }
    if (isLow) log.error(fields, 'the disk has too little room: nothing new is recorded')
    else log.warn(fields, 'the disk has room again')
  }

  #warnOfNetwork(): void {
    const { folder, disk, log } = this.#options
    disk.space(folder, (error, { type }) => {
      const name = error === null ? NETWORK_FILE_SYSTEMS.get(type >>> 0) : undefined
      if (name === undefined || this.#closed) return
      log.warn(
        { folder },
        `the tape is on a network file system (${name}): locks, syncs and what a crash leaves are not what they are on a disk of this machine`,
      )
    })
  }
}
