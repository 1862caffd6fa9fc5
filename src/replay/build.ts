/**
 * Makes the replay index of a source, in threads of its own: whoever waits for it has its loop free.
 *
 * A source is a `.jsonl` (ours with or without its tape, or another recorder's), together with the
 * parts that rotations closed before it; or a tape folder alone, whose records are derived for it.
 * Files are read in stretches, tapes by segment; what comes of them is joined in their order.
 */
import { readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { RolltapeError } from '../errors.ts'
import { INDEX_STRETCH_BYTES } from '../limits.ts'
import type { TapePosition } from '../tape/exchange.ts'
import { parseSegmentName } from '../tape/format.ts'
import { TapeFolder } from '../tape/reader.ts'
import type { IgnoreRules } from './canonical.ts'
import type { IndexPart } from './index-join.ts'
import { IndexPool } from './index-pool.ts'
import type { IndexMemory } from './index-table.ts'
import type { OddLine, Stretch } from './scan-stretch.ts'

/** A replay source, ready to be played. */
export interface ReplaySource {
  /** The files of records, as the index numbers them; none when the source is a tape alone. */
  readonly files: readonly string[]
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
  const files = isTape ? [] : partsOf(file)
  const sizes = isTape
    ? segments.map((name) => statSync(join(file, name)).size)
    : files.map((path) => statSync(path).size)
  const progress = new ProgressSum(sizes, options.onProgress)
  const pool = new IndexPool(progress.total)
  try {
    const { parts, troubles } = isTape
      ? await readTape(pool, options, progress)
      : await readFiles(pool, { files, sizes }, options.ignore, progress)
    const memory = parts.map(({ words }) => words.buffer as ArrayBuffer)
    const index = await pool.run({ parts, onTape: segments }, memory)
    return { files, folder: segments.length === 0 ? undefined : folder, index, troubles }
  } finally {
    await pool.close()
  }
}

/** What reading comes to, in the order of the source. */
interface Read {
  readonly parts: readonly IndexPart[]
  readonly troubles: readonly string[]
}

async function readFiles(
  pool: IndexPool,
  { files, sizes }: { files: readonly string[]; sizes: readonly number[] },
  ignore: IgnoreRules,
  progress: ProgressSum,
): Promise<Read> {
  const stretches = files.flatMap((path, file) => stretchesOf(path, file, sizes[file] ?? 0))
  const scanned = await inOrder(stretches, async ({ file, ...stretch }) => {
    const result = await pool.run({ stretch, ignore })
    progress.add(stretch.to - stretch.from)
    return { ...result, path: stretch.path, file }
  })
  const parts: IndexPart[] = []
  const troubles: string[] = []
  let lines = 0
  let file = 0
  for (const stretch of scanned) {
    if (stretch.file !== file) lines = 0
    ;({ file } = stretch)
    const { path, malformed, torn } = stretch
    if (malformed !== undefined) throw malformedLine(path, lines, malformed)
    if (torn !== undefined) {
      const line = lines + torn.line
      troubles.push(`line ${line} of ${path} is torn after ${torn.length} bytes, and left out`)
    }
    lines += stretch.lines
    parts.push({ ...stretch.records, file })
  }
  return { parts, troubles }
}

function stretchesOf(path: string, file: number, size: number): (Stretch & { file: number })[] {
  const stretches: (Stretch & { file: number })[] = []
  for (let from = 0; from < size; from += INDEX_STRETCH_BYTES) {
    const to = Math.min(size, from + INDEX_STRETCH_BYTES)
    stretches.push({ path, file, from, to, size })
  }
  return stretches
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
  progress: ProgressSum,
): Promise<Read> {
  const tape = new TapeFolder(folder)
  const segments = tape.segments()
  tape.close()
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
    parts: all.map(({ records }) => ({ ...records, file: 0 })),
    troubles: all.flatMap(({ troubles }) => troubles),
  }
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
    this.total = sizes.reduce((sum, size) => sum + size, 0)
    this.#onProgress = onProgress
  }

  add(bytes: number): void {
    this.#done += bytes
    this.#onProgress?.(this.#done, this.total)
  }
}

const PART = /\.\d{6}\.jsonl$/

/** The tape folder beside a file of records: `runs/a.jsonl`, `runs/a.000001.jsonl` → `runs/a.tape`. */
function folderBeside(file: string): string | undefined {
  const folder = `${file.replace(/(?:\.\d{6})?\.jsonl$/, '')}.tape`
  const found = statSync(folder, { throwIfNoEntry: false })
  return found?.isDirectory() === true ? folder : undefined
}

/** A file of records and the parts that rotations closed before it, in their order. */
function partsOf(file: string): string[] {
  if (!file.endsWith('.jsonl') || PART.test(file)) return [file]
  const stem = basename(file, '.jsonl')
  const parts = readdirSync(dirname(file)).filter(
    (name) => PART.test(name) && name.replace(PART, '') === stem,
  )
  return [...parts.sort().map((name) => join(dirname(file), name)), file]
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
