/**
 * What a recording takes on the disk: its tape, plain and as it stands there, and its records.
 */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { SEALED_SUFFIX } from '../tape/format.ts'
import { TapeFolder } from '../tape/reader.ts'
import { partsUpTo } from '../trajectory/parts.ts'
import { tapeFolderOf } from './source.ts'
import { formatBytes } from './table.ts'

/** Bytes of a recording. */
export interface RecordingBytes {
  /** Of the tape, all segments unpacked. */
  readonly tape: number
  /** Of the segments' files, sealed or not. */
  readonly tapeOnDisk: number
  /** Of those, sealed ones: their bytes unpacked, and as they are. */
  readonly sealedPlain: number
  readonly sealed: number
  /** Of the records, closed parts among them; 0 for a tape alone. */
  readonly records: number
}

/** The bytes of the recording at `path`; undefined where there is no tape. */
export function bytesOf(path: string): RecordingBytes | undefined {
  const folder = tapeFolderOf(path)
  if (!existsSync(folder)) return undefined
  const tape = new TapeFolder(folder)
  const sizes = { tape: 0, tapeOnDisk: 0, sealedPlain: 0, sealed: 0 }
  for (const { name, isSealed } of tape.written()) {
    const plain = tape.sizeOf(name)
    const onDisk = isSealed ? sizeOfFile(join(folder, `${name}${SEALED_SUFFIX}`)) : plain
    sizes.tape += plain
    sizes.tapeOnDisk += onDisk
    if (!isSealed) continue
    sizes.sealedPlain += plain
    sizes.sealed += onDisk
  }
  tape.close()
  const files = folder === path ? [] : partsUpTo(path)
  const records = files.reduce((sum, file) => sum + sizeOfFile(file), 0)
  return { ...sizes, records }
}

/** How many bytes a sealed one stands for; null where nothing is sealed. */
export function sealedRatio({ sealedPlain, sealed }: RecordingBytes): number | null {
  return sealed === 0 ? null : Math.round((10 * sealedPlain) / sealed) / 10
}

/** In one line, for people; `turns` is over all sessions. */
export function describeBytes(bytes: RecordingBytes, turns: number): string {
  const each = (all: number): string => formatBytes(Math.round(all / Math.max(1, turns)))
  const ratio = sealedRatio(bytes)
  const parts = [
    `tape ${each(bytes.tape)}, on the disk ${each(bytes.tapeOnDisk)}`,
    ...(ratio === null ? [] : [`sealed segments ${ratio.toFixed(1)} to 1`]),
    ...(bytes.records === 0 ? [] : [`records ${each(bytes.records)}`]),
  ]
  return `bytes of a turn: ${parts.join('; ')}; of ${turns}`
}

/** 0 for one that has gone meanwhile. */
function sizeOfFile(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}
