/**
 * Where a recording's annotations stand: those of each session, and the lines that say that one has
 * finished, in their order. Reads on from where it was.
 */
import { closeSync, openSync } from 'node:fs'
import { TRAJECTORY_PIECE_BYTES } from '../limits.ts'
import type { Annotation, Finish, Snapshot } from './annotations.ts'
import { readRecordLines } from './jsonl.ts'
import { readLine } from './line-at.ts'
import { NO_NOTE, noteAfter } from './session-notes.ts'
import type { SessionNote } from './session-notes.ts'
import { SessionPlaces } from './session-places.ts'
import type { LinePlace } from './session-places.ts'

/** A session that has finished. */
export interface FinishedSession extends Finish {
  readonly session: string
  /** Epoch s. */
  readonly at: number
  /** Where its line ends; who has got so far begins there. */
  readonly place: number
  readonly note: SessionNote
  readonly frozen: Snapshot | null
}

/** Some of those that have finished. */
export interface FinishedPage {
  readonly finished: readonly FinishedSession[]
  /** False when there are more behind them. */
  readonly isLast: boolean
}

/** An index that follows a file of annotations. */
export class AnnotationCatalog {
  readonly #path: string
  readonly #places = new SessionPlaces()
  /** Lines of finishes: where they begin and end. */
  readonly #offsets: number[] = []
  readonly #ends: number[] = []
  #end = 0
  #last: Promise<void> = Promise.resolve()

  constructor(path: string) {
    this.#path = path
  }

  /** Reads on up to this byte, which is the end of a line. */
  refresh(end: number): Promise<void> {
    const done = this.#last.then(() => this.#refresh(end))
    this.#last = done.catch(() => undefined)
    return done
  }

  /** The sessions that have finished behind a place, at most so many, and of about 1 MiB. */
  after(place: number, max: number): FinishedPage {
    const from = this.#indexAfter(place)
    if (from >= this.#ends.length || max === 0) {
      return { finished: [], isLast: from >= this.#ends.length }
    }
    const finished: FinishedSession[] = []
    const fd = openSync(this.#path, 'r')
    try {
      let bytes = 0
      for (let at = from; at < this.#ends.length && finished.length < max; at++) {
        const one = this.#finishedAt(fd, at)
        finished.push(one)
        bytes += JSON.stringify(one.note).length
        if (bytes >= TRAJECTORY_PIECE_BYTES) break
      }
    } finally {
      closeSync(fd)
    }
    return { finished, isLast: from + finished.length >= this.#ends.length }
  }

  /** What was said about a session so far. */
  noteOf(session: string): SessionNote {
    const places = this.#places.of(session)
    if (places.length === 0) return NO_NOTE
    const fd = openSync(this.#path, 'r')
    try {
      return noteAt(fd, places)
    } finally {
      closeSync(fd)
    }
  }

  #finishedAt(fd: number, at: number): FinishedSession {
    const [offset = 0, place = 0] = [this.#offsets[at], this.#ends[at]]
    const line = lineAt(fd, { offset, length: place - offset - 1 })
    const { session, at: atS, finished = NO_FINISH } = line
    const note = noteAt(fd, this.#places.of(session))
    return { ...finished, session, at: atS, place, note, frozen: note.frozen }
  }

  /** Which finish is the first behind a place. */
  #indexAfter(place: number): number {
    let [low, high] = [0, this.#ends.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#ends[middle] ?? 0) <= place) low = middle + 1
      else high = middle
    }
    return low
  }

  async #refresh(end: number): Promise<void> {
    if (this.#end >= end) return
    for await (const { record, offset, length } of readRecordLines(this.#path, {
      start: this.#end,
    })) {
      const lineEnd = offset + length + 1
      if (lineEnd > end) return
      const { session, finished } = record as unknown as Annotation
      this.#places.add(session, { file: 0, offset, length, seq: 0 })
      if (finished !== undefined) {
        this.#offsets.push(offset)
        this.#ends.push(lineEnd)
      }
      this.#end = lineEnd
    }
  }
}

const NO_FINISH: Finish = { version: 0, turns: 0, last_seq: 0, since_seq: 0 }

function noteAt(fd: number, places: readonly LinePlace[]): SessionNote {
  return places.reduce((note, place) => noteAfter(note, lineAt(fd, place)), NO_NOTE)
}

function lineAt(fd: number, place: Pick<LinePlace, 'offset' | 'length'>): Annotation {
  return JSON.parse(readLine(fd, place).toString('utf8')) as Annotation
}
