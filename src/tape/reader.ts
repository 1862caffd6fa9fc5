/**
 * Reads tapes: walks a segment's frames forwards, and gathers one exchange backwards from its last
 * frame. Synchronous and bounded in memory; for workers, recovery and the command line, never for
 * a lane.
 *
 * A damaged frame is no end. Where its header is sound its length is trusted and the walk goes on
 * behind it; else it looks for the next sound header. What it skipped it reports; only when nothing
 * sound follows is it a torn tail.
 */
import { crc32 } from 'node:zlib'
import { RolltapeError } from '../errors.ts'
import { KEEP_LOOK_MS } from '../limits.ts'
import type { Disk } from './disk.ts'
import { realDisk } from './disk.ts'
import { ExchangeParts } from './exchange-parts.ts'
import type { TapedExchange, TapePosition } from './exchange.ts'
import {
  FORMAT_VERSION,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  FRAME_OVERHEAD_BYTES,
  KIND,
  formatJson,
  parseSegmentFile,
  parseSegmentHeader,
  parseSegmentName,
  readFrameHeader,
  segmentName,
} from './format.ts'
import type { FrameHeader, SegmentHeader } from './format.ts'
import { LetGo } from './let-go.ts'
import { FrameCache, openSegmentBytes } from './segment-bytes.ts'
import type { SegmentBytes } from './segment-bytes.ts'

const MAGIC = Buffer.alloc(4)
MAGIC.writeUInt32LE(FRAME_MAGIC)
/** What is read around a place: a walk goes ahead; exchanges are gathered near each other. */
const WINDOWS = {
  walk: { behind: 0, ahead: 1 << 20 },
  gather: { behind: 8 << 10, ahead: 24 << 10 },
} as const
const OPEN_SEGMENTS_MAX = 16
const BLANK_BLOCK_BYTES = 4_096
/** Unpacked frames that a walk keeps: it may go back over the seam of two. */
const WALK_FRAMES_KEPT = 2
/** Kinds without which an exchange would be told wrongly. */
const NEEDED: ReadonlySet<number> = new Set([KIND.begin, KIND.request, KIND.sent, KIND.head])

/** A frame met on a walk. The payload is a view that is good until the walk goes on. */
export interface WalkedFrame extends FrameHeader {
  readonly offset: number
  /** The payload, or undefined when the walk was told to skip this kind's payloads. */
  readonly payload: Buffer | undefined
}

/** A segment of a folder. */
export interface ListedSegment {
  /** As in a record's `tape`, e.g. `0-000001.tape`. */
  readonly name: string
  readonly lane: number
  readonly number: number
  /** It is there in sealed form only. */
  readonly isSealed: boolean
}

/** What a walk tells besides frames. */
export interface WalkReport {
  /** Stretches between frames that no sound frame covers. */
  readonly skipped: { readonly offset: number; readonly bytes: number }[]
  /** First byte after the last sound frame. */
  end: number
  /** Bytes behind `end`: a frame that was being written when the process or the machine died. */
  tornBytes: number
}

/** One open segment file with a read-ahead window. */
export class SegmentFile {
  readonly header: SegmentHeader
  readonly name: string
  /** Offset of the first frame. */
  readonly firstFrame: number
  readonly #bytes: SegmentBytes
  readonly #reach: (typeof WINDOWS)[keyof typeof WINDOWS]
  readonly #memory: Buffer
  #window: Buffer = Buffer.alloc(0)
  #windowAt = 0

  constructor(
    folder: string,
    name: string,
    disk: Disk = realDisk,
    use: keyof typeof WINDOWS = 'walk',
    cache = new FrameCache(WALK_FRAMES_KEPT),
  ) {
    this.name = name
    this.#reach = WINDOWS[use]
    this.#memory = Buffer.allocUnsafeSlow(this.#reach.behind + this.#reach.ahead)
    this.#bytes = openSegmentBytes(folder, name, disk, cache)
    const parsed = parseSegmentHeader(this.read(0, 4096))
    if (parsed === undefined || parsed.version > FORMAT_VERSION) {
      this.close()
      throw new RolltapeError('tape_corrupt', segmentTrouble(`${folder}/${name}`, parsed?.version))
    }
    this.header = parsed.header
    this.firstFrame = parsed.bytes
  }

  /** Bytes of the segment now, plain. */
  get size(): number {
    return this.#bytes.size
  }

  /** True when it was sealed or let go since it was opened: its place on the disk waits for this. */
  get isGone(): boolean {
    return this.#bytes.isGone
  }

  /** What is wrong with the form it is sealed in; undefined when nothing is. */
  get trouble(): string | undefined {
    return this.#bytes.trouble
  }

