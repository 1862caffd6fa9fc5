/**
 * A lane's way onto the tape: its writer, its queue of finished exchanges for derive, and the ends
 * that wait for a disk that fails.
 */
import type { RolltapeConfig } from '../options.ts'
import { SharedTables } from '../supervisor/shared.ts'
import type { LaneCounters, SharedMemory } from '../supervisor/shared.ts'
import type { Disk } from '../tape/disk.ts'
import { realDisk } from '../tape/disk.ts'
import { TapeWriter } from '../tape/writer.ts'
import type { FrameTail } from '../tape/writer.ts'
import type { Arrival, Decided } from './arrival.ts'
import type { LaneLog } from './context.ts'
import { DeriveQueue } from './derive-queue.ts'
import { KeyHmac } from './key-hmac.ts'
import { untaped } from './own-answer.ts'
import type { LaneTape } from './state.ts'
import { Taping } from './taping.ts'
import type { BlockPool } from './taping.ts'

/** The recording a lane writes to. */
export interface LaneRecording {
  readonly folder: string
  readonly recordingId: string
  readonly firstSegment: number
  /** Thread id of the appender. */
  readonly appender: number
  /** The part that is being written, from 1. */
  readonly part: number
  /** Exchange numbers and turns of this recording. */
  readonly memory: SharedMemory
  /** What clients' credentials are digested with, in hex. */
  readonly hmacKey: string
}

/** What a recorder is made from. */
export interface RecorderOptions {
  readonly lane: number
  readonly config: RolltapeConfig
  readonly counters: LaneCounters
  readonly recording: LaneRecording
  readonly log: LaneLog
  readonly disk: Disk | undefined
  /** Told of exchanges that will never be on the tape. */
  readonly onVoid: (seq: number) => void
}

/** Records the exchanges of one lane. */
export class Recorder {
  readonly folder: string
  readonly writer: TapeWriter
  /** The part that exchanges which end now belong to. */
  part: number
  /** Exchange numbers and turns of this recording. */
  readonly tables: SharedTables
  readonly #queue: DeriveQueue
  readonly #keys: KeyHmac
  readonly #counters: LaneCounters
  readonly #log: LaneLog
  readonly #late: FrameTail[] = []
  /** Bytes of the tape that the lane's counter has. */
  #countedBytes = 0
  /** Fulfilled once no part is being ended. */
  #nextPart: Promise<void> = Promise.resolve()
  #onBegun: (() => void) | undefined
  readonly #onVoid: (seq: number) => void
  #named = { segment: 0, name: '' }
  /** The highest segment an exchange is known to have ended in. */
  #segment: number

