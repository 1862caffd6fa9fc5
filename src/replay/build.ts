/**
 * Builds the replay index of a source: reads its records once, in their order, with bounded memory
 * beside the index itself.
 *
 * A source is a `.jsonl` (ours with or without its tape, or another recorder's), or a tape folder
 * alone, whose records are derived on the fly. Our own records carry the digest of their request's
 * bytes, so the raw key needs no body; the canonical key is made of the request as the record has it.
 */
import { readdirSync, statSync } from 'node:fs'
import { RolltapeError } from '../errors.ts'
import { parseSegmentName } from '../tape/format.ts'
import { readRecordLines } from '../trajectory/jsonl.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { readTapeRecords } from '../trajectory/tape-records.ts'
import type { IgnoreRules } from './canonical.ts'
import { joinIndex } from './index-join.ts'
import type { IndexMemory } from './index-table.ts'
import { packRecord } from './pack-record.ts'
import { Packer } from './packed.ts'

/** A replay source, ready to be played. */
export interface ReplaySource {
  /** The file of records; undefined when the source is a tape alone. */
  readonly file: string | undefined
  /** Tape folder; undefined when there is none. */
  readonly folder: string | undefined
  readonly index: IndexMemory
  /** In one line each: a torn last line, exchanges that cannot be read. */
  readonly troubles: readonly string[]
}

/** What building needs. */
export interface BuildOptions {
  /** A `.jsonl` or a tape folder. */
  readonly file: string
  readonly ignore: IgnoreRules
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
}

/**
 * Reads a source.
 * @throws RolltapeError `not_found` when it is missing or a folder without a tape,
 *   `record_malformed` with the line, `tape_corrupt`.
 */
export async function buildReplaySource(options: BuildOptions): Promise<ReplaySource> {
  const { file } = options
  const found = statSync(file, { throwIfNoEntry: false })
  if (found === undefined) throw missing(file)
  const isTape = found.isDirectory()
  const folder = isTape ? file : folderBeside(file)
  const segments = folder === undefined ? [] : segmentsOf(folder)
  if (isTape && segments.length === 0) {
    throw new RolltapeError('not_found', `there is no tape in the folder ${file}`, {
      hint: 'give a .jsonl of records, or a tape folder such as runs/a.tape',
    })
  }
  const builder = new Builder(options.ignore, new Set(segments))
  const troubles: string[] = []
  if (isTape) await readTape(builder, options, troubles)
  else await readLines(builder, options, troubles)
  return {
    file: isTape ? undefined : file,
    folder: segments.length === 0 ? undefined : folder,
    index: builder.build(),
    troubles,
  }
}

async function readTape(
  builder: Builder,
  { file, onProgress }: BuildOptions,
  troubles: string[],
): Promise<void> {
  const onTrouble = (trouble: string): void => void troubles.push(trouble)
  const options = onProgress === undefined ? { onTrouble } : { onTrouble, onProgress }
  for await (const record of readTapeRecords(file, options)) builder.add(record, -1, 0)
}

async function readLines(
  builder: Builder,
  { file, onProgress }: BuildOptions,
  troubles: string[],
): Promise<void> {
  const lines = readRecordLines(file, {
    onTorn: ({ line, length }) =>
      troubles.push(`line ${line} of ${file} is torn after ${length} bytes, and left out`),
    ...(onProgress && { onProgress: ({ bytes, bytesTotal }) => onProgress(bytes, bytesTotal) }),
  })
  for await (const { record, line, offset, length } of lines) {
    const why = builder.add(record, offset, length)
    if (why === undefined) continue
    throw new RolltapeError('record_malformed', `line ${line} of ${file} ${why}`, {
      hint: 'docs/replay.md tells which lines can be replayed; take this one out',
    })
  }
}

/** The tape folder beside a file of records: `runs/a.jsonl`, `runs/a.000001.jsonl` → `runs/a.tape`. */
function folderBeside(file: string): string | undefined {
  const folder = `${file.replace(/(?:\.\d{6})?\.jsonl$/, '')}.tape`
  const found = statSync(folder, { throwIfNoEntry: false })
  return found?.isDirectory() === true ? folder : undefined
}

function segmentsOf(folder: string): string[] {
  return readdirSync(folder).filter((name) => parseSegmentName(name) !== undefined)
}

function missing(file: string): RolltapeError {
  const beside = folderBeside(file)
  return new RolltapeError('not_found', `there is no recording at ${file}`, {
    hint:
      beside === undefined
        ? 'give the .jsonl of a recording, or its tape folder, as --replay-file'
        : `its tape is there: --replay-file ${beside}`,
  })
}

/** Gathers entries. */
class Builder {
  readonly #ignore: IgnoreRules
  readonly #onTape: ReadonlySet<string>
  readonly #packer = new Packer()

  /** `onTape` has the names of the segments that are there. */
  constructor(ignore: IgnoreRules, onTape: ReadonlySet<string>) {
    this.#ignore = ignore
    this.#onTape = onTape
  }

  /** Takes a record; returns why it is none. `offset` is -1 where there is no line. */
  add(record: StoredRecord, offset: number, length: number): string | undefined {
    return packRecord(this.#packer, record, { offset, length }, this.#ignore)
  }

  build(): IndexMemory {
    return joinIndex([{ ...this.#packer.take(), file: 0 }], this.#onTape)
  }
}
