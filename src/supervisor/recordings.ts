/**
 * The recording that is written now, and those that were left for it: opened, rotated, left when no
 * lane writes to them any more, closed at the end.
 */
import { setTimeout } from 'node:timers/promises'
import { RolltapeError, errorText } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import { LEAVE_WAIT_MS_MAX } from '../limits.ts'
import type { RolltapeConfig } from '../options.ts'
import type { AppenderState } from './appender-thread.ts'
import type { Lanes } from './lanes.ts'
import type { SessionSum } from '../trajectory/session-sums.ts'
import { Recording, tapeFolderOf } from './recording.ts'
import type { RecoveryReport, Rotation } from './recording.ts'
import type { WatchBatch } from './watched.ts'

/** What recordings need of their supervisor. */
export interface RecordingsOptions {
  readonly config: RolltapeConfig
  readonly log: LaneLog
  readonly lanes: () => Lanes
  /** True while somebody watches exchanges. */
  readonly watched: () => boolean
  readonly onWatched: (batch: WatchBatch) => void
  /** What sessions came to in a recording that is left. */
  readonly onSums: (sums: readonly SessionSum[]) => void
}

/** How closing them went. */
export interface RecordingsClose {
  readonly lines: number
  readonly troubles: readonly string[]
}

/** Recordings of one process. */
export class Recordings {
  /** The one that is written; undefined when nothing is recorded. */
  current: Recording | undefined
  /** Its file. */
  file: string | undefined
  /** What last went wrong with one; empty when nothing did. */
  lastTrouble = ''
  readonly #options: RecordingsOptions
  /** Recordings that were left and are still open, with the lines that are known of. */
  readonly #left = new Map<Recording, number>()
  /** Lines of those that are closed. */
  #leftLines = 0
  readonly #leftTroubles: string[] = []
  #leaving: Promise<unknown> = Promise.resolve()
  /** Those that are being left, by folder. */
  readonly #leavings = new Map<string, Promise<unknown>>()

  constructor(options: RecordingsOptions) {
    this.#options = options
  }

  /**
   * Opens a recording; it is not written to before {@link take}.
   * @throws RolltapeError `recording_unwritable`, `recording_locked`.
   */
  async open(file: string): Promise<Recording> {
    const { config, log, watched, onWatched } = this.#options
    await this.#awaitLeft(file)
    const recording = await Recording.open({
      file,
      workers: config.recordWorkers,
      requests: config.recordRequests,
      synced: config.durability === 'synced',
      minFreeBytes: config.minFreeBytes,
      takeOver: config.takeOver,
      log,
      keep: { seals: config.tapeCompress === 'zstd', retain: config.tapeRetain },
      onTrouble: (message) => {
        this.lastTrouble = message
        log.error({}, message)
      },
      onWatched,
    })
    if (watched()) recording.watch(true)
    this.#sayRecovery(recording.report)
    return recording
  }

  /** One that is just being left is taken up again when that is done, which may take a while. */
  async #awaitLeft(file: string): Promise<void> {
    const leaving = this.#leavings.get(tapeFolderOf(file))
    if (leaving === undefined) return
    await Promise.race([leaving, setTimeout(LEAVE_WAIT_MS_MAX)])
    if (!this.#leavings.has(tapeFolderOf(file))) return
    const message = `${file} has been left just now, and exchanges that run still write to it`
    throw new RolltapeError('recording_locked', message, { hint: 'try again when they have ended' })
  }

  /** From now on this one is written. The one before, for {@link leave}. */
  take(recording: Recording, file: string): Recording | undefined {
    const before = this.current
    this.current = recording
    this.file = file
    if (before !== undefined) this.#left.set(before, 0)
    return before
  }

  /**
   * How far the records are: `lines` over all recordings since the start, the rest of the file that
   * is written now. Undefined when nothing is recorded.
   * @throws when the appender has ended.
   */
  async records(): Promise<AppenderState | undefined> {
    for (const recording of this.#left.keys()) {
      const state = await recording.records().catch(() => undefined)
      // One that has been closed meanwhile has told the last of it.
      if (state !== undefined && this.#left.has(recording)) this.#left.set(recording, state.lines)
    }
    const state = await this.current?.records()
    return state && { ...state, lines: state.lines + this.#linesLeft }
  }

  get #linesLeft(): number {
    return [...this.#left.values()].reduce((sum, lines) => sum + lines, this.#leftLines)
  }

  /** A lane has died: what it left of any recording is made up for, see {@link Recording.resume}. */
  resume(lane: number, alone: boolean): void {
    for (const recording of [this.current, ...this.#left.keys()]) recording?.resume(lane, alone)
  }

  /** Closes a recording once no lane writes to it any more. */
  leave(recording: Recording): void {
    const closed = async (): Promise<void> => {
      await this.#options.lanes().askAll('retired', () => recording.folder)
      this.#options.onSums(await recording.sessionSums())
      const { lines, trouble } = await recording.close()
      this.#left.delete(recording)
      this.#leftLines += lines
      if (trouble !== null) this.#leftTroubles.push(trouble)
    }
    const told = closed().catch((error: unknown) => {
      this.#leftTroubles.push(`${recording.folder} was not closed in order: ${errorText(error)}`)
    })
    this.#leaving = Promise.all([this.#leaving, told])
    this.#leavings.set(recording.folder, told)
    void told.then(() => this.#leavings.delete(recording.folder))
  }

  /**
   * Closes the part that is written and begins the next.
   * @throws RolltapeError `wrong_state` when nothing is recorded, `tape_unavailable`.
   */
  async rotate(): Promise<Rotation> {
    if (this.current === undefined) {
      throw new RolltapeError('wrong_state', 'nothing is recorded, so there is no part to close', {
        hint: 'start rolltape with --recording-file, or switch to a mode that records',
      })
    }
    const lanes = this.#options.lanes()
    return this.current.rotate({
      endPart: (order) => lanes.askAll('endPart', () => order),
      beginPart: (folder) => lanes.askAll('beginPart', () => folder),
    })
  }

  /** Closes them all; all lanes must have ended before. */
  async close(): Promise<RecordingsClose> {
    await this.#leaving
    const closed = await this.current?.close()
    return {
      lines: this.#linesLeft + (closed?.lines ?? 0),
      troubles: [...this.#leftTroubles, closed?.trouble ?? []].flat(),
    }
  }

  #sayRecovery(report: RecoveryReport): void {
    if (report.isNew || report.recovered + report.tornBytes + report.cutBytes === 0) return
    this.#options.log.warn({ ...report }, 'the recording was left unfinished; it is whole again')
  }
}