  /** Up to `bytes` bytes from `at`; fewer at the end of the file. A view that lasts one call. */
  read(at: number, bytes: number): Buffer {
    const from = at - this.#windowAt
    if (from >= 0 && from + bytes <= this.#window.length) {
      return this.#window.subarray(from, from + bytes)
    }
    const { behind, ahead } = this.#reach
    if (bytes > ahead) return this.#fill(Buffer.allocUnsafe(bytes), at)
    this.#windowAt = Math.max(0, at - behind)
    this.#window = this.#fill(this.#memory, this.#windowAt)
    const start = at - this.#windowAt
    return this.#window.subarray(start, start + bytes)
  }

  #fill(into: Buffer, at: number): Buffer {
    let got = 0
    while (got < into.length) {
      const n = this.#bytes.read(into, got, into.length - got, at + got)
      if (n === 0) break
      got += n
    }
    return into.subarray(0, got)
  }

  /** The frame at `offset`, checked; undefined when there is no whole and sound one. */
  frame(offset: number, withPayload = true): WalkedFrame | undefined {
    const header = readFrameHeader(this.read(offset, FRAME_HEADER_BYTES), 0)
    if (header === undefined) return undefined
    if (!withPayload) return { ...header, offset, payload: undefined }
    const body = this.read(offset + FRAME_HEADER_BYTES, header.payloadBytes + 4)
    if (body.length < header.payloadBytes + 4) return undefined
    const payload = body.subarray(0, header.payloadBytes)
    if (crc32(payload) !== body.readUInt32LE(header.payloadBytes)) return undefined
    return { ...header, offset, payload }
  }

  /**
   * Walks the frames from `from` (default: the first) to the end of the file. `wants` says which
   * come with their payload, checked; the others are only stepped over. `visit` returning false
   * stops the walk.
   */
  walk(
    visit: (frame: WalkedFrame) => boolean | void,
    options: { from?: number; wants?: (frame: FrameHeader) => boolean } = {},
  ): WalkReport {
    const report: WalkReport = { skipped: [], end: options.from ?? this.firstFrame, tornBytes: 0 }
    const { size } = this
    let at = report.end
    while (at < size) {
      const bare = this.frame(at, false)
      if (bare === undefined) {
        at = this.#nextFrame(at + 1, size)
        continue
      }
      const end = at + FRAME_OVERHEAD_BYTES + bare.payloadBytes
      if (end > size) break
      const frame = (options.wants?.(bare) ?? true) ? this.frame(at) : bare
      // What lies inside a damaged payload is no frame, whatever it looks like.
      at = end
      if (frame === undefined) continue
      const skipped = frame.offset - report.end
      if (skipped > 0) report.skipped.push({ offset: report.end, bytes: skipped })
      report.end = end
      if (visit(frame) === false) return report
    }
    report.tornBytes = size - report.end
    return report
  }

  /** Closes the file. */
  close(): void {
    this.#bytes.close()
  }

  /** Where the next sound header stands; `size` when there is none. */
  #nextFrame(from: number, size: number): number {
    for (let at = from; at + FRAME_OVERHEAD_BYTES <= size;) {
      const bytes = this.read(at, Math.min(WINDOWS.walk.ahead, size - at))
      const last = bytes.length - FRAME_HEADER_BYTES
      for (let i = bytes.indexOf(MAGIC); i >= 0 && i <= last; i = bytes.indexOf(MAGIC, i + 1)) {
        if (readFrameHeader(bytes, i) !== undefined) return at + i
      }
      if (last < 0) break
      at += last + 1
    }
    return size
  }
}

/** A tape folder for reading: its segments, opened as needed, and the exchanges in them. */
export class TapeFolder {
  readonly folder: string
  readonly #disk: Disk
  readonly #open = new Map<string, SegmentFile>()
  readonly #cache = new FrameCache()
  #goneTimer: NodeJS.Timeout | undefined

  constructor(folder: string, disk: Disk = realDisk) {
    this.folder = folder
    this.#disk = disk
  }

  /** All segments, by lane and number, whichever form they have. */
  segments(): ListedSegment[] {
    const found = new Map<string, ListedSegment>()
    for (const file of this.#disk.listSync(this.folder)) {
      const segment = parseSegmentFile(file)
      if (segment === undefined || (segment.isSealed && found.has(segment.name))) continue
      found.set(segment.name, segment)
    }
    return [...found.values()].sort((a, b) => a.lane - b.lane || a.number - b.number)
  }

  /** Those of them that hold something: a crash may leave one that was begun and is blank. */
  written(): ListedSegment[] {
    return this.segments().filter((segment) => !this.isBlank(segment))
  }

