/**
 * The trajectories of one recording, from the main thread: what was said about its sessions, which
 * have finished or are frozen, how far consumers have got, and a thread that reads them.
 *
 * A token is the recording's name and a place in its file of annotations.
 */
import { hash } from 'node:crypto'
import { RolltapeError } from '../errors.ts'
import { annotationsFile } from '../trajectory/annotations.ts'
import type { Annotation, AnnotationInput, Finish, Snapshot } from '../trajectory/annotations.ts'
import type { FinishedPage } from '../trajectory/annotation-catalog.ts'
import { ConsumerPlaces, consumersFile } from '../trajectory/consumers.ts'
import { SessionLog } from '../trajectory/session-log.ts'
import type { Progress } from '../trajectory/session-log.ts'
import type { Extent } from '../trajectory/trajectory-library.ts'
import type { SessionNote } from '../trajectory/session-notes.ts'
import type { ReadingStep } from '../trajectory/trajectory-reading.ts'
import { LibraryThread } from './library-thread.ts'
import type { SharedTables } from './shared.ts'

/** What the recording is, to its trajectories. */
export interface TrajectoriesOptions {
  /** Path of the `.jsonl`. */
  readonly file: string
  readonly recordingId: string
  readonly tables: SharedTables
  /** What is written is on the disk itself before it is answered. */
  readonly synced: boolean
  /** Bytes of the file of records that hold whole lines. */
  readonly recordBytes: () => Promise<number>
}

/** A trajectory that is being read; close it unless its end has come. */
export interface OpenTrajectory {
  readonly note: SessionNote
  next(): Promise<ReadingStep>
  close(): void
}

/** The trajectories of one recording. */
export class RecordedTrajectories {
  readonly #options: TrajectoriesOptions
  readonly #log: SessionLog
  readonly #consumers: ConsumerPlaces
  readonly #library: LibraryThread

  private constructor(options: TrajectoriesOptions, log: SessionLog) {
    const { file, recordingId, tables } = options
    const annotations = annotationsFile(file)
    this.#options = options
    this.#log = log
    const { end } = log
    this.#consumers = new ConsumerPlaces({ path: consumersFile(file), recordingId, end })
    this.#library = new LibraryThread({ records: file, annotations })
    for (const session of log.frozen()) tables.setFrozen(session, true)
  }

  /**
   * Takes up what an earlier process has left: sessions that are frozen take no calls from now on.
   * @throws RolltapeError `record_malformed`, `recording_unwritable`.
   */
  static async open(options: TrajectoriesOptions): Promise<RecordedTrajectories> {
    const { file, synced } = options
    const log = await SessionLog.open({ path: annotationsFile(file), synced })
    return new RecordedTrajectories(options, log)
  }

  /**
   * Writes down what somebody says about a session of this recording.
   * @throws RolltapeError `not_found` for a session it has no generation request of;
   *   `tape_unavailable`, `over_capacity`.
   */
  annotate(input: AnnotationInput): Annotation {
    if (!this.#options.tables.hasSession(input.session)) {
      throw new RolltapeError(
        'not_found',
        `the recording has no generation request of session ${input.session}`,
        { hint: 'ListSessions tells which there are' },
      )
    }
    return this.#log.annotate(input, this.#progress(input.session))
  }

