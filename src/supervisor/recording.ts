/**
 * A recording from the supervisor's side: its files and lock, what a restart finds in them, and the
 * appender's thread. Opening one leaves it whole: every exchange that an earlier process taped has
 * its record before the first new one is taken.
 */
import { dirname } from 'node:path'
import { RolltapeError, errorText } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import type { TapeRetain } from '../options/retention.ts'
import type { Disk } from '../tape/disk.ts'
import { realDisk } from '../tape/disk.ts'
import { openHmacKey } from '../tape/hmac-key.ts'
import { takeLock } from '../tape/lock.ts'
import { inspectTape, nextSegments } from '../tape/recovery.ts'
import type { Recovery } from '../tape/recovery.ts'
import type { RecordRequests } from '../trajectory/derive.ts'
import type { PartOrder } from '../lane/lane.ts'
import type { ClosedPart } from '../trajectory/appender.ts'
import { annotationsFile } from '../trajectory/annotations.ts'
import type { Annotation, AnnotationInput } from '../trajectory/annotations.ts'
import { nextPart, partFile } from '../trajectory/parts.ts'
import { adoptLines, readCheckpoint } from '../trajectory/adopt.ts'
import type { SessionSum } from '../trajectory/session-sums.ts'
import { SeqSet } from '../trajectory/seq-set.ts'
import { AppenderThread } from './appender-thread.ts'
import type { AppenderClose, AppenderState } from './appender-thread.ts'
import { progressLog } from './log.ts'
import { FreeSpace } from './free-space.ts'
import { derivePending, inspectAside } from './left-behind.ts'
import { RecordedTrajectories } from './recorded-trajectories.ts'
import { SharedTables, makeSharedMemory } from './shared.ts'
import { TapeKeeping } from './tape-keeping.ts'
import { TurnsFile } from './turns.ts'
import type { WatchBatch } from './watched.ts'

/** How often the turns of all sessions are written down. */
const TURNS_MS = 60_000

/** What opening a recording did about what it found. */
export interface RecoveryReport {
  readonly isNew: boolean
  /** Exchanges that got their record now. */
  readonly recovered: number
  /** Of those, exchanges that had not ended when the process died. */
  readonly unended: number
  readonly segments: number
  readonly skippedBytes: number
  readonly tornBytes: number
  /** Bytes of a torn last line that were cut off the `.jsonl`. */
  readonly cutBytes: number
}

/** What opening a recording needs. */
export interface RecordingOptions {
  /** Path of the `.jsonl`. */
  readonly file: string
  readonly workers: number
  /** Whether requests go into the records. Default `full`. */
  readonly requests?: RecordRequests
  /** What is answered is on the disk itself (durability `synced`). */
  readonly synced: boolean
  readonly log: LaneLog
  /** Free space that the disk is to have; 0, the default, is no bound. */
  readonly minFreeBytes?: number
  /** Take a lock that cannot be proven to be left behind. Default false. */
  readonly takeOver?: boolean
  /** What becomes of finished segments. Default: they stay as they are. */
  readonly keep?: { readonly seals: boolean; readonly retain: TapeRetain }
  readonly onTrouble: (message: string) => void
  /** Takes what watchers are told of records. */
  readonly onWatched?: (batch: WatchBatch) => void
}

interface Opened {
  readonly folder: string
  readonly hmacKey: string
  readonly recovery: Recovery
  readonly report: RecoveryReport
  readonly appender: AppenderThread
  readonly turns: TurnsFile
  readonly tables: SharedTables
  readonly trajectories: RecordedTrajectories
}

/** The lanes as a rotation needs them. */
export interface PartLanes {
  /** Resolves once what had ended has its record in every lane; what ends later waits. */
  endPart(order: PartOrder): Promise<unknown>
  beginPart(folder: string): Promise<unknown>
}

/** What a rotation did. */
export interface Rotation {
  readonly closed: ClosedPart
  /** The file that is written from now on. */
  readonly file: string
  readonly part: number
}

/** The tape folder that belongs to a `.jsonl`. */
export function tapeFolderOf(file: string): string {
  return `${file.replace(/\.jsonl$/, '')}.tape`
}

/** An open recording. */
export class Recording {
  readonly folder: string
  readonly recordingId: string
  /** What clients' credentials are digested with, in hex. */
  readonly hmacKey: string
  /** Exchange numbers and turns. */
  readonly tables: SharedTables
  readonly report: RecoveryReport
  /** What has finished, what was said about it, and who has got it. */
  readonly trajectories: RecordedTrajectories
  readonly #options: RecordingOptions
  readonly #appender: AppenderThread
  readonly #turns: TurnsFile
  readonly #unlock: () => void
  readonly #timer: NodeJS.Timeout
  #part: number
  /** Why records that dead lanes left are not made; null when all are. */
  #left: string | null = null
  readonly #nextSegments: Map<number, number>
  #recovering: Promise<void> = Promise.resolve()
  readonly #keeping: TapeKeeping
  readonly #space: FreeSpace