  /**
   * True for a segment that was begun and never written: empty, or nothing but zeros after a power
   * cut. Every reader steps over it. Of one that was written the first block is read.
   */
  isBlank({ name, isSealed }: ListedSegment): boolean {
    if (isSealed) return false
    let bytes: SegmentBytes
    try {
      bytes = openSegmentBytes(this.folder, name, this.#disk, this.#cache)
    } catch (error) {
      if (isNotThere(error)) return false
      throw error
    }
    try {
      return isBlank(bytes)
    } finally {
      bytes.close()
    }
  }

  /** Plain bytes of a segment, sealed or not; 0 when it has gone meanwhile. */
  sizeOf(name: string): number {
    try {
      const bytes = openSegmentBytes(this.folder, name, this.#disk, this.#cache)
      const { size } = bytes
      bytes.close()
      return size
    } catch (error) {
      if (isNotThere(error)) return 0
      throw error
    }
  }

  /** A segment by name; kept open for the next caller (16 at most). */
  segment(name: string): SegmentFile {
    const known = this.#open.get(name)
    if (known) {
      this.#open.delete(name)
      this.#open.set(name, known)
      return known
    }
    this.#closeGone()
    const file = this.#openSegment(name)
    this.#open.set(name, file)
    this.#goneTimer ??= setInterval(() => this.#closeGone(), KEEP_LOOK_MS).unref()
    if (this.#open.size > OPEN_SEGMENTS_MAX) {
      const [oldest] = this.#open.keys()
      if (oldest !== undefined) {
        this.#open.get(oldest)?.close()
        this.#open.delete(oldest)
      }
    }
    return file
  }

  /**
   * Gathers the exchange whose last frame stands at `position`. A piece of the answer whose payload
   * is damaged becomes a gap.
   * @throws RolltapeError `tape_corrupt` when any other frame of it is missing or damaged,
   *   `tape_let_go` when one was let go by its recorder.
   */
  exchange(position: TapePosition): TapedExchange {
    const lane = parseSegmentName(position.segment)?.lane
    if (lane === undefined) {
      throw new RolltapeError('not_found', `"${position.segment}" is no segment's name`)
    }
    const parts = new ExchangeParts()
    let { segment, offset } = position
    let seq: number | undefined
    for (;;) {
      const file = this.segment(segment)
      const frame = file.frame(offset) ?? lostPiece(file, offset)
      if (frame === undefined || frame.seq !== (seq ?? frame.seq)) {
        const whose = seq === undefined ? '' : ` of exchange ${seq}`
        throw this.#corrupt(segment, `no sound frame${whose} at offset ${offset}`)
      }
      ;({ seq } = frame)
      parts.take(frame, file.header.recordingId)
      if (frame.kind === KIND.begin) return parts.assemble(position)
      if (frame.previousSegment === 0) {
        throw this.#corrupt(segment, `exchange ${seq} has no BEGIN before offset ${offset}`)
      }
      segment = segmentName(lane, frame.previousSegment)
      offset = frame.previousOffset
    }
  }

  #openSegment(name: string): SegmentFile {
    try {
      return new SegmentFile(this.folder, name, this.#disk, 'gather', this.#cache)
    } catch (error) {
      if (!isNotThere(error) || !new LetGo(this.folder, this.#disk).has(name)) throw error
      const message = `${this.folder}/${name} was let go (tape_retain)`
      throw new RolltapeError('tape_let_go', message, { hint: 'the record has what is left of it' })
    }
  }

  /** What was sealed or let go meanwhile takes its place on the disk until it is closed. */
  #closeGone(): void {
    for (const [name, file] of this.#open) {
      if (!file.isGone) continue
      file.close()
      this.#open.delete(name)
    }
    if (this.#open.size > 0) return
    clearInterval(this.#goneTimer)
    this.#goneTimer = undefined
  }

  #corrupt(segment: string, what: string): RolltapeError {
    return new RolltapeError('tape_corrupt', `${this.folder}/${segment}: ${what}`)
  }

  /** Closes all files. */
  close(): void {
    for (const file of this.#open.values()) file.close()
    this.#open.clear()
    this.#closeGone()
  }
}

function isBlank(bytes: SegmentBytes): boolean {
  const block = Buffer.alloc(BLANK_BLOCK_BYTES)
  for (let at = 0; ;) {
    const got = bytes.read(block, 0, block.length, at)
    if (got === 0) return true
    if (block.subarray(0, got).some((byte) => byte !== 0)) return false
    at += got
  }
}

function isNotThere(error: unknown): boolean {
  return error instanceof RolltapeError && error.code === 'not_found'
}

/** Reads one exchange and closes the tape again; for callers that need just one. */
export function readExchange(folder: string, position: TapePosition): TapedExchange {
  const tape = new TapeFolder(folder)
  try {
    return tape.exchange(position)
  } finally {
    tape.close()
  }
}

/** A frame that an exchange can be told without, read as a gap because its payload is damaged. */
function lostPiece(file: SegmentFile, offset: number): WalkedFrame | undefined {
  const bare = file.frame(offset, false)
  if (bare === undefined || NEEDED.has(bare.kind)) return undefined
  const gap = { bytes: bare.payloadBytes, reason: 'damaged on the tape' }
  return { ...bare, kind: KIND.gap, payload: formatJson(gap) }
}

function segmentTrouble(path: string, version: number | undefined): string {
  return version === undefined
    ? `${path} does not begin with a sound segment header: not a tape, or torn at its very start`
    : `${path} has format version ${version}; this rolltape reads up to ${FORMAT_VERSION}`
}
