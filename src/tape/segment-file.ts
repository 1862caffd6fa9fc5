/**
 * Reads one segment: frames at their places, or all of them forwards. Synchronous and bounded in
 * memory; for workers, recovery and the command line, never for a lane.
 *
 * A damaged frame is no end. Where its header is sound its length is trusted and the walk goes on
 * behind it; else it looks for the next sound header. What it skipped it reports; only when nothing
 * sound follows is it a torn tail.
 */
import { crc32 } from 'node:zlib'
import { RolltapeError } from '../errors.ts'
import type { Disk } from './disk.ts'
import { realDisk } from './disk.ts'
import {
  FORMAT_VERSION,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  FRAME_OVERHEAD_BYTES,
  parseSegmentHeader,
  readFrameHeader,
} from './format.ts'
import type { FrameHeader, SegmentHeader } from './format.ts'
import { FrameCache, openSegmentBytes } from './segment-bytes.ts'
import type { SegmentBytes } from './segment-bytes.ts'

const MAGIC = Buffer.alloc(4)
MAGIC.writeUInt32LE(FRAME_MAGIC)
/** What is read around a place: a walk goes ahead; exchanges are gathered near each other. */
const WINDOWS = {
  walk: { behind: 0, ahead: 1 << 20 },
  gather: { behind: 8 << 10, ahead: 24 << 10 },
} as const
/** Unpacked frames that a walk keeps: it may go back over the seam of two. */
const WALK_FRAMES_KEPT = 2

/** A frame met on a walk. The payload is a view that is good until the walk goes on. */
export interface WalkedFrame extends FrameHeader {
  readonly offset: number
  /** The payload, or undefined when the walk was told to skip this kind's payloads. */
  readonly payload: Buffer | undefined
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
    try {
      const parsed = parseSegmentHeader(this.read(0, 4096))
      if (parsed === undefined || parsed.version > FORMAT_VERSION) {
        const message = segmentTrouble(`${folder}/${name}`, parsed?.version)
        throw new RolltapeError('tape_corrupt', message)
      }
      this.header = parsed.header
      this.firstFrame = parsed.bytes
    } catch (error) {
      this.close()
      throw error
    }
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

function segmentTrouble(path: string, version: number | undefined): string {
  return version === undefined
    ? `${path} does not begin with a sound segment header: not a tape, or torn at its very start`
    : `${path} has format version ${version}; this rolltape reads up to ${FORMAT_VERSION}`
}
