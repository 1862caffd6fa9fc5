/**
 * One trajectory on its way to somebody: its lines by `seq`, in pieces, and what they come to.
 * Memory holds a piece, or the longest line.
 */
import { createHash } from 'node:crypto'
import { TRAJECTORY_PIECE_BYTES } from '../limits.ts'
import type { StoredRecord } from './jsonl.ts'
import { changed, readLine } from './line-at.ts'
import type { CatalogFiles } from './record-catalog.ts'
import type { LinePlace } from './session-places.ts'
import { countToolCalls } from './tool-calls.ts'

/** What the records of a trajectory come to. Times are epoch s. */
export interface TrajectorySummary {
  readonly records: number
  readonly turns: number
  /** Records whose status is `failure`. */
  readonly failed: number
  readonly toolCalls: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly firstTime: number
  readonly lastTime: number
}

/** What comes when all pieces have come. */
export interface ReadingEnd {
  readonly summary: TrajectorySummary
  /** In hex, of all pieces. */
  readonly sha256: string
}

/** A piece of the lines, cut anywhere, or the end. */
export type ReadingStep = { readonly bytes: Uint8Array<ArrayBuffer> } | { readonly end: ReadingEnd }

const LINE_BREAK = Buffer.from('\n')

/** Reads the lines that stand at some places. */
export class TrajectoryReading {
  readonly #places: readonly LinePlace[]
  readonly #files: CatalogFiles
  readonly #hash = createHash('sha256')
  #next = 0
  /** What of a line did not go into the piece before. */
  #rest: Buffer = Buffer.alloc(0)
  #summary = {
    records: 0,
    turns: 0,
    failed: 0,
    toolCalls: 0,
    inputTokens: 0,
    outputTokens: 0,
    firstTime: Infinity,
    lastTime: 0,
  }

  constructor(places: readonly LinePlace[], files: CatalogFiles) {
    this.#places = places
    this.#files = files
  }

  /**
   * The next piece; at the end all is closed.
   * @throws RolltapeError `wrong_state` when the files are not as they were.
   */
  next(): ReadingStep {
    const pieces: Buffer[] = []
    let room = TRAJECTORY_PIECE_BYTES
    while (room > 0 && (this.#rest.length > 0 || this.#next < this.#places.length)) {
      if (this.#rest.length === 0) this.#rest = this.#readNext()
      const piece = this.#rest.subarray(0, room)
      this.#rest = this.#rest.subarray(piece.length)
      pieces.push(piece)
      room -= piece.length
    }
    if (pieces.length > 0) return { bytes: Uint8Array.from(Buffer.concat(pieces)) }
    this.close()
    return { end: { summary: this.#summary, sha256: this.#hash.copy().digest('hex') } }
  }

  /** Lets go of the files. */
  close(): void {
    this.#files.close()
  }

  #readNext(): Buffer {
    const place = this.#places[this.#next++]
    if (place === undefined) throw new TypeError('there is no next line')
    const line = readLine(this.#files.of(place.file), place)
    let record: StoredRecord
    try {
      record = JSON.parse(line.toString('utf8')) as StoredRecord
    } catch {
      throw changed()
    }
    if (record.seq !== place.seq) throw changed()
    this.#sumUp(record)
    const whole = Buffer.concat([line, LINE_BREAK])
    this.#hash.update(whole)
    return whole
  }

  #sumUp(record: StoredRecord): void {
    const { turn, status, usage, start_time, end_time } = record
    const sum = this.#summary
    sum.records++
    if ((turn ?? 0) > 0) sum.turns++
    if (status === 'failure') sum.failed++
    sum.toolCalls += countToolCalls(record)
    sum.inputTokens += usage?.normalized.input ?? 0
    sum.outputTokens += usage?.normalized.output ?? 0
    sum.firstTime = Math.min(sum.firstTime, start_time)
    sum.lastTime = Math.max(sum.lastTime, end_time)
  }
}
