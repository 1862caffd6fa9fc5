/**
 * What an index worker does: read a stretch of a file of records, read a segment of a tape that has
 * no such file, derive the exchanges that a crash left open there, and join all into an index.
 */
import { RolltapeError } from '../errors.ts'
import type { ErrorCode } from '../errors.ts'
import type { TapePosition } from '../tape/exchange.ts'
import type { IgnoreRules } from './canonical.ts'
import { joinIndex } from './index-join.ts'
import type { IndexPart } from './index-join.ts'
import type { IndexMemory } from './index-table.ts'
import { scanEnds, scanSegment } from './scan-segment.ts'
import type { ScannedEnds, ScannedSegment } from './scan-segment.ts'
import { scanStretch } from './scan-stretch.ts'
import type { ScannedStretch, Stretch } from './scan-stretch.ts'
import { loadSidecar, writeSidecar } from './sidecar-file.ts'
import type { FileState, LoadedSidecar } from './sidecar-file.ts'
import type { BlockRange } from './sidecar.ts'

/** Reads a stretch of a file. */
export interface StretchTask {
  readonly stretch: Stretch
  readonly ignore: IgnoreRules
}

/** Reads a segment. */
export interface SegmentTask {
  readonly folder: string
  readonly segment: string
  readonly ignore: IgnoreRules
}

/** Derives exchanges. */
export interface EndsTask {
  readonly folder: string
  readonly ends: readonly TapePosition[]
  readonly ignore: IgnoreRules
}

/** Reads a file's sidecar. */
export interface SidecarTask {
  readonly sidecarOf: FileState
  readonly ignore: IgnoreRules
}

/** Packed records of some lines of a file. */
export interface FilePart extends IndexPart {
  /** Which lines; undefined for records of a tape. */
  readonly range: BlockRange | undefined
}

/** Joins what was read. */
export interface JoinTask {
  readonly parts: readonly FilePart[]
  /** Files whose sidecars are to be written anew, with their numbers. */
  readonly write: readonly (FileState & { readonly file: number })[]
  readonly ignore: IgnoreRules
  /** Names of the segments that are there. */
  readonly onTape: readonly string[]
}

/** A task. */
export type IndexTask = StretchTask | SidecarTask | SegmentTask | EndsTask | JoinTask

/** What becomes of a task. */
export type IndexResultOf<T extends IndexTask> = T extends StretchTask
  ? ScannedStretch
  : T extends SidecarTask
    ? LoadedSidecar
    : T extends SegmentTask
      ? ScannedSegment
      : T extends EndsTask
        ? ScannedEnds
        : IndexMemory

/** A task's result, or the error that it ended with: threads do not hand on its class. */
export type IndexAnswer =
  | IndexResultOf<IndexTask>
  | {
      readonly failed: {
        readonly code: ErrorCode
        readonly message: string
        readonly hint: string | undefined
      }
    }

/** Does one task. */
export function runIndexTask(task: IndexTask): IndexAnswer {
  try {
    if ('parts' in task) return join(task)
    if ('sidecarOf' in task) return loadSidecar(task.sidecarOf, task.ignore)
    if ('stretch' in task) return scanStretch(task.stretch, task.ignore)
    if ('segment' in task) return scanSegment(task.folder, task.segment, task.ignore)
    return scanEnds(task.folder, task.ends, task.ignore)
  } catch (error) {
    if (!(error instanceof RolltapeError)) throw error
    const { code, message, hint } = error
    return { failed: { code, message, hint } }
  }
}

function join({ parts, onTape, write, ignore }: JoinTask): IndexMemory {
  for (const { file, ...state } of write) {
    const blocks = parts.flatMap((part) =>
      part.file === file && part.range !== undefined ? [{ ...part.range, records: part }] : [],
    )
    try {
      writeSidecar(state, blocks, ignore)
    } catch {
      // A folder that cannot be written to: the next start reads the lines again.
    }
  }
  return joinIndex(parts, new Set(onTape))
}