  private constructor(opened: Opened, options: RecordingOptions, unlock: () => void) {
    this.folder = opened.folder
    this.hmacKey = opened.hmacKey
    this.recordingId = opened.recovery.recordingId
    this.report = opened.report
    this.tables = opened.tables
    this.#part = nextPart(options.file)
    this.trajectories = opened.trajectories
    this.#nextSegments = new Map(opened.recovery.nextSegments)
    this.#options = options
    this.#appender = opened.appender
    this.#turns = opened.turns
    this.#unlock = unlock
    if (options.onWatched !== undefined) this.#appender.onWatched = options.onWatched
    this.#turns.save(this.tables.seq)
    this.#timer = setInterval(() => void this.#saveTurns(), TURNS_MS)
    this.#timer.unref()
    this.#space = new FreeSpace({
      folder: this.folder,
      minBytes: options.minFreeBytes ?? 0,
      tables: this.tables,
      log: options.log,
      disk: realDisk,
    })
    this.#keeping = new TapeKeeping({
      ...(options.keep ?? { seals: false, retain: { kind: 'keep' } }),
      folder: this.folder,
      derived: (durable) => this.#appender.derived(durable),
      turnsSeq: (least) => this.#turns.goodUpTo(least),
      finishedBefore: () => this.#nextSegments,
      log: options.log,
      onTrouble: options.onTrouble,
    })
  }

  /**
   * Opens a recording, new or not.
   * @throws RolltapeError `recording_unwritable` or `recording_locked`.
   */
  static async open(options: RecordingOptions): Promise<Recording> {
    const folder = tapeFolderOf(options.file)
    const disk = realDisk
    const unlock = prepare(options, folder, disk)
    try {
      return new Recording(await recover(options, folder, disk), options, unlock)
    } catch (error) {
      unlock()
      throw error
    }
  }

  /** The file of annotations. */
  get annotationsFile(): string {
    return annotationsFile(this.#options.file)
  }

  /** Writes down what somebody says, see {@link RecordedTrajectories.annotate}. */
  annotate(input: AnnotationInput): Annotation {
    return this.trajectories.annotate(input)
  }

  /** What sessions come to since this was asked last. */
  sessionSums(): Promise<readonly SessionSum[]> {
    return this.#appender.sessionSums()
  }

  /** The part that is being written, from 1. */
  get part(): number {
    return this.#part
  }

  /**
   * Ends the part with the lanes' help and begins the next: what had ended before is in the closed
   * file, what ends later in the new one. One rotation at a time.
   * @throws RolltapeError `tape_unavailable` when it cannot be; then the part goes on.
   */
  async rotate(lanes: PartLanes): Promise<Rotation> {
    const { file } = this.#options
    const order = { folder: this.folder, part: this.#part + 1 }
    try {
      await lanes.endPart(order)
      // Somebody may have put a file of that name there.
      const part = Math.max(this.#part, nextPart(file))
      const closed = await this.#appender.rotate(partFile(file, part))
      this.#part = part + 1
      return { closed, file, part: this.#part }
    } finally {
      await lanes.beginPart(this.folder)
    }
  }

  /** Thread id of the appender. */
  get appender(): number {
    return this.#appender.id
  }

  /** Path of the `.jsonl`. */
  get file(): string {
    return this.#options.file
  }

  /**
   * How far its records are.
   * @throws when the appender has ended.
   */
  records(): Promise<AppenderState> {
    return this.#appender.state()
  }

  /** Whether watchers are to be told of records. */
  watch(watched: boolean): void {
    this.#appender.watch(watched)
  }

  /**
   * Resolves once what a dead lane left has its records.
   * @throws RolltapeError `tape_unavailable` when they cannot be made.
   */
  async recovered(): Promise<void> {
    await this.#recovering
    if (this.#left !== null) throw new RolltapeError('tape_unavailable', this.#left)
  }

  /** Number of the first segment a new lane writes. */
  firstSegment(lane: number): number {
    return this.#nextSegments.get(lane) ?? 1
  }

  /**
   * A lane has ended too early. The next one writes to segments of its own, so it may start at once;
   * the records that were left unmade are made beside it. `alone`: there is no other lane.
   */
  resume(lane: number, alone: boolean): void {
    const next = nextSegments(this.folder).get(lane) ?? 1
    this.#nextSegments.set(lane, next)
    // Numbers that the lane had taken and not written are known only where no other has any.
    const settled = alone ? this.tables.seq : 0
    this.#recovering = this.#recovering
      .then(() => this.#recover(new Map([[lane, next]]), settled))
      .catch((error: unknown) => {
        this.#left = `records of a lane that died are not made: ${errorText(error)}`
        this.#options.onTrouble(`${this.#left}; the next start makes them`)
      })
  }

  async #saveTurns(): Promise<void> {
    const derived = await this.#appender.derived().catch(() => [])
    this.#turns.save(SeqSet.from(derived).floor)
  }

  async #recover(before: ReadonlyMap<number, number>, seq: number): Promise<void> {
    const { folder, appender } = this
    const { workers, log, requests = 'full' } = this.#options
    const derived = await this.#appender.derived()
    const recovery = await inspectAside({ folder, derived, before })
    const lost = await derivePending(recovery, { folder, appender, workers, log, requests })
    if (lost > 0) throw new Error(`${lost} could not be made or written`)
    // What another one has left, and could not be made, is not settled by this.
    if (seq > 0 && this.#left === null) this.#appender.settle(seq)
  }

  /**
   * Ends the appender (all lanes must have ended before) and gives the lock back. What could not
   * be written is in `trouble`; null when all was.
   */
  async close(): Promise<AppenderClose> {
    clearInterval(this.#timer)
    this.#space.close()
    try {
      await this.#keeping.close()
      await this.trajectories.close()
      await this.#recovering
      const { lines, trouble } = await this.#appender.close()
      const troubles = [this.#left, trouble, this.#turns.save(this.tables.seq)].filter(
        (one) => one !== null,
      )
      return { lines, trouble: troubles.join('; ') || null }
    } finally {
      this.#unlock()
    }
  }
}

function prepare(
  { file, takeOver = false, log }: RecordingOptions,
  folder: string,
  disk: Disk,
): () => void {
  try {
    disk.makeFolderSync(dirname(file))
    disk.closeSync(disk.openSync(file, 'a'))
    disk.makeFolderSync(folder)
    return takeLock(folder, disk, takeOver, (held) => log.warn({ folder }, `taken over: ${held}`))
  } catch (cause) {
    if (cause instanceof RolltapeError) throw cause
    const message = `cannot record to ${file}: ${errorText(cause)}`
    throw new RolltapeError('recording_unwritable', message, {
      cause,
      hint: 'choose a --recording-file in a folder that this user may write to',
    })
  }
}

async function recover(
  { file, workers, requests = 'full', synced, log, onTrouble }: RecordingOptions,
  folder: string,
  disk: Disk,
): Promise<Opened> {
  const hmacKey = openHmacKey(folder, disk)
  const tables = new SharedTables(makeSharedMemory())
  const adopted = await adoptLines(file, readCheckpoint(`${folder}/derived.json`, disk), disk)
  const derived = SeqSet.from(adopted.checkpoint.derived)
  const turns = new TurnsFile(`${folder}/turns`, tables, disk, onTrouble)
  const turnsSeq = turns.load()
  const recovery = inspectTape({
    folder,
    disk,
    hasRecord: (seq) => derived.has(seq),
    settledSeq: Math.min(derived.floor, turnsSeq),
    onTurn: (session, turn) => tables.raiseTurn(session, turn),
    onProgress: progressLog(log, 'reading the tape'),
  })
  tables.seq = Math.max(recovery.lastSeq, derived.max, turnsSeq)
  const files = { jsonl: file, checkpoint: `${folder}/derived.json`, sidecar: true }
  const { recordingId } = recovery
  const recordBytes = async (): Promise<number> => {
    const state = appender.state().catch((cause: unknown) => {
      throw new RolltapeError('tape_unavailable', errorText(cause), { cause })
    })
    return (await state).bytes
  }
  const told = { file, recordingId, tables, synced, recordBytes }
  const trajectories = await RecordedTrajectories.open(told)
  const appender = await AppenderThread.start(files, adopted.checkpoint, onTrouble)
  try {
    const pending = { folder, appender: appender.id, workers, log, requests }
    const lost = await derivePending(recovery, pending)
    // Numbers that a crash took with it are no holes for the next start to look into.
    if (lost === 0) appender.settle(tables.seq)
  } catch (error) {
    await appender.terminate()
    throw error
  }
  const { segments, skippedBytes, tornBytes, unreadable } = recovery.report
  for (const reason of unreadable) log.warn({}, reason)
  const report = {
    isNew: recovery.isNew,
    recovered: recovery.pending.length,
    unended: recovery.unended,
    segments,
    skippedBytes,
    tornBytes,
    cutBytes: adopted.cutBytes,
  }
  return { folder, hmacKey, recovery, report, appender, turns, tables, trajectories }
}
