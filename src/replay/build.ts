/**
 * Makes the replay index of a source, in threads of its own: whoever waits for it has its loop free.
 *
 * A source is a `.jsonl` (ours with or without its tape, or another recorder's), together with the
 * parts that rotations closed before it; or a tape folder alone, whose records are derived for it.
 * Files are read in stretches, but for what their sidecars know, tapes by segment; what comes of
 * them is joined in their order.
 */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { RolltapeError } from '../errors.ts'
import { INDEX_STRETCH_BYTES, SIDECAR_WORTH_BYTES, SOURCE_READS_MAX } from '../limits.ts'
import type { TapePosition } from '../tape/exchange.ts'
import { TapeFolder } from '../tape/reader.ts'
import { partsUpTo, tapeFolderBeside } from '../trajectory/parts.ts'
import type { IgnoreRules } from './canonical.ts'
import { IndexPool } from './index-pool.ts'
import type { IndexPart } from './index-join.ts'
import { KEY_LISTS } from './index-table.ts'
import type { IndexMemory } from './index-table.ts'
import { foreignTape } from './own-tape.ts'
import type { OddLine, Stretch } from './scan-stretch.ts'
import { fileState } from './sidecar-file.ts'
import type { FileState } from './sidecar-file.ts'
import type { BlockRange, RecordsBlock } from './sidecar.ts'

/** A replay source, ready to be played. */
export interface ReplaySource {
  /** The files of records, as the index numbers them; none when the source is a tape alone. */
  readonly files: readonly string[]
  /** Tape folder; undefined when there is none. */
  readonly folder: string | undefined
  readonly index: IndexMemory
  /** In one line each: a torn last line, exchanges that cannot be read. */
  readonly troubles: readonly string[]
  /** Bytes of lines that had to be read, as no sidecar knows of them. */
  readonly scannedBytes: number
  /** Bytes of lines that were compared with what their sidecar was made of. */
  readonly comparedBytes: number
}

/** What building needs. */
export interface BuildOptions {
  /** A `.jsonl` or a tape folder. */
  readonly file: string
  readonly ignore: IgnoreRules
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
}

/**
 * Reads a source. Where its recorder closes a part meanwhile, files have other names than at the
 * start: then it is read once more.
 * @throws RolltapeError `not_found` when it is missing or a folder without a tape,
 *   `record_malformed` with the line, `tape_corrupt`.
 */
export async function buildReplaySource(options: BuildOptions): Promise<ReplaySource> {
  for (let attempt = 1; ; attempt++) {
    const before = namesOf(options.file)
    const isLast = attempt === SOURCE_READS_MAX
    try {
      const source = await readSource(options)
      if (isLast || namesOf(options.file) === before) return source
    } catch (error) {
      if (isLast || namesOf(options.file) === before) throw error
    }
  }
}

/** Which files go by which names now, as text. */
function namesOf(file: string): string {
  const found = partsUpTo(file).map((path) => [
    path,
    statSync(path, { throwIfNoEntry: false })?.ino,
  ])
  return JSON.stringify(found)
}

async function readSource(options: BuildOptions): Promise<ReplaySource> {
  const { file } = options
  const found = statSync(file, { throwIfNoEntry: false })
  if (found === undefined) throw missing(file)
  const isTape = found.isDirectory()
  if (!isTape && !found.isFile()) {
    throw new RolltapeError('bad_argument', `${file} is neither a file nor a folder`, {
      hint: 'a device or a pipe may have no end; give a .jsonl of records, or a tape folder',
    })
  }
  const files = isTape ? [] : partsUpTo(file)
  const beside = isTape ? file : folderBeside(file)
  const foreign = beside === undefined ? undefined : await foreignTape(files, beside)
  const folder = foreign === undefined ? beside : undefined
  const tape = folder === undefined ? undefined : new TapeFolder(folder)
  const segments = tape?.written() ?? []
  if (isTape && segments.length === 0) {
    throw new RolltapeError('not_found', `there is no tape in the folder ${file}`, {
      hint: 'give a .jsonl of records, or a tape folder such as runs/a.tape',
    })
  }
  const states = files.map(fileState)
  const sizes = isTape
    ? segments.map(({ name }) => tape?.sizeOf(name) ?? 0)
    : states.map(({ size }) => size)
  const progress = new ProgressSum(sizes, options.onProgress)
  const pool = new IndexPool(progress.total)
  try {
    const { parts, troubles, scannedBytes, comparedBytes } = isTape
      ? await readTape(pool, options, segments, progress)
      : await readFiles(pool, states, options.ignore, progress)
    // Who records here writes the sidecar as well.
    const isLive = folder !== undefined && existsSync(join(folder, 'lock'))
    const unknown = states.flatMap((state, n) => {
      const readBytes = (scannedBytes[n] ?? 0) + (comparedBytes[n] ?? 0)
      return isLive || readBytes <= SIDECAR_WORTH_BYTES ? [] : [{ write: state, file: n }]
    })
    const [index] = await Promise.all([
      joinIndex(
        pool,
        parts,
        segments.map(({ name }) => name),
      ),
      ...unknown.map(({ write, file }) =>
        pool.run({ write, blocks: blocksOf(parts, file), ignore: options.ignore }),
      ),
    ])
    return {
      files,
      folder: segments.length === 0 ? undefined : folder,
      index,
      troubles: foreign === undefined ? troubles : [foreign, ...troubles],
      scannedBytes: sum(scannedBytes),
      comparedBytes: sum(comparedBytes),
    }
  } finally {
    await pool.close()
  }
}

