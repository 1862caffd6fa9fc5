/**
 * Which sessions of a recording have finished, and which are frozen: what its annotations say, read
 * once at the start and kept from then on. Only the main thread writes them.
 *
 * A place is a byte offset in the file of annotations, behind a line that says that a session has
 * finished. Places grow, so who is told of finishes in their order keeps one number.
 */
import { RolltapeError, errorText } from '../errors.ts'
import { FINISHED_SESSIONS_MAX } from '../limits.ts'
import { AnnotationWriter } from './annotations.ts'
import type { Annotation, AnnotationInput, Finish, SessionMark, Snapshot } from './annotations.ts'
import { readRecordLines } from './jsonl.ts'

/** How far a recording has come in a session. */
export interface Progress {
  /** Turns of the session. */
  readonly turns: number
  /** Number of the last exchange, of whatever session. */
  readonly seq: number
}

/** What a log is made of. */
export interface SessionLogOptions {
  readonly path: string
  /** What is written is on the disk itself before it is answered. */
  readonly synced: boolean
  /** {@link FINISHED_SESSIONS_MAX} unless given. */
  readonly finishedMax?: number
}

interface Finished extends Finish {
  readonly frozen: Snapshot | undefined
}

/** The annotations of one recording, and what they say of finished sessions. */
export class SessionLog {
  readonly #writer: AnnotationWriter
  readonly #finishedMax: number
  readonly #finished = new Map<string, Finished>()
  readonly #waiting = new Set<() => void>()
  #end = 0
  #lastPlace = 0
  #closed = false

  private constructor({ path, synced, finishedMax }: SessionLogOptions) {
    this.#writer = new AnnotationWriter(path, synced)
    this.#finishedMax = finishedMax ?? FINISHED_SESSIONS_MAX
  }

  /**
   * Reads what there is.
   * @throws RolltapeError `record_malformed`, `recording_unwritable` when it cannot be read.
   */
  static async open(options: SessionLogOptions): Promise<SessionLog> {
    const log = new SessionLog(options)
    try {
      for await (const { record, offset, length, closed } of readRecordLines(options.path)) {
        // A last line without its break was never answered, and is cut off by the next one.
        if (closed) log.#take(record as unknown as Annotation, offset + length + 1)
      }
    } catch (cause) {
      if (cause instanceof RolltapeError) throw cause
      const message = `cannot read ${options.path}: ${errorText(cause)}`
      throw new RolltapeError('recording_unwritable', message, { cause })
    }
    return log
  }

  /** Bytes of the file that hold whole lines. */
  get end(): number {
    return this.#end
  }

  /** The place of the last finish; 0 when there is none. */
  get lastPlace(): number {
    return this.#lastPlace
  }

  /** True once nothing is written any more. */
  get isClosed(): boolean {
    return this.#closed
  }

  /** The sessions that are frozen. */
  *frozen(): Generator<string, void, undefined> {
    for (const [session, { frozen }] of this.#finished) if (frozen !== undefined) yield session
  }

  /** What a session is frozen as. */
  snapshotOf(session: string): Snapshot | undefined {
    return this.#finished.get(session)?.frozen
  }

  /** The finish that a session comes to now; undefined when nothing has come since the last one. */
  next(session: string, { turns, seq }: Progress): Finish | undefined {
    const last = this.#finished.get(session)
    if (last !== undefined && (last.turns === turns || last.frozen !== undefined)) return undefined
    const [version, since_seq] = last === undefined ? [1, 0] : [last.version + 1, last.last_seq]
    return { version, turns, last_seq: seq, since_seq }
  }

  /**
   * Writes down what is said about a session; one that is done has finished.
   * @throws RolltapeError `tape_unavailable`, `over_capacity`, like the next two; `draining` when it is
   *   closed.
   */
  annotate(input: AnnotationInput, progress: Progress): Annotation {
    const finished = input.done === true ? this.next(input.session, progress) : undefined
    return this.#append({ ...input, ...(finished && { finished }) })
  }

  /**
   * Writes down that a session is closed; undefined when it had finished already, and nothing has
   * come since.
   * @throws RolltapeError `tape_unavailable`, `over_capacity`.
   */
  finish(session: string, progress: Progress): Finish | undefined {
    const finished = this.next(session, progress)
    if (finished !== undefined) this.#append({ session, closed: true, finished })
    return finished
  }

  /**
   * Writes down that a session is frozen.
   * @throws RolltapeError `tape_unavailable`, `over_capacity`.
   */
  freeze(session: string, frozen: Snapshot, finished: Finish | undefined): void {
    this.#append({ session, closed: true, ...(finished && { finished }), frozen })
  }

  /** How often a session has finished. */
  versionOf(session: string): number {
    return this.#finished.get(session)?.version ?? 0
  }

  /** Resolves at the next finish, at the end of the log, or when the signal fires. */
  async more(signal: AbortSignal): Promise<void> {
    if (this.#closed || signal.aborted) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.add(resolve)
    signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
    this.#waiting.delete(resolve)
  }

  /** Closes the file; who waits is told. */
  close(): void {
    this.#closed = true
    this.#writer.close()
    for (const wake of this.#waiting) wake()
  }

  #append(line: AnnotationInput & SessionMark): Annotation {
    if (this.#closed) throw new RolltapeError('draining', 'the recording is closed')
    const isNew = line.finished !== undefined && !this.#finished.has(line.session)
    if (isNew && this.#finished.size >= this.#finishedMax) {
      const message = `${this.#finishedMax} sessions have finished, which is the most`
      throw new RolltapeError('over_capacity', message, { hint: 'record into another file' })
    }
    const annotation = this.#writer.append(line)
    this.#take(annotation, this.#writer.bytes)
    if (line.finished !== undefined) for (const wake of this.#waiting) wake()
    return annotation
  }

  #take({ session, finished, frozen }: Annotation, end: number): void {
    this.#end = end
    if (finished !== undefined) this.#lastPlace = end
    const last = this.#finished.get(session)
    const finish = finished ?? last
    if (finish === undefined || (finished === undefined && frozen === undefined)) return
    const { version, turns, last_seq, since_seq } = finish
    const kept = { version, turns, last_seq, since_seq, frozen: frozen ?? last?.frozen }
    this.#finished.set(session, kept)
  }
}