  /**
   * A session is closed: it has finished, unless it had before and nothing has come since, or it has
   * no generation request here; then undefined.
   * @throws RolltapeError `tape_unavailable`, `over_capacity`.
   */
  finish(session: string): Finish | undefined {
    if (!this.#options.tables.hasSession(session)) return undefined
    return this.#log.finish(session, this.#progress(session))
  }

  /** What a session is frozen as. */
  snapshotOf(session: string): Snapshot | undefined {
    return this.#log.snapshotOf(session)
  }

  /** Calls of the session are refused from now on, or taken again. */
  setFrozen(session: string, frozen: boolean): void {
    this.#options.tables.setFrozen(session, frozen)
  }

  /**
   * Makes a session's snapshot and writes it down. No call of it may come any more, and all that came
   * must have their records.
   * @throws RolltapeError `not_found` when it has none; `tape_unavailable`, `over_capacity`, or what
   *   reading them throws.
   */
  async freeze(session: string): Promise<Snapshot> {
    const digest = await this.#library.ask('digest', { ...(await this.#extent()), session })
    if (digest === undefined) throw noRecord(session)
    const finish = this.#log.next(session, this.#progress(session))
    const version = finish?.version ?? this.#log.versionOf(session)
    const { sha256, summary } = digest
    const named = `${this.#options.recordingId}\n${session}\n${version}\n${sha256}`
    const id = hash('sha256', named).slice(0, ID_DIGITS)
    const snapshot = { id, version, records: summary.records, sha256 }
    this.#log.freeze(session, snapshot, finish)
    return snapshot
  }

  /** Where the last finish stands; 0 when there is none. */
  get lastPlace(): number {
    return this.#log.lastPlace
  }

  /** True once the recording is closed. */
  get isClosed(): boolean {
    return this.#log.isClosed
  }

  /** Resolves at the next finish, when the recording is closed, or when the signal fires. */
  more(signal: AbortSignal): Promise<void> {
    return this.#log.more(signal)
  }

  /** Sessions that have finished behind a place, in the order in which they did. */
  async finished(after: number, max: number): Promise<FinishedPage> {
    return this.#library.ask('finished', { ...(await this.#extent()), after, max })
  }

  /**
   * Begins to read a session's records up to a number; undefined when there are none.
   * @throws RolltapeError `over_capacity`, or what reading throws.
   */
  async read(session: string, seqMax = Infinity): Promise<OpenTrajectory | undefined> {
    const asked = { ...(await this.#extent()), session, seqMax }
    const opened = await this.#library.ask('open', asked)
    if (opened === undefined) return undefined
    const { handle, note } = opened
    return {
      note,
      next: () => this.#library.ask('next', handle),
      // A thread that has ended has closed all.
      close: () => void this.#library.ask('close', handle).catch(() => undefined),
    }
  }

  /** Behind what a consumer is to be given trajectories. */
  placeOf(consumer: string): number {
    return this.#consumers.placeOf(consumer)
  }

  /**
   * A consumer has got so far; its place then.
   * @throws RolltapeError `over_capacity`, `tape_unavailable`.
   */
  acknowledge(consumer: string, place: number): number {
    return this.#consumers.advance(consumer, place)
  }

  /**
   * Begins anew with a consumer.
   * @throws RolltapeError `tape_unavailable`.
   */
  forget(consumer: string): void {
    this.#consumers.forget(consumer)
  }

  /** The token of a place. */
  token(place: number): string {
    return `${this.#options.recordingId}.${place}`
  }

  /**
   * The place that a token stands for.
   * @throws RolltapeError `bad_argument`, naming the field.
   */
  place(token: string, field: string): number {
    const cut = token.lastIndexOf('.')
    const [recording, digits] = [token.slice(0, cut), token.slice(cut + 1)]
    const isOne = cut > 0 && /^\d{1,15}$/.test(digits)
    if (isOne && recording === this.#options.recordingId && Number(digits) <= this.#log.end) {
      return Number(digits)
    }
    const what = isOne && recording !== this.#options.recordingId ? 'of another recording' : 'none'
    throw new RolltapeError('bad_argument', `${field} is ${what}`, {
      hint: 'give one that a call about this recording has given',
    })
  }

  /** Lets go of all; who waits is told. */
  async close(): Promise<void> {
    this.#log.close()
    await this.#library.close()
  }

  #progress(session: string): Progress {
    const { tables } = this.#options
    return { turns: tables.turnsOf(session), seq: tables.seq }
  }

  async #extent(): Promise<Extent> {
    const recordBytes = await this.#options.recordBytes()
    return { recordBytes, annotationBytes: this.#log.end }
  }
}

const ID_DIGITS = 32

/** The recording has nothing of a session. */
export function noRecord(session: string): RolltapeError {
  return new RolltapeError('not_found', `the recording has no record of session ${session}`)
}
