/**
 * `rolltape verify`: is a recording whole? Reads every byte of the tape, gathers every exchange, and
 * compares the records with them. Memory is bounded by a few dozen bytes per exchange.
 */
import { existsSync, statSync } from 'node:fs'
import { Command } from 'commander'
import { RolltapeError } from '../errors.ts'
import { damageOf, gatherAll, placeOf, type TapeFrames } from '../tape/check.ts'
import { realDisk } from '../tape/disk.ts'
import { recordedNow } from '../tape/lock.ts'
import { RecordCheck } from '../trajectory/check.ts'
import type { SeqSet } from '../trajectory/seq-set.ts'
import { readPartRecords } from '../trajectory/part-records.ts'
import { withProgress, type ReadingTold } from './progress.ts'
import { tapeFolderOf } from './source.ts'
import { formatBytes } from './table.ts'
import { breathe, framesOf } from './tape-reading.ts'
import { EXIT, say, type Terminal } from './terminal.ts'

/** Exchanges gathered before whoever reads may do something else. */
const GATHERED_PER_STEP = 256

/** Numbers of exchanges that are named of each finding. */
const NAMED_MAX = 8

/** What was found; the lists hold numbers of exchanges (`seq`). */
interface Verified {
  readonly frames: TapeFrames
  /** Why somebody records into it now; null when nobody does. */
  readonly recordedBy: string | null
  readonly records: number
  /** Lines that were torn by a crash. */
  readonly tornLines: number
  readonly unreadable: readonly number[]
  readonly withGaps: readonly number[]
  readonly withoutRecord: readonly number[]
  readonly withoutExchange: readonly number[]
  /** Exchanges with a record of which nothing, or not all, is on the tape any more; no damage. */
  readonly letGo: readonly number[]
  readonly doubled: readonly number[]
  readonly differing: readonly number[]
}

/** A crash leaves such, and so does a line that was lost. */
const WITHOUT_RECORD =
  'exchanges have no record (after a crash the next start on this recording makes them; `rolltape derive` makes them anew)'

const HELP = `
Damage, and exit code 1: bytes that no sound frame covers, segments that are missing or no tape,
exchanges that cannot be read, records that are missing, double, without their exchange, or that tell
of another request. A torn tail and exchanges without an end are what a crash leaves; they are told,
and the next start on this recording makes records of them. Segments that were let go by
--tape-retain are no damage either: their exchanges have their records.

  rolltape verify runs/a.jsonl && rolltape export runs/a.jsonl --out a.samples.jsonl`

/** Makes the command. */
export function verifyCommand(terminal: Terminal, finish: (code: number) => void): Command {
  return new Command('verify')
    .summary('tell whether a recording is whole')
    .description('Tell whether a recording is whole: every byte of its tape, every record')
    .argument('<recording>', 'a .jsonl with its tape beside it, or a tape folder')
    .option('--json', 'one JSON object, for scripts')
    .addHelpText('after', HELP)
    .action(async (path: string, { json }: { json?: boolean }) => {
      const verified = await withProgress(terminal, (told) => verify(path, terminal, told))
      const findings = findingsOf(verified)
      if (json === true) say(terminal, JSON.stringify(jsonOf(verified)))
      else for (const line of [...summaryOf(verified), ...findings]) say(terminal, line)
      finish(findings.length === 0 ? EXIT.done : EXIT.failed)
    })
}

