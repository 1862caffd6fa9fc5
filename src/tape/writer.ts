/**
 * One lane's tape writer: the only writer of that lane's segments.
 *
 * Frames are gathered in 256 KiB slabs and written by at most one asynchronous write at a time;
 * whoever waits for a commit is answered together with all others the write carried. Between calls
 * these hold: bytes are queued in tape order; `appended − committed` is what a crash of rolltape
 * (`memory`, `written`) or of the machine (`synced`) could take; a waiter's target is never behind
 * the one before it.
 *
 * A write that fails leaves its bytes queued, tells every waiter, and is tried again at the same
 * file position until it succeeds. What that means for clients is the lane's business
 * (`on_tape_failure`).
 */
import { crc32 } from 'node:zlib'
import { errorText } from '../errors.ts'
import {
  SLAB_BYTES,
  SLABS_FREE_MAX,
  TAPE_PENDING_BYTES_HIGH,
  TAPE_PENDING_BYTES_MAX,
  TAPE_RETRY_MS,
  WRITE_BUFFERS_MAX,
} from '../limits.ts'
import { CommitQueue } from './commit-queue.ts'
import type { CommitWaiter } from './commit-queue.ts'
import type { Disk } from './disk.ts'
import {
  FRAME_HEADER_BYTES,
  FRAME_OVERHEAD_BYTES,
  formatSegmentHeader,
  segmentName,
  writeFrameHeader,
} from './format.ts'
import type { Kind } from './format.ts'

const NOTHING = Buffer.alloc(0)
/** A frame longer than this is taken unless the writer is congested: no bound may shut it out. */
const LONG_FRAME_BYTES = TAPE_PENDING_BYTES_MAX - TAPE_PENDING_BYTES_HIGH

/** Where an exchange's last frame stands. The writer moves it on with each frame. */
export interface FrameTail {
  readonly seq: number
  /** Segment number; 0 as long as no frame has been taken. */
  segment: number
  offset: number
}

/** What a writer is made from. */
export interface TapeWriterOptions {
  readonly folder: string
  readonly lane: number
  /** Number of the first segment this writer makes. */
  readonly firstSegment: number
  readonly recordingId: string
  readonly segmentBytesMax: number
  readonly durability: 'memory' | 'written' | 'synced'
  readonly disk: Disk
  /** Highest exchange number given out so far; goes into each segment's header. */
  readonly seqNow: () => number
  /** Told when writing begins to fail and when it works again (undefined). */
  readonly onHealth: (error: Error | undefined) => void
}

interface Segment {
  readonly number: number
  readonly headerBytes: number
  /** Bytes appended so far, written or not. */
  bytes: number
  written: number
  fd: number
  /** Its name in the folder is as durable as asked for. */
  named: boolean
}

interface Queued {
  readonly bytes: Buffer
  readonly segment: Segment
  /** Slab to give back once this has been written. */
  readonly slab: Buffer | undefined
}

/** Writes frames to segments. See the head of this file for its invariants. */
export class TapeWriter {
  /** Bytes appended since this writer began, over all its segments. */
  appended = 0
  /** Of those, bytes that are as durable as asked for. */
  committed = 0
  /** The error of the last write, while writing fails. */
  failure: Error | undefined

  readonly #options: TapeWriterOptions
  readonly #sync: boolean
  #segment: Segment
  #slab: Buffer
  #slabFrom = 0
  #slabTo = 0
  readonly #slabsFree: Buffer[] = []
  #queue: Queued[] = []
  #busy = false
  #busySinceMs = 0
  /** A write was asked for while another was under way: it follows at once. */
  #asked = false
  #retry: NodeJS.Timeout | undefined
  readonly #waiters = new CommitQueue()
  readonly #relief: (() => void)[] = []
  #closing = false
  #closed: ((error: Error | undefined) => void) | undefined

  constructor(options: TapeWriterOptions) {
    this.#options = options
    this.#sync = options.durability === 'synced'
    this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
    this.#segment = this.#nextSegment(options.firstSegment)
  }

  /** Bytes that wait for the disk. */
  get pendingBytes(): number {
    return this.appended - this.committed
  }

  /** True when so much waits for the disk that nothing more should be read from upstreams. */
  get congested(): boolean {
    return this.failure === undefined && this.pendingBytes > TAPE_PENDING_BYTES_HIGH
  }

