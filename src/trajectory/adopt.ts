/**
 * What a restart makes of the `.jsonl` it finds: cuts a torn last line off and learns which
 * exchanges have their line. Lines up to the last checkpoint are taken on its word; only what came
 * after it is read. A file shorter than its checkpoint (cut or deleted by somebody) is read whole,
 * and the closed parts with it.
 */
import { dirname, join } from 'node:path'
import type { Disk } from '../tape/disk.ts'
import type { Checkpoint } from './appender.ts'
import { readRecordLines } from './jsonl.ts'
import { closedParts } from './parts.ts'
import { isObject } from '../wire/json.ts'
import { SeqSet } from './seq-set.ts'

/** What was found. */
export interface Adopted {
  readonly checkpoint: Checkpoint
  /** Bytes of a torn line that were cut off. */
  readonly cutBytes: number
}

/** The checkpoint in a file; where none can be read one that vouches for nothing, so all is read. */
export function readCheckpoint(path: string, disk: Disk): Checkpoint {
  try {
    const found: unknown = JSON.parse(disk.readFileSync(path).toString('utf8'))
    if (isCheckpoint(found)) return found
  } catch {
    // Missing, empty or torn: it is a cache.
  }
  return { jsonlBytes: 0, derived: [] }
}

function isCheckpoint(found: unknown): found is Checkpoint {
  if (!isObject(found)) return false
  const { jsonlBytes, derived } = found
  return Number.isSafeInteger(jsonlBytes) && Array.isArray(derived) && derived.every(isRange)
}

function isRange(found: unknown): boolean {
  return Array.isArray(found) && found.length === 2 && found.every(Number.isSafeInteger)
}

/** Reads on from a checkpoint; the file ends with a whole line afterwards. */
export async function adoptLines(file: string, left: Checkpoint, disk: Disk): Promise<Adopted> {
  const size = disk.sizeSync(file)
  const from = afterRotation(file, left, disk)
  const trusted = size >= from.jsonlBytes && from.lines !== undefined
  const derived = trusted ? SeqSet.from(from.derived) : await derivedIn(closedParts(file, disk))
  const start = trusted ? from.jsonlBytes : 0
  let end = start
  let lines = trusted ? (from.lines ?? 0) : 0
  for await (const line of readRecordLines(file, { start })) {
    const lineEnd = line.offset + line.length + 1
    // A last line without its line break may be whole or not: it is made again from the tape.
    if (lineEnd > size) break
    if (line.record.seq !== undefined) derived.add(line.record.seq)
    end = lineEnd
    lines++
  }
  const cutBytes = Math.max(0, size - end)
  if (cutBytes > 0) {
    const fd = disk.openSync(file, 'r+')
    disk.truncateSync(fd, end)
    disk.closeSync(fd)
  }
  return { checkpoint: { jsonlBytes: end, lines, derived: derived.toJSON() }, cutBytes }
}

/** Which exchanges have their line in these files. */
async function derivedIn(parts: readonly { readonly file: string }[]): Promise<SeqSet> {
  const derived = new SeqSet()
  for (const { file } of parts) {
    for await (const { record } of readRecordLines(file)) {
      if (record.seq !== undefined) derived.add(record.seq)
    }
  }
  return derived
}

/** Where a crash met a rotation: either the file has its new name already, or all is as before. */
function afterRotation(file: string, left: Checkpoint, disk: Disk): Checkpoint {
  const { rotatingTo, ...from } = left
  if (rotatingTo === undefined) return from
  try {
    disk.sizeSync(join(dirname(file), rotatingTo))
  } catch {
    return from
  }
  return { jsonlBytes: 0, lines: 0, derived: from.derived }
}