/** Joins what was read, then chains the lists of all kinds side by side. */
async function joinIndex(
  pool: IndexPool,
  parts: readonly FilePart[],
  onTape: readonly string[],
): Promise<IndexMemory> {
  const joined = await pool.run({ parts, onTape })
  const { entries, count } = joined
  const chained = await Promise.all(KEY_LISTS.map((list) => pool.run({ entries, count, list })))
  return { ...joined, tables: chained.map(({ table }) => table) }
}

/** What was read of a file, as its sidecar has it. */
function blocksOf(parts: readonly FilePart[], file: number): RecordsBlock[] {
  return parts.flatMap((part) =>
    part.file === file && part.range !== undefined ? [{ ...part.range, records: part }] : [],
  )
}

/** Packed records of some lines of a file. */
interface FilePart extends IndexPart {
  /** Which lines; undefined for records of a tape. */
  readonly range: BlockRange | undefined
}

/** What reading comes to, in the order of the source. */
interface Read {
  readonly parts: readonly FilePart[]
  readonly troubles: readonly string[]
  /** Of each file. */
  readonly scannedBytes: readonly number[]
  readonly comparedBytes: readonly number[]
}

async function readFiles(
  pool: IndexPool,
  states: readonly FileState[],
  ignore: IgnoreRules,
  progress: ProgressSum,
): Promise<Read> {
  const scannedBytes: number[] = []
  const compared: number[] = []
  const pieces = await inOrder(states, async (state, file) => {
    const { blocks, comparedBytes } = await pool.run({ sidecarOf: state, ignore })
    const gaps = gapsOf(blocks, state)
    const gapBytes = sum(gaps.map(({ from, to }) => to - from))
    scannedBytes[file] = gapBytes
    compared[file] = comparedBytes
    if (blocks.length > 0) progress.add(state.size - gapBytes)
    const scanned = await inOrder(gaps, async (stretch) => {
      const result = await pool.run({ stretch, ignore })
      progress.add(stretch.to - stretch.from)
      return result
    })
    const known = blocks.map(({ records, ...range }) => {
      return { records, range, malformed: undefined, torn: undefined }
    })
    return [...known, ...scanned].sort((a, b) => a.range.from - b.range.from)
  })
  const parts: FilePart[] = []
  const troubles: string[] = []
  for (const [file, { path }] of states.entries()) {
    let lines = 0
    for (const { records, range, malformed, torn } of pieces[file] ?? []) {
      if (malformed !== undefined) throw malformedLine(path, lines, malformed)
      if (torn !== undefined) {
        const line = lines + torn.line
        troubles.push(`line ${line} of ${path} is torn after ${torn.length} bytes, and left out`)
      }
      lines += range.lines
      parts.push({ ...records, file, range })
    }
  }
  return { parts, troubles, scannedBytes, comparedBytes: compared }
}

/** What no block stands for, in stretches. */
function gapsOf(blocks: readonly RecordsBlock[], { path, size }: FileState): Stretch[] {
  const gaps: Stretch[] = []
  let at = 0
  for (const { from, to } of [...blocks, { from: size, to: size }]) {
    for (; at < from; at = Math.min(from, at + INDEX_STRETCH_BYTES)) {
      gaps.push({ path, from: at, to: Math.min(from, at + INDEX_STRETCH_BYTES), size })
    }
    at = to
  }
  return gaps
}

function malformedLine(path: string, before: number, odd: OddLine): RolltapeError {
  const line = `line ${before + odd.line} of ${path}`
  if (odd.isJson) {
    return new RolltapeError('record_malformed', `${line} ${odd.why}`, {
      hint: 'docs/replay.md tells which lines can be replayed; take this one out',
    })
  }
  return new RolltapeError('record_malformed', `${line} (byte ${odd.offset}) ${odd.why}`, {
    hint: 'take the line out, or derive the file anew from its tape',
  })
}

async function readTape(
  pool: IndexPool,
  { file: folder, ignore }: BuildOptions,
  segments: ReturnType<TapeFolder['written']>,
  progress: ProgressSum,
): Promise<Read> {
  const scanned = await inOrder(segments, async ({ name, lane }, i) => {
    const result = await pool.run({ folder, segment: name, ignore })
    progress.add(progress.sizes[i] ?? 0)
    return { ...result, lane }
  })
  // Exchanges without an END so far, by lane and number: as many as ran at once.
  const open = new Map<string, TapePosition>()
  for (const segment of scanned) {
    for (const seq of segment.closed) open.delete(`${segment.lane} ${seq}`)
    for (const [seq, end] of segment.open) open.set(`${segment.lane} ${seq}`, end)
  }
  const unended = await pool.run({ folder, ends: [...open.values()], ignore })
  const all = [...scanned, unended]
  return {
    parts: all.map(({ records }) => ({ ...records, file: 0, range: undefined })),
    troubles: all.flatMap(({ troubles }) => troubles),
    scannedBytes: [],
    comparedBytes: [],
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0)
}

/** All results in the order of the items, which are worked on side by side. */
async function inOrder<T, R>(
  items: readonly T[],
  work: (item: T, i: number) => Promise<R>,
): Promise<R[]> {
  return Promise.all(items.map(work))
}

/** Bytes read of all bytes. */
class ProgressSum {
  readonly sizes: readonly number[]
  readonly total: number
  readonly #onProgress: BuildOptions['onProgress']
  #done = 0

  constructor(sizes: readonly number[], onProgress: BuildOptions['onProgress']) {
    this.sizes = sizes
    this.total = sum(sizes)
    this.#onProgress = onProgress
  }

  add(bytes: number): void {
    this.#done += bytes
    this.#onProgress?.(this.#done, this.total)
  }
}

/** The tape folder beside a file of records, if it is there. */
function folderBeside(file: string): string | undefined {
  const folder = tapeFolderBeside(file)
  const found = statSync(folder, { throwIfNoEntry: false })
  return found?.isDirectory() === true ? folder : undefined
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
