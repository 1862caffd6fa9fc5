/**
 * The records of a recording together with those of the parts that rotations closed before it, as
 * a replay knows them.
 */
import { statSync } from 'node:fs'
import { readRecords } from './jsonl.ts'
import type { StoredRecord, TornLine } from './jsonl.ts'
import { partsUpTo } from './parts.ts'

/** How to read. */
export interface PartRecordsOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (bytesDone: number, bytesTotal: number) => void
  /** Told of a torn last line of a file. */
  readonly onTorn?: (path: string, torn: TornLine) => void
}

/** The records of all parts, in their order. Throws `record_malformed`, with the part's name. */
export async function* readPartRecords(
  file: string,
  { signal, onProgress, onTorn }: PartRecordsOptions = {},
): AsyncGenerator<StoredRecord, void, undefined> {
  const files = partsUpTo(file)
  const sizes = files.map((path) => statSync(path).size)
  const total = sizes.reduce((sum, size) => sum + size, 0)
  let done = 0
  for (const [i, path] of files.entries()) {
    if (signal?.aborted === true) return
    yield* readRecords(path, {
      onTorn: (torn) => onTorn?.(path, torn),
      onProgress: ({ bytes }) => onProgress?.(done + bytes, total),
      ...(signal === undefined ? {} : { signal }),
    })
    done += sizes[i] ?? 0
  }
}
