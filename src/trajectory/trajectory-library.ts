/**
 * The trajectories of one recording, for whoever asks over a port: which have finished, what was said
 * about them, their lines piece by piece, their digest. It has a thread of its own, as a recording is
 * large and whoever writes it must not wait.
 */
import { RolltapeError } from '../errors.ts'
import { SOURCE_READS_MAX, TRAJECTORIES_READ_MAX } from '../limits.ts'
import { AnnotationCatalog } from './annotation-catalog.ts'
import type { FinishedPage } from './annotation-catalog.ts'
import { changed } from './line-at.ts'
import { RecordCatalog } from './record-catalog.ts'
import type { SessionNote } from './session-notes.ts'
import { TrajectoryReading } from './trajectory-reading.ts'
import type { ReadingEnd, ReadingStep } from './trajectory-reading.ts'

/** How far the files hold whole lines. */
export interface Extent {
  /** Bytes of the file of records that is written. */
  readonly recordBytes: number
  readonly annotationBytes: number
}

/** A trajectory that is asked for. */
export interface ReadingAsked extends Extent {
  readonly session: string
  /** Records with higher numbers are left out; Infinity for none. */
  readonly seqMax: number
}

/** A trajectory that is being read. */
export interface OpenReading {
  readonly handle: number
  readonly note: SessionNote
}

/** Every question by name: what goes with it, and what the answer is. */
export interface LibraryQuestions {
  readonly finished: {
    readonly asked: Extent & { readonly after: number; readonly max: number }
    readonly answered: FinishedPage
  }
  /** Undefined when there are no such records. */
  readonly open: { readonly asked: ReadingAsked; readonly answered: OpenReading | undefined }
  readonly next: { readonly asked: number; readonly answered: ReadingStep }
  readonly close: { readonly asked: number; readonly answered: void }
  /** What all records of a session come to; undefined when there are none. */
  readonly digest: {
    readonly asked: Extent & { readonly session: string }
    readonly answered: ReadingEnd | undefined
  }
}

/** Name of a question. */
export type LibraryQuestion = keyof LibraryQuestions

/** What answers each question. */
export type LibraryAnswers = {
  readonly [Q in LibraryQuestion]: (
    asked: LibraryQuestions[Q]['asked'],
  ) => Promise<LibraryQuestions[Q]['answered']> | LibraryQuestions[Q]['answered']
}

/** Where a recording's files are. */
export interface LibraryFiles {
  readonly records: string
  readonly annotations: string
}

/** Answers questions about one recording. */
export class TrajectoryLibrary implements LibraryAnswers {
  readonly #records: RecordCatalog
  readonly #annotations: AnnotationCatalog
  readonly #open = new Map<number, TrajectoryReading>()
  #lastHandle = 0

  constructor({ records, annotations }: LibraryFiles) {
    this.#records = new RecordCatalog(records)
    this.#annotations = new AnnotationCatalog(annotations)
  }

  /** Those that have finished behind a place. */
  readonly finished = async ({
    after,
    max,
    annotationBytes,
  }: LibraryQuestions['finished']['asked']): Promise<FinishedPage> => {
    await this.#annotations.refresh(annotationBytes)
    return this.#annotations.after(after, max)
  }

  /** Begins to read one; @throws RolltapeError `over_capacity`. */
  readonly open = async (asked: ReadingAsked): Promise<OpenReading | undefined> => {
    if (this.#open.size >= TRAJECTORIES_READ_MAX) {
      const message = `${TRAJECTORIES_READ_MAX} trajectories are being read, which is the most`
      throw new RolltapeError('over_capacity', message, { hint: 'try again in a moment' })
    }
    const handle = ++this.#lastHandle
    const reading = await this.#reading(asked)
    if (reading === undefined) return undefined
    await this.#annotations.refresh(asked.annotationBytes)
    this.#open.set(handle, reading)
    return { handle, note: this.#annotations.noteOf(asked.session) }
  }

  /** The next piece of one; it is closed behind its end. */
  readonly next = (handle: number): ReadingStep => {
    const reading = this.#open.get(handle)
    if (reading === undefined) throw new TypeError(`no trajectory is read under ${handle}`)
    const step = this.#step(reading)
    if ('end' in step) this.#open.delete(handle)
    return step
  }

  /** Reads one no further. */
  readonly close = (handle: number): void => {
    this.#open.get(handle)?.close()
    this.#open.delete(handle)
  }

  /** What all records of a session come to. */
  readonly digest = async (
    asked: LibraryQuestions['digest']['asked'],
  ): Promise<ReadingEnd | undefined> => {
    const reading = await this.#reading({ ...asked, seqMax: Infinity })
    while (reading !== undefined) {
      const step = this.#step(reading)
      if ('end' in step) return step.end
      await new Promise(setImmediate)
    }
    return undefined
  }

  async #reading(asked: ReadingAsked): Promise<TrajectoryReading | undefined> {
    for (let tries = 0; tries < SOURCE_READS_MAX; tries++) {
      await this.#records.refresh(asked.recordBytes)
      const places = this.#records.placesOf(asked.session, asked.seqMax)
      if (places.length === 0) return undefined
      const files = this.#records.open(places)
      if (files !== undefined) return new TrajectoryReading(places, files)
    }
    throw changed()
  }

  #step(reading: TrajectoryReading): ReadingStep {
    try {
      return reading.next()
    } catch (error) {
      reading.close()
      this.#records.forget()
      throw error
    }
  }
}
