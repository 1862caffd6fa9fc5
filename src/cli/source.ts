/**
 * Where `inspect` and `show` get records from: a `.jsonl`, or a tape folder whose exchanges are
 * derived anew, one at a time. Memory is bounded by one record either way.
 */
import { statSync, type Stats } from 'node:fs'

import { RolltapeError } from '../errors.ts'
import { readRecords, type StoredRecord, type TornLine } from '../trajectory/jsonl.ts'
import { tapeFolderBeside } from '../trajectory/parts.ts'
import { readPartRecords } from '../trajectory/part-records.ts'
import { readTapeRecords } from '../trajectory/tape-records.ts'
import { withRequests } from '../trajectory/taped-requests.ts'
import { formatBytes } from './table.ts'

/** How to read. */
export interface SourceOptions {
  /** Wait for more until the signal fires; not for a tape folder. */
  readonly follow?: boolean
  /** Begin with the parts that rotations closed, as a replay does; not with `follow`. */
  readonly parts?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (bytesDone: number, bytesTotal: number) => void
  /** Told in one line about each part that cannot be read; reading goes on behind it. */
  readonly onTrouble: (line: string) => void
}

/** The records at `path`. Throws `not_found`, `bad_option`, `record_malformed`, `tape_corrupt`. */
export function openRecords(path: string, options: SourceOptions): AsyncIterable<StoredRecord> {
  const { follow = false, parts = false, signal, onProgress, onTrouble } = options
  const found = statSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory() === true) {
    if (!follow) return readTapeRecords(path, options)
    throw new RolltapeError('bad_option', `${path} is a tape, and --follow reads a .jsonl`, {
      hint: 'give the .jsonl beside the tape',
    })
  }
  if (found === undefined && !follow) throw missing(path)
  const onTorn = (file: string, { line, length }: TornLine): void =>
    onTrouble(`${file}: line ${line} is torn after ${formatBytes(length)}, and left out`)
  if (parts && !follow) return readPartRecords(path, { ...options, onTorn })
  return readRecords(path, {
    follow,
    onTorn: (torn) => onTorn(path, torn),
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined
      ? {}
      : { onProgress: ({ bytes, bytesTotal }) => onProgress(bytes, bytesTotal) }),
  })
}

/** As {@link openRecords}; requests that are on the tape alone are read there. */
export function openWholeRecords(
  path: string,
  options: SourceOptions,
): AsyncIterable<StoredRecord> {
  return withRequests(openRecords(path, options), tapeFolderOf(path), options.onTrouble)
}

/** The tape folder of a recording: `runs/a.jsonl`, `runs/a.000001.jsonl` → `runs/a.tape`. */
export function tapeFolderOf(path: string): string {
  const found: Stats | undefined = statSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory() === true) return path
  return tapeFolderBeside(path)
}

function missing(path: string): RolltapeError {
  return new RolltapeError('not_found', `${path}: no such file`, {
    hint: 'give a .jsonl, or the tape folder beside it',
  })
}
