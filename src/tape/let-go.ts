/**
 * Which segments were let go by `tape_retain`: of each lane all up to a number, written down before
 * the first of them is removed, so that what is missing is never taken for damage.
 *
 *   let-go.json   {"0":12,"3":4}     lane 0 has let go of 0-000001.tape to 0-000012.tape
 */
import type { Disk } from './disk.ts'
import { realDisk } from './disk.ts'
import { parseSegmentName } from './format.ts'

const FILE = 'let-go.json'

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

  /** Writes down that a lane lets go of all segments up to this number. */
  add(lane: number, number: number): void {
    if (number <= (this.#last.get(lane) ?? 0)) return
    this.#last.set(lane, number)
    const path = `${this.#folder}/${FILE}`
    const bytes = Buffer.from(JSON.stringify(Object.fromEntries(this.#last)))
    this.#disk.removeSync(`${path}.new`)
    const fd = this.#disk.openSync(`${path}.new`, 'wx')
    try {
      const wrote = this.#disk.writeSync(fd, bytes, 0)
      if (wrote < bytes.length) throw new Error(`the disk took ${wrote} of ${bytes.length} bytes`)
      this.#disk.fdatasyncSync(fd)
    } finally {
      this.#disk.closeSync(fd)
    }
    this.#disk.renameSync(`${path}.new`, path)
    this.#disk.syncFolderSync(this.#folder)
  }
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
