/**
 * Which segments were let go by `tape_retain`: of each lane all up to a number, written down before
 * the first of them is removed, so that what is missing is never taken for damage.
 *
 *   let-go.json   {"0":12,"3":4}     lane 0 has let go of 0-000001.tape to 0-000012.tape
 *
 * It is filled up with blanks: on a full disk, where letting go is needed most, it can be written
 * over in place, since its block is there already.
 */
import type { Disk } from './disk.ts'
import { realDisk, replaceFile, writeWhole } from './disk.ts'
import { parseSegmentName } from './format.ts'

const FILE = 'let-go.json'
/** A block of most file systems; the numbers of all lanes that there can be fit in it. */
const FILE_BYTES = 4_096

/** By lane, the number of the last segment that was let go. */
export class LetGo {
  readonly #folder: string
  readonly #disk: Disk
  readonly #last: Map<number, number>

  constructor(folder: string, disk: Disk = realDisk) {
    this.#folder = folder
    this.#disk = disk
    this.#last = new Map(read(`${folder}/${FILE}`, disk))
  }

  /** True for a segment that was let go. */
  has(name: string): boolean {
    const { lane = -1, number = 0 } = parseSegmentName(name) ?? {}
    return number > 0 && number <= (this.#last.get(lane) ?? 0)
  }

  /** How many were, over all lanes. */
  get count(): number {
    return [...this.#last.values()].reduce((sum, last) => sum + last, 0)
  }

  /** Makes the file unless it is there. @throws when the disk does. */
  prepare(): void {
    if (!this.#disk.listSync(this.#folder).includes(FILE)) this.#replace()
  }

  /** Writes down that a lane lets go of all segments up to this number. */
  add(lane: number, number: number): void {
    if (number <= (this.#last.get(lane) ?? 0)) return
    this.#last.set(lane, number)
    try {
      this.#replace()
    } catch (error) {
      if (!isFull(error)) throw error
      this.#overwrite()
    }
  }

  get #path(): string {
    return `${this.#folder}/${FILE}`
  }

  #replace(): void {
    replaceFile(this.#disk, this.#path, this.#content())
  }

  /** Where nothing can be made beside it: its block is there, so it takes what it took before. */
  #overwrite(): void {
    const fd = this.#disk.openSync(this.#path, 'r+')
    try {
      writeWhole(this.#disk, fd, this.#content())
      this.#disk.fdatasyncSync(fd)
    } finally {
      this.#disk.closeSync(fd)
    }
  }

  #content(): Buffer {
    return Buffer.from(JSON.stringify(Object.fromEntries(this.#last)).padEnd(FILE_BYTES))
  }
}

/** True for the failure of a disk, or a quota, that has no room left. */
export function isFull(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return code === 'ENOSPC' || code === 'EDQUOT'
}

function read(path: string, disk: Disk): [number, number][] {
  try {
    const said: unknown = JSON.parse(disk.readFileSync(path).toString('utf8'))
    return Object.entries(said as Record<string, number>).map(([lane, last]) => [
      Number(lane),
      last,
    ])
  } catch {
    return []
  }
}
