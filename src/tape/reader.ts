/**
 * Reads a tape folder: lists its segments, and gathers one exchange backwards from its last frame.
 * Synchronous and bounded in memory; for workers, recovery and the command line, never for a lane.
 */
import { RolltapeError } from '../errors.ts'
import { KEEP_LOOK_MS } from '../limits.ts'
import type { Disk } from './disk.ts'
import { realDisk } from './disk.ts'
import { ExchangeParts } from './exchange-parts.ts'
import type { TapedExchange, TapePosition } from './exchange.ts'
import { KIND, formatJson, parseSegmentFile, parseSegmentName, segmentName } from './format.ts'
import { LetGo } from './let-go.ts'
import { FrameCache, openSegmentBytes } from './segment-bytes.ts'
import type { SegmentBytes } from './segment-bytes.ts'
import { SegmentFile } from './segment-file.ts'
import type { WalkedFrame } from './segment-file.ts'

const OPEN_SEGMENTS_MAX = 16
const BLANK_BLOCK_BYTES = 4_096
/** Kinds without which an exchange would be told wrongly. */
const NEEDED: ReadonlySet<number> = new Set([KIND.begin, KIND.request, KIND.sent, KIND.head])

/** A segment of a folder. */
export interface ListedSegment {
  /** As in a record's `tape`, e.g. `0-000001.tape`. */
  readonly name: string
  readonly lane: number
  readonly number: number
  /** It is there in sealed form only. */
  readonly isSealed: boolean
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
   * @throws RolltapeError `tape_corrupt` when any other frame of it is missing or damaged, or another
   *   exchange than `expected` stands there, `tape_let_go` when one was let go by its recorder.
   */
  exchange(position: TapePosition, expected?: number): TapedExchange {
    const lane = parseSegmentName(position.segment)?.lane
    if (lane === undefined) {
      throw new RolltapeError('not_found', `"${position.segment}" is no segment's name`)
    }
    const parts = new ExchangeParts()
    let { segment, offset } = position
    let seq = expected
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