  /** Name of any of this writer's segments. */
  nameOf(number: number): string {
    return segmentName(this.#options.lane, number)
  }

  /**
   * Appends one frame; nothing is waited for and nothing written yet (see {@link submit}). The
   * payload is copied when it is small and kept by reference when it is large: do not change it.
   * A `prefix` is the payload's first few bytes, for callers that hold the rest as it came.
   * False when too much waits for the disk: the frame was not taken.
   */
  append(tail: FrameTail, kind: Kind, flags: number, payload: Buffer, prefix = NOTHING): boolean {
    const payloadBytes = prefix.length + payload.length
    const frameBytes = FRAME_OVERHEAD_BYTES + payloadBytes
    if (this.pendingBytes + Math.min(frameBytes, LONG_FRAME_BYTES) > TAPE_PENDING_BYTES_MAX) {
      return false
    }
    const { bytes, headerBytes } = this.#segment
    const fits = bytes + frameBytes <= this.#options.segmentBytesMax
    // A frame that no segment holds gets one for itself.
    if (!fits && bytes > headerBytes) this.#roll()
    const offset = this.#segment.bytes
    const start = FRAME_HEADER_BYTES + prefix.length
    const inSlab = frameBytes <= SLAB_BYTES / 4 ? frameBytes : start
    if (this.#slabTo + inSlab > SLAB_BYTES) this.#replaceSlab()
    const slab = this.#slab
    const at = this.#slabTo
    writeFrameHeader(slab, at, {
      kind,
      flags,
      payloadBytes,
      seq: tail.seq,
      previousSegment: tail.segment,
      previousOffset: tail.offset,
    })
    prefix.copy(slab, at + FRAME_HEADER_BYTES)
    if (inSlab === frameBytes) {
      payload.copy(slab, at + start)
      const from = at + FRAME_HEADER_BYTES
      slab.writeUInt32LE(crc32(slab.subarray(from, from + payloadBytes)), from + payloadBytes)
      this.#slabTo = at + frameBytes
    } else {
      this.#slabTo = at + start
      this.#queueSlab(undefined)
      const crc = Buffer.allocUnsafe(4)
      crc.writeUInt32LE(crc32(payload, crc32(prefix)))
      this.#queue.push({ bytes: payload, segment: this.#segment, slab: undefined })
      this.#queue.push({ bytes: crc, segment: this.#segment, slab: undefined })
    }
    this.#segment.bytes += frameBytes
    this.appended += frameBytes
    tail.segment = this.#segment.number
    tail.offset = offset
    return true
  }

  /** Starts a write of all that has been appended, unless one is under way (it goes with the next). */
  submit(): void {
    if (this.#busy) this.#asked = true
    else if (this.#retry === undefined) this.#writeNext()
  }

  /** Tells the waiter once everything appended so far is as durable as asked for. */
  commit(waiter: CommitWaiter): void {
    if (this.committed >= this.appended) return waiter.onCommitted(undefined)
    if (this.failure) return waiter.onCommitted(this.failure)
    this.#waiters.add(this.appended, waiter)
    this.submit()
  }

  /**
   * To be called now and then: a write that has been under way for too long counts as failing until
   * it is done. `writeMsMax` 0 is no bound.
   */
  watch(nowMs: number, writeMsMax: number): void {
    const hangs = this.#busy && writeMsMax > 0 && nowMs - this.#busySinceMs >= writeMsMax
    if (!hangs || this.failure !== undefined) return
    this.#tell(new Error(`a write has been under way for more than ${writeMsMax} ms`))
  }

  /** What is appended from now on goes to another segment; the number of the last one before it. */
  roll(): number {
    if (this.#segment.bytes > this.#segment.headerBytes) this.#roll()
    return this.#segment.number - 1
  }

  /** Calls back once, when the writer is not congested any more. */
  onRelief(callback: () => void): void {
    this.#relief.push(callback)
  }

  /** Writes what is left, syncs, closes. Calls back with an error when that was not possible. */
  close(closed: (error: Error | undefined) => void): void {
    this.#closing = true
    this.#closed = closed
    clearTimeout(this.#retry)
    this.#retry = undefined
    this.submit()
  }

  #nextSegment(number: number): Segment {
    const header = formatSegmentHeader({
      recordingId: this.#options.recordingId,
      lane: this.#options.lane,
      number,
      createdAtUs: Date.now() * 1000,
      seqBase: this.#options.seqNow(),
    })
    const { length: headerBytes } = header
    const named = !this.#sync
    const segment = { number, headerBytes, bytes: headerBytes, written: 0, fd: -1, named }
    this.#queue.push({ bytes: header, segment, slab: undefined })
    this.appended += header.length
    return segment
  }

  #roll(): void {
    this.#queueSlab(undefined)
    const left = this.#segment
    // All of it is written already: no write will come by that could close it.
    if (this.#queue.length === 0) this.#closeSegment(left)
    this.#segment = this.#nextSegment(left.number + 1)
  }

  #queueSlab(release: Buffer | undefined): void {
    if (this.#slabTo === this.#slabFrom && release === undefined) return
    const bytes = this.#slab.subarray(this.#slabFrom, this.#slabTo)
    this.#queue.push({ bytes, segment: this.#segment, slab: release })
    this.#slabFrom = this.#slabTo
  }

  #replaceSlab(): void {
    this.#queueSlab(this.#slab)
    this.#slab = this.#slabsFree.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES)
    this.#slabFrom = 0
    this.#slabTo = 0
    this.submit()
  }

  #writeNext(): void {
    this.#queueSlab(undefined)
    const first = this.#queue[0]
    if (first === undefined) return this.#idle()
    this.#busy = true
    this.#busySinceMs = performance.now()
    if (first.segment.fd < 0) return this.#openSegment(first.segment)
    if (!first.segment.named) return this.#nameSegment(first.segment)
    let count = 0
    let bytes = 0
    for (const queued of this.#queue) {
      if (queued.segment !== first.segment || count === WRITE_BUFFERS_MAX) break
      bytes += queued.bytes.length
      count++
    }
    this.#write(first.segment, count, bytes)
  }

  #openSegment(segment: Segment): void {
    const { disk, folder, lane } = this.#options
    disk.open(`${folder}/${segmentName(lane, segment.number)}`, (error, fd) => {
      if (error) return this.#failed(error)
      segment.fd = fd
      this.#writeNext()
    })
  }

  #nameSegment(segment: Segment): void {
    const { disk, folder } = this.#options
    disk.syncFolder(folder, (error) => {
      if (error) return this.#failed(error)
      segment.named = true
      this.#writeNext()
    })
  }

  #write(segment: Segment, count: number, bytes: number): void {
    const buffers: Buffer[] = []
    for (let i = 0; i < count; i++) buffers.push((this.#queue[i] as Queued).bytes)
    this.#options.disk.writev(segment.fd, buffers, segment.written, (error, written) => {
      if (error) return this.#failed(error)
      if (written < bytes) {
        return this.#failed(new Error(`short write: the disk took ${written} of ${bytes} bytes`))
      }
      if (!this.#sync) return this.#wrote(segment, count, bytes)
      this.#options.disk.fdatasync(segment.fd, (unsynced) => {
        // After a failed sync nobody knows what the disk has: it is all written once more.
        if (unsynced) this.#failed(unsynced)
        else this.#wrote(segment, count, bytes)
      })
    })
  }

  #wrote(segment: Segment, count: number, bytes: number): void {
    for (let i = 0; i < count; i++) {
      const slab = this.#queue[i]?.slab
      if (slab && this.#slabsFree.length < SLABS_FREE_MAX) this.#slabsFree.push(slab)
    }
    this.#queue.splice(0, count)
    segment.written += bytes
    this.committed += bytes
    this.#busy = false
    if (this.failure) {
      this.failure = undefined
      this.#options.onHealth(undefined)
    }
    if (segment !== this.#segment && this.#queue[0]?.segment !== segment) {
      this.#closeSegment(segment)
    }
    const asked = this.#asked
    this.#asked = false
    this.#answer()
    if (asked || this.#waiters.size > 0 || this.#queue.length > 0 || this.#closing) {
      this.submit()
    } else if (this.#slabFrom === this.#slabTo) {
      this.#slabFrom = 0
      this.#slabTo = 0
    }
  }

  #failed(error: Error): void {
    this.#busy = false
    this.#tell(error)
    if (this.#closing) {
      const unwritten = this.#queue[0]?.segment
      if (unwritten !== undefined) this.#closeSegment(unwritten)
      const text = `${this.pendingBytes} bytes could not be written: ${errorText(error)}`
      return this.#finish(new Error(text, { cause: error }))
    }
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      this.submit()
    }, TAPE_RETRY_MS)
  }

  /** Writing does not work now: whoever waits for the disk hears so, whatever for. */
  #tell(error: Error): void {
    const first = this.failure === undefined
    this.failure = error
    if (first) this.#options.onHealth(error)
    this.#waiters.fail(error)
    for (const callback of this.#relief.splice(0)) callback()
  }

  #answer(): void {
    this.#waiters.reach(this.committed)
    if (this.#relief.length > 0 && !this.congested) {
      for (const callback of this.#relief.splice(0)) callback()
    }
  }

  #closeSegment(segment: Segment): void {
    const { fd } = segment
    if (fd < 0) return
    segment.fd = -1
    this.#options.disk.close(fd, () => undefined)
  }

  #idle(): void {
    if (!this.#closing || this.#closed === undefined) return
    const { fd } = this.#segment
    if (fd < 0) return this.#finish(undefined)
    this.#busy = true
    this.#options.disk.fdatasync(fd, (error) => {
      this.#options.disk.close(fd, () => this.#finish(error ?? undefined))
    })
  }

  #finish(error: Error | undefined): void {
    const closed = this.#closed
    this.#closed = undefined
    closed?.(error)
  }
}