  constructor(options: RecorderOptions) {
    const { lane, config, counters, recording, log, disk } = options
    const tables = new SharedTables(recording.memory)
    this.folder = recording.folder
    this.part = recording.part
    this.tables = tables
    this.#keys = new KeyHmac(recording.hmacKey)
    this.#counters = counters
    this.#onVoid = options.onVoid
    this.#segment = recording.firstSegment
    this.#log = log
    this.writer = new TapeWriter({
      folder: recording.folder,
      recordingId: recording.recordingId,
      firstSegment: recording.firstSegment,
      lane,
      segmentBytesMax: config.segmentBytes,
      durability: config.durability,
      disk: disk ?? realDisk,
      seqNow: () => tables.seq,
      onHealth: (error) => {
        if (error) log.error({ err: error.message }, 'the tape cannot be written')
        else this.#healthy()
      },
    })
    this.#queue = new DeriveQueue({
      folder: recording.folder,
      appender: recording.appender,
      workers: config.recordWorkers,
      requests: config.recordRequests,
      log,
      onDropped: (hints) => counters.add('hintsDropped', hints),
      onVerified: ({ same, different, alone }) => {
        counters.add('verifiedSame', same)
        counters.add('verifiedDifferent', different)
        counters.add('verifiedAlone', alone)
      },
    })
  }

  /** Why nothing new can be recorded now; undefined while it can. */
  get failure(): Error | undefined {
    const { lowSpace } = this.tables
    if (lowSpace === undefined) return this.writer.failure
    return this.writer.failure ?? new Error(`${this.folder}: ${lowSpace}`)
  }

  /** True where an exchange that begins now is not to be recorded, for want of space. */
  leavesOut(arrival: Arrival): boolean {
    if (this.tables.lowSpace === undefined) return false
    this.onVoid(arrival.number())
    return true
  }

  /** How this part of the recording is. */
  get state(): LaneTape {
    const { appended } = this.writer
    const { failure } = this
    const queue = this.#queue
    return {
      segment: this.writer.nameOf(this.#segment),
      trouble: failure?.message ?? queue.trouble,
      writable: failure === undefined,
      lagExchanges: queue.lagExchanges,
      lagBytes: queue.lagBytes(appended),
    }
  }

  /**
   * A barrier: every exchange that was over before has its record.
   * @throws RolltapeError `tape_unavailable` when tape or records cannot be written.
   */
  async flush(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<Error | undefined>()
    this.writer.commit({ onCommitted: resolve })
    const error = await promise
    if (error !== undefined) throw untaped(error)
    await this.#nextPart
    await this.#queue.settled()
  }

  /**
   * Ends the part: what ends from now on belongs to the next one, goes to new segments, and waits
   * for {@link beginPart}. Resolves once everything that had ended has its record.
   * @throws RolltapeError `tape_unavailable` when tape or records cannot be written.
   */
  async endPart(next: number): Promise<void> {
    this.part = next
    const begun = Promise.withResolvers<void>()
    this.#nextPart = begun.promise
    this.#onBegun = begun.resolve
    this.#queue.hold(this.writer.roll())
    const { promise, resolve } = Promise.withResolvers<Error | undefined>()
    this.writer.commit({ onCommitted: resolve })
    const error = await promise
    if (error !== undefined) throw untaped(error)
    await this.#queue.settled()
  }

  /** The next part's file is there: records of exchanges that ended meanwhile go to it. */
  beginPart(): void {
    this.#queue.release()
    this.#onBegun?.()
    this.#onBegun = undefined
  }

  /** An exchange's END is on the tape; the tail points at it. */
  onTaped(tail: FrameTail): void {
    const { writer } = this
    this.#segment = Math.max(this.#segment, tail.segment)
    this.#count()
    const position = { segment: this.#nameOf(tail.segment), offset: tail.offset }
    this.#queue.hint(position, writer.appended)
  }

  /** An exchange's END waits for a disk that fails: it will be on the tape once that works again. */
  onTapedLate(tail: FrameTail): void {
    if (this.writer.failure !== undefined) {
      this.#late.push(tail)
      return
    }
    this.writer.commit({
      onCommitted: (error) => {
        if (error) this.#late.push(tail)
        else this.onTaped(tail)
      },
    })
  }

  /** Begins an exchange on the tape. */
  begin(blocks: BlockPool, arrival: Arrival, decided: Decided): Taping {
    const taping = new Taping(this.writer, blocks, arrival.number(), arrival.redaction)
    taping.begin(arrival.begin(decided, this.#keys), arrival.requiresTokens)
    return taping
  }

  /** An exchange is over: derive gets its place on the tape, now or when the disk takes it again. */
  onEnded({ lost, tail }: Taping, commitError: Error | undefined): void {
    if (lost) this.onVoid(tail.seq)
    else if (commitError === undefined) this.onTaped(tail)
    else this.onTapedLate(tail)
  }

  /** An exchange of this number will never be on the tape. */
  onVoid(seq: number): void {
    this.#counters.add('untaped')
    this.#onVoid(seq)
    this.#queue.void(seq)
  }

  /** Writes and derives everything, then ends; what could not be written, or null. */
  async close(): Promise<string | null> {
    const { promise, resolve } = Promise.withResolvers<Error | undefined>()
    this.writer.close(resolve)
    const error = await promise
    this.beginPart()
    this.#count()
    if (error === undefined) for (const tail of this.#late.splice(0)) this.onTaped(tail)
    await this.#queue.drained()
    const { lost } = this.#queue
    await this.#queue.close()
    if (error !== undefined) return error.message
    return lost === 0 ? null : `${lost} records could not be made; the next start makes them`
  }

  /** Ends it at once, without a last write. */
  async abandon(): Promise<void> {
    await this.#queue.close()
  }

  /** One string for all that end in a segment. */
  #nameOf(segment: number): string {
    if (this.#named.segment !== segment) {
      this.#named = { segment, name: this.writer.nameOf(segment) }
    }
    return this.#named.name
  }

  /** Counted apart from the writer, which is gone when its lane or its recording is. */
  #count(): void {
    const { appended } = this.writer
    this.#counters.add('tapedBytes', appended - this.#countedBytes)
    this.#countedBytes = appended
  }

  /** The disk works again: what could not be committed is on its way after all. */
  #healthy(): void {
    this.#log.warn({}, 'the tape is written again')
    for (const tail of this.#late.splice(0)) this.onTapedLate(tail)
  }
}
