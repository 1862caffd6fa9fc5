/**
 * What an index worker does: read a stretch of a file of records, read a segment of a tape that has
 * no such file, derive the exchanges that a crash left open there, join all into an index, and
 * write what was read into a sidecar.
 */
import { RolltapeError } from '../errors.ts'
import type { ErrorCode } from '../errors.ts'
import type { TapePosition } from '../tape/exchange.ts'
import type { IgnoreRules } from './canonical.ts'
import { chain, joinEntries } from './index-join.ts'
import type { IndexPart, JoinedEntries } from './index-join.ts'
import type { KeyList } from './index-table.ts'
import { scanEnds, scanSegment } from './scan-segment.ts'
import type { ScannedEnds, ScannedSegment } from './scan-segment.ts'
import { scanStretch } from './scan-stretch.ts'
import type { ScannedStretch, Stretch } from './scan-stretch.ts'
import { loadSidecar, writeSidecar } from './sidecar-file.ts'
import type { FileState, LoadedSidecar } from './sidecar-file.ts'
import type { RecordsBlock } from './sidecar.ts'

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

/** Joins what was read. */
export interface JoinTask {
  readonly parts: readonly IndexPart[]
  /** Names of the segments that are there. */
  readonly onTape: readonly string[]
}

/** Chains the lists of one kind. */
export interface ChainTask {
  readonly entries: SharedArrayBuffer
  readonly count: number
  readonly list: KeyList
}

/** What a chaining comes to. */
export interface ChainedLists {
  readonly table: SharedArrayBuffer
}

/** Writes a file's sidecar. */
export interface WriteTask {
  readonly write: FileState
  readonly blocks: readonly RecordsBlock[]
  readonly ignore: IgnoreRules
}

/** What a writing comes to: where it cannot be written, the next start reads the lines again. */
export interface WrittenSidecar {
  readonly isWritten: boolean
}

/** A task. */
export type IndexTask =
  | StretchTask
  | SidecarTask
  | SegmentTask
  | EndsTask
  | JoinTask
  | ChainTask
  | WriteTask

/** What becomes of a task. */
export type IndexResultOf<T extends IndexTask> = T extends StretchTask
  ? ScannedStretch
  : T extends SidecarTask
    ? LoadedSidecar
    : T extends SegmentTask
      ? ScannedSegment
      : T extends EndsTask
        ? ScannedEnds
        : T extends JoinTask
          ? JoinedEntries
          : T extends ChainTask
            ? ChainedLists
            : WrittenSidecar

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
    if ('parts' in task) return joinEntries(task.parts, new Set(task.onTape))
    if ('list' in task) return { table: chain(task.entries, task.count, task.list) }
    if ('write' in task) return write(task)
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

function write({ write: file, blocks, ignore }: WriteTask): WrittenSidecar {
  try {
    writeSidecar(file, blocks, ignore)
    return { isWritten: true }
  } catch {
    return { isWritten: false }
  }
}