async function verify(path: string, terminal: Terminal, told: ReadingTold): Promise<Verified> {
  const folder = tapeFolderOf(path)
  if (!existsSync(folder)) {
    throw new RolltapeError('not_found', `${folder}: there is no tape to compare with`, {
      hint: 'give a .jsonl whose tape is beside it, or a tape folder',
    })
  }
  const recordedBy = recordedNow(folder, realDisk) ?? null
  const frames = await framesOf(folder, terminal.stopping, told)
  const file = statSync(path).isDirectory() ? `${folder.replace(/\.tape\/?$/, '')}.jsonl` : path
  const check = new RecordCheck((segment) => frames.letGo.has(segment))
  let tornLines = 0
  if (existsSync(file)) {
    const onTorn = (): unknown => tornLines++
    for await (const record of readPartRecords(file, { onTorn, signal: terminal.stopping })) {
      check.add(record)
    }
    await breathe(terminal.stopping)
  }
  const { last, open } = frames
  const unreadable: number[] = []
  const withGaps: number[] = []
  const differing: number[] = []
  const letGo = numbersOf(check.letGo).filter((seq) => !last.has(seq))
  let gathered = 0
  for (const one of gatherAll(folder, last)) {
    if ('why' in one && one.isLetGo) {
      letGo.push(one.seq)
    } else if ('why' in one) {
      unreadable.push(one.seq)
      told.onTrouble(one.why)
    } else {
      if (one.exchange.gaps.length > 0) withGaps.push(one.seq)
      if (check.differs(one.exchange)) differing.push(one.seq)
    }
    if (++gathered % GATHERED_PER_STEP === 0) await breathe(terminal.stopping)
  }
  const isMade = (seq: number): boolean => check.seqs.has(seq) || open.has(seq)
  return {
    frames,
    recordedBy,
    records: check.count,
    tornLines,
    unreadable,
    withGaps,
    // While somebody records, records are a moment behind.
    withoutRecord: recordedBy === null ? [...last.keys()].filter((seq) => !isMade(seq)) : [],
    withoutExchange: numbersOf(check.seqs).filter((seq) => !last.has(seq) && !check.letGo.has(seq)),
    letGo,
    doubled: check.doubled,
    differing,
  }
}

function numbersOf(seqs: SeqSet): number[] {
  return seqs
    .toJSON()
    .flatMap(([first, end]) => Array.from({ length: end - first + 1 }, (_, n) => first + n))
}

function summaryOf(verified: Verified): string[] {
  const { frames, recordedBy, records, tornLines, withGaps, letGo } = verified
  const { segments, bytes, frames: count, last, open, torn } = frames
  const exchanges = `${last.size} exchanges in ${count} frames of ${segments} segments`
  const notes = [
    ...(recordedBy === null ? [] : [`being recorded: ${recordedBy}`]),
    ...(open.size === 0
      ? []
      : [`${open.size} exchanges ${recordedBy === null ? 'have not ended' : 'are open'}`]),
    ...(frames.letGo.count === 0
      ? []
      : [
          `${frames.letGo.count} segments were let go (tape_retain); ${letGo.length} exchanges have their record only`,
        ]),
    ...torn.map((stretch) => `torn by a crash: ${placeOf(stretch)}`),
    ...(tornLines === 0 ? [] : ['the last line of records is torn']),
    ...(withGaps.length === 0
      ? []
      : [`${withGaps.length} exchanges have gaps: ${named(withGaps)}`]),
  ]
  return [`${exchanges}, ${formatBytes(bytes)}; ${records} records`, ...notes]
}

function findingsOf(verified: Verified): string[] {
  const { frames, unreadable, withoutRecord, withoutExchange, doubled, differing } = verified
  const some = (numbers: readonly number[], what: string): string[] =>
    numbers.length === 0 ? [] : [`DAMAGE ${numbers.length} ${what}: ${named(numbers)}`]
  return [
    ...damageOf(frames).map((what) => `DAMAGE ${what}`),
    ...some(unreadable, 'exchanges cannot be read'),
    ...some(withoutRecord, WITHOUT_RECORD),
    ...some(withoutExchange, 'records have no exchange on the tape'),
    ...some([...doubled], 'exchanges have more than one record'),
    ...some(differing, 'records tell of another request than the tape'),
  ]
}

function jsonOf(verified: Verified): object {
  const { frames, recordedBy, records, tornLines, ...numbers } = verified
  const { segments, bytes, last, open, damaged, torn, missing, unreadable } = frames
  return {
    whole: findingsOf(verified).length === 0,
    segments,
    bytes,
    frames: frames.frames,
    exchanges: last.size,
    records,
    recorded_by: recordedBy,
    open: [...open],
    torn,
    torn_lines: tornLines,
    damaged,
    missing_segments: missing,
    unreadable_segments: unreadable,
    unreadable: numbers.unreadable,
    with_gaps: numbers.withGaps,
    without_record: numbers.withoutRecord,
    without_exchange: numbers.withoutExchange,
    segments_let_go: frames.letGo.count,
    let_go: numbers.letGo,
    doubled: numbers.doubled,
    differing: numbers.differing,
  }
}

function named(numbers: readonly number[]): string {
  const more = numbers.length - NAMED_MAX
  return `seq ${numbers.slice(0, NAMED_MAX).join(', ')}${more > 0 ? `, … ${more} more` : ''}`
}
