/**
 * The turns of all sessions on disk, so that a restart need not read the whole tape to count them.
 *
 *   8 bytes  the exchange number up to which all are counted, as a double, little-endian
 *   12 bytes per session: its hash (two i32) and its turns (i32)
 */
import type { Disk } from '../tape/disk.ts'
import { replaceFile } from '../tape/disk.ts'
import { Outage } from '../tape/outage.ts'
import type { SharedTables } from './shared.ts'

const HEAD_BYTES = 8
const ENTRY_BYTES = 12

/** A recording's file of turns. */
export class TurnsFile {
  readonly #path: string
  readonly #tables: SharedTables
  readonly #disk: Disk
  readonly #outage: Outage
  #savedSeq = -1
  #goodSeq = 0

  constructor(
    path: string,
    tables: SharedTables,
    disk: Disk,
    onTrouble: (message: string) => void,
  ) {
    this.#path = path
    this.#tables = tables
    this.#disk = disk
    this.#outage = new Outage(path, onTrouble)
  }

  /** Takes the turns an earlier process wrote down; the number up to which they are good. */
  load(): number {
    let bytes: Buffer
    try {
      bytes = this.#disk.readFileSync(this.#path)
    } catch {
      return 0
    }
    if (bytes.length < HEAD_BYTES || (bytes.length - HEAD_BYTES) % ENTRY_BYTES !== 0) return 0
    this.#tables.loadTurns(bytes.subarray(HEAD_BYTES))
    this.#goodSeq = bytes.readDoubleLE(0)
    return this.#goodSeq
  }

  /**
   * Up to which number all exchanges with a record have their turn in the file. It is written anew
   * when that is not as far as `least`, an exchange that has its record.
   */
  goodUpTo(least: number): number {
    if (this.#goodSeq < least) this.#write(least)
    return this.#goodSeq
  }

  /**
   * Writes them down unless nothing is new. `counted`: all up to this number are counted; a later
   * one that has its number may still wait for its session. Never throws: what went wrong, or null.
   */
  save(counted: number): string | null {
    if (this.#tables.seq === this.#savedSeq && counted <= this.#goodSeq) return null
    return this.#write(Math.max(counted, this.#goodSeq))
  }

  #write(good: number): string | null {
    const { seq } = this.#tables
    return this.#outage.attempt(() => {
      const head = Buffer.alloc(HEAD_BYTES)
      head.writeDoubleLE(good)
      replaceFile(this.#disk, this.#path, Buffer.concat([head, this.#tables.dumpTurns()]))
      this.#savedSeq = seq
      this.#goodSeq = good
    })
  }
}
