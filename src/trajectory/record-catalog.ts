/**
 * Where a recording's records stand, session by session, while it is written: what has been added
 * since the last look is read, and nothing twice. Parts that rotations close keep their places.
 *
 * Files are told apart by their inode, as a part gets another name when it is closed.
 */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs'
import { RolltapeError } from '../errors.ts'
import { INDEX_STRETCH_BYTES, SOURCE_READS_MAX } from '../limits.ts'
import { IGNORE_NOTHING } from '../replay/canonical.ts'
import { AT, PACKED_WORDS, readLong } from '../replay/packed.ts'
import type { PackedRecords } from '../replay/packed.ts'
import { scanStretch } from '../replay/scan-stretch.ts'
import { partsUpTo } from './parts.ts'
import { SessionPlaces } from './session-places.ts'
import type { LinePlace } from './session-places.ts'

interface KnownFile {
  readonly ino: number
  readonly dev: number
  path: string
  /** How far it has been read. */
  end: number
}

/** Files that are read from, by their numbers. */
export class CatalogFiles {
  readonly #opened: Map<number, number>
  readonly #pathOf: (file: number) => string

  constructor(opened: Map<number, number>, pathOf: (file: number) => string) {
    this.#opened = opened
    this.#pathOf = pathOf
  }

  /** Its descriptor. */
  of(file: number): number {
    const known = this.#opened.get(file)
    if (known !== undefined) return known
    const fd = openSync(this.#pathOf(file), 'r')
    this.#opened.set(file, fd)
    return fd
  }

  /** Lets go of them all. */
  close(): void {
    for (const fd of this.#opened.values()) closeSync(fd)
    this.#opened.clear()
  }
}

/** An index that follows a recording. */
export class RecordCatalog {
  readonly #path: string
  #files: KnownFile[] = []
  #places = new SessionPlaces()
  #last: Promise<void> = Promise.resolve()

  constructor(path: string) {
    this.#path = path
  }

  /**
   * Reads on, up to so many bytes of the file that is written: behind them a line may be cut back.
   * @throws RolltapeError `record_malformed`; what reading throws.
   */
  refresh(bytes: number): Promise<void> {
    const done = this.#last.then(() => this.#refresh(bytes))
    this.#last = done.catch(() => undefined)
    return done
  }

  /** The records of a session up to this number, by their numbers, each once. */
  placesOf(session: string, seqMax: number): LinePlace[] {
    const places = this.#places.of(session).filter(({ seq }) => seq <= seqMax)
    places.sort((a, b) => a.seq - b.seq)
    return places.filter(({ seq }, at) => seq !== places[at - 1]?.seq)
  }

  /**
   * The files of some places, to be read. The one that is written is opened now, as it gets another
   * name when its part is closed; undefined when it just has: then the next look tells.
   */
  open(places: readonly LinePlace[]): CatalogFiles | undefined {
    const files = this.#files
    const opened = new Map<number, number>()
    const written = files.findIndex(({ path }) => path === this.#path)
    if (places.some(({ file }) => file === written)) {
      const fd = openSync(this.#path, 'r')
      opened.set(written, fd)
      if (fstatSync(fd).ino !== files[written]?.ino) {
        closeSync(fd)
        return undefined
      }
    }
    return new CatalogFiles(opened, (file) => files[file]?.path ?? '')
  }

  /** What it has read is not what is there: the next look begins anew. */
  forget(): void {
    this.#files = []
    this.#places = new SessionPlaces()
  }

  async #refresh(bytes: number): Promise<void> {
    for (let tries = 1; ; tries++) {
      const paths = partsUpTo(this.#path)
      let isSame = true
      for (const path of paths) isSame &&= await this.#readOn(path, bytes)
      if (isSame && partsUpTo(this.#path).length === paths.length) return
      if (tries < SOURCE_READS_MAX) continue
      throw new RolltapeError('wrong_state', 'parts are closed faster than they can be read')
    }
  }

  /** Reads what a file has more than before; false when another one has taken its path meanwhile. */
  async #readOn(path: string, bytes: number): Promise<boolean> {
    const { ino, dev, size } = statSync(path)
    const to = path === this.#path ? Math.min(size, bytes) : size
    const number = this.#numberOf({ ino, dev, path, end: 0 }, size)
    const file = this.#files[number]
    if (file === undefined) return false
    while (file.end < to) {
      const stretch = { path, from: file.end, to: Math.min(to, file.end + INDEX_STRETCH_BYTES) }
      const { records, range, malformed } = scanStretch({ ...stretch, size: to }, IGNORE_NOTHING)
      if (statSync(path).ino !== ino) return false
      if (malformed !== undefined) {
        const { offset, why } = malformed
        throw new RolltapeError('record_malformed', `the line at byte ${offset} of ${path} ${why}`)
      }
      this.#take(records, number)
      // What is left is a line without its break.
      if (range.to <= file.end) break
      file.end = range.to
      await new Promise(setImmediate)
    }
    return true
  }

  #numberOf(file: KnownFile, size: number): number {
    const isSame = ({ ino, dev, end }: KnownFile): boolean =>
      ino === file.ino && dev === file.dev && end <= size
    const known = this.#files.findLastIndex(isSame)
    const found = this.#files[known]
    if (found === undefined) return this.#files.push(file) - 1
    found.path = file.path
    return known
  }

  #take({ words, names }: PackedRecords, file: number): void {
    for (let at = 0; at < words.length; at += PACKED_WORDS) {
      this.#places.add(names.sessions[words[at + AT.session] ?? 0] ?? 'default', {
        file,
        offset: readLong(words, at + AT.lineOffset),
        length: words[at + AT.lineBytes] ?? 0,
        seq: readLong(words, at + AT.seq),
      })
    }
  }
}
