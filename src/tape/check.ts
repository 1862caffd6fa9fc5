/**
 * Whether a tape is whole: every frame of every segment is read and its checksums compared, then
 * every exchange is gathered as a reader would. Changes nothing on disk.
 *
 * What a crash leaves is no damage: a torn tail, and exchanges without an END. Damage is what had
 * been written and cannot be read any more.
 */
import { RolltapeError } from '../errors.ts'
import type { Disk } from './disk.ts'
import { realDisk } from './disk.ts'
import type { TapedExchange, TapePosition } from './exchange.ts'
import { KIND, segmentName } from './format.ts'
import { LetGo } from './let-go.ts'
import { TapeFolder } from './reader.ts'
import { SegmentFile } from './segment-file.ts'

/** Bytes of a segment that no sound frame covers. */
export interface DamagedStretch {
  readonly segment: string
  readonly offset: number
  readonly bytes: number
}

/** What the frames of a tape come to. */
export interface TapeFrames {
  readonly segments: number
  readonly bytes: number
  readonly frames: number
  /** Numbers of exchanges with the place of their last frame, those without an END among them. */
  readonly last: ReadonlyMap<number, TapePosition>
  /** Numbers of those without an END. */
  readonly open: ReadonlySet<number>
  readonly damaged: readonly DamagedStretch[]
  /** Ends of segments that were being written when the process or the machine died. */
  readonly torn: readonly DamagedStretch[]
  /** Those that were let go by their recorder; no damage. */
  readonly letGo: LetGo
  /** Names of segments that are not there, though later ones of their lane are. */
  readonly missing: readonly string[]
  /** Segment files that are no tape, or sealed in a form that is damaged, each with the reason. */
  readonly unreadable: readonly string[]
}

/** Frames walked before whoever reads may do something else. */
const FRAMES_PER_STEP = 4_096

/**
 * Reads all frames of a tape folder. Yields the bytes read so far, of all bytes; returns what was
 * found. Memory: one entry per exchange.
 */
export function* readFrames(
  folder: string,
  disk: Disk = realDisk,
): Generator<[doneBytes: number, totalBytes: number], TapeFrames> {
  const tape = new TapeFolder(folder, disk)
  const segments = tape.segments()
  const sizes = segments.map(({ name }) => tape.sizeOf(name))
  const bytes = sizes.reduce((sum, size) => sum + size, 0)
  const last = new Map<number, TapePosition>()
  const open = new Set<number>()
  const damaged: DamagedStretch[] = []
  const torn: DamagedStretch[] = []
  const unreadable: string[] = []
  let frames = 0
  let done = 0
  for (const [i, segment] of segments.entries()) {
    const { name } = segment
    const size = sizes[i] ?? 0
    const isBlank = tape.isBlank(segment)
    if (isBlank) torn.push({ segment: name, offset: 0, bytes: size })
    const file = isBlank ? undefined : openSegment(folder, name, disk, unreadable)
    if (file?.trouble !== undefined) unreadable.push(file.trouble)
    for (let from = file?.firstFrame ?? size; file !== undefined;) {
      let left = FRAMES_PER_STEP
      const report = file.walk(
        ({ kind, seq, offset }) => {
          frames++
          last.set(seq, { segment: name, offset })
          if (kind === KIND.end) open.delete(seq)
          else if (kind === KIND.begin) open.add(seq)
          return --left > 0
        },
        { from },
      )
      for (const stretch of report.skipped) damaged.push({ segment: name, ...stretch })
      from = report.end
      yield [done + from, bytes]
      if (left > 0) {
        if (report.tornBytes > 0)
          torn.push({ segment: name, offset: report.end, bytes: report.tornBytes })
        break
      }
    }
    file?.close()
    done += size
  }
  const letGo = new LetGo(folder, disk)
  const missing = missingOf(segments).filter((name) => !letGo.has(name))
  return {
    segments: segments.length,
    bytes,
    frames,
    last,
    open,
    damaged,
    torn,
    letGo,
    missing,
    unreadable,
  }
}

/** What of a tape is lost, in one line each; nothing where it is whole. */
export function damageOf({ unreadable, missing, damaged }: TapeFrames): string[] {
  return [
    ...unreadable,
    ...missing.map((name) => `segment ${name} is missing`),
    ...damaged.map((stretch) => `no sound frame: ${placeOf(stretch)}`),
  ]
}

/** Where a stretch is, for people. */
export function placeOf({ segment, offset, bytes }: DamagedStretch): string {
  return `${bytes} bytes from ${offset} in ${segment}`
}

/** An exchange that was gathered, or why it cannot be. */
export type Gathered =
  | { readonly seq: number; readonly exchange: TapedExchange }
  | {
      readonly seq: number
      readonly why: string
      /** It is no damage: part of its tape was let go. */
      readonly isLetGo: boolean
    }

/** Gathers exchanges by the places of their last frames, in the order of their numbers. */
export function* gatherAll(
  folder: string,
  last: ReadonlyMap<number, TapePosition>,
  disk: Disk = realDisk,
): Generator<Gathered> {
  const tape = new TapeFolder(folder, disk)
  try {
    for (const seq of [...last.keys()].sort((a, b) => a - b)) {
      const position = last.get(seq)
      if (position !== undefined) yield gather(tape, seq, position)
    }
  } finally {
    tape.close()
  }
}

function gather(tape: TapeFolder, seq: number, position: TapePosition): Gathered {
  try {
    return { seq, exchange: tape.exchange(position) }
  } catch (error) {
    if (!(error instanceof RolltapeError)) throw error
    return { seq, why: error.message, isLetGo: error.code === 'tape_let_go' }
  }
}

function openSegment(
  folder: string,
  name: string,
  disk: Disk,
  unreadable: string[],
): SegmentFile | undefined {
  try {
    return new SegmentFile(folder, name, disk)
  } catch (error) {
    if (!(error instanceof RolltapeError)) throw error
    unreadable.push(error.message)
    return undefined
  }
}

/** Numbers of a lane count up by one from its first segment that is there. */
function missingOf(segments: readonly { lane: number; number: number }[]): string[] {
  return segments.flatMap(({ lane, number }, i) => {
    const before = segments[i - 1]
    if (before?.lane !== lane) return []
    const gap = number - before.number - 1
    return Array.from({ length: gap }, (_, n) => segmentName(lane, before.number + 1 + n))
  })
}
