/**
 * Derive's unit of work: read exchanges from the tape, make their records, have them appended.
 *
 * A task names places on the tape, never payload. It is either a list of ends, or a stretch of the
 * tape to be walked for ends (when more finished than a lane keeps hints for); what a walk finds
 * goes back to the lane, so that it is derived, and tried again, like anything else.
 */
import { isUtf8 } from 'node:buffer'
import { RolltapeError, errorText } from '../errors.ts'
import { IGNORE_NOTHING } from '../replay/canonical.ts'
import { makeJsonBytes } from '../replay/json-bytes.ts'
import type { JsonBytes } from '../replay/json-bytes.ts'
import { LineScanner } from '../replay/line-scan.ts'
import { Packer } from '../replay/packed.ts'
import type { PackedRecords } from '../replay/packed.ts'
import { isShortage } from '../tape/disk.ts'
import type { TapePosition } from '../tape/exchange.ts'
import { KIND, parseSegmentName } from '../tape/format.ts'
import type { TapeFolder } from '../tape/reader.ts'
import type { SegmentFile } from '../tape/segment-file.ts'
import type { AppenderLink } from './appender-link.ts'
import { comparisonOf } from '../replay/recorded.ts'
import type { Verified } from '../replay/verdict.ts'
import { ANSWER_LIMITS } from './answer.ts'
import { bareRecord, deriveRecord } from './derive.ts'
import type { RecordRequests, RecordSummary } from './derive.ts'
import type { SessionCount } from './session-sums.ts'
import type { Verification } from './record.ts'

/** What a derive worker is asked to do. */
export interface DeriveTask {
  readonly ends: readonly TapePosition[]
  /** Only walk for ends from here (up to `endsMax` of them), as far as the segments go now. */
  readonly walk?: { readonly from: TapePosition; readonly endsMax: number }
  /** Numbers of exchanges that will never be on the tape. */
  readonly voids: readonly number[]
  /** Why only the barest record is to be made: deriving has broken its worker, twice. */
  readonly bare?: string
}

/** What became of it. */
export interface DeriveResult {
  /** Records made and appended (or there already). */
  readonly derived: number
  /** Exchanges that cannot be read back. */
  readonly unreadable: readonly { readonly position: TapePosition; readonly reason: string }[]
  /** Why the appender did not take the lines (the disk is full, say); nothing was appended. */
  readonly refused?: string
  /** Of those derived, the answers that were compared with recorded ones. */
  readonly verified?: Verified
  /** What a walk found, and where it stopped. */
  readonly walked?: { readonly ends: readonly TapePosition[]; readonly next: TapePosition }
}

/** Does one task. Resolves once the lines are in the file. */
export async function runDeriveTask(
  tape: TapeFolder,
  link: AppenderLink,
  task: DeriveTask,
  requests: RecordRequests = 'full',
): Promise<DeriveResult> {
  if (task.walk !== undefined) {
    try {
      const walked = findEnds(tape, task.walk.from, task.walk.endsMax)
      return { derived: 0, unreadable: [], walked }
    } catch (error) {
      if (!isShortage(error)) throw error
      return { derived: 0, unreadable: [], refused: errorText(error) }
    }
  }
  const unreadable: { position: TapePosition; reason: string }[] = []
  const lines: Buffer[] = []
  /** The same with their requests, which the index knows too. */
  const whole: Buffer[] = []
  const seqs: number[] = []
  const verifications: Verification[] = []
  const counts: SessionCount[] = []
  for (const position of task.ends) {
    try {
      const exchange = tape.exchange(position)
      const { bare } = task
      const record =
        bare === undefined
          ? deriveRecord(exchange, ANSWER_LIMITS, comparisonOf(exchange), requests)
          : bareRecord(exchange, bare)
      if (record.summary.verify !== undefined) verifications.push(record.summary.verify)
      counts.push(countOf(record.summary))
      lines.push(record.line)
      whole.push(record.whole ?? record.line)
      seqs.push(exchange.begin.seq)
    } catch (error) {
      if (isShortage(error)) return { derived: 0, unreadable: [], refused: errorText(error) }
      unreadable.push({ position, reason: errorText(error) })
    }
  }
  if (seqs.length > 0 || task.voids.length > 0) {
    const { bytes, lengths } = join(lines)
    const index = packLines(join(whole))
    try {
      await link.append({ seqs, bytes, lengths, voids: task.voids, index, counts })
    } catch (error) {
      return { derived: 0, unreadable, refused: errorText(error) }
    }
  }
  const verified = verifications.length === 0 ? undefined : tallied(verifications)
  return { derived: seqs.length, unreadable, ...(verified && { verified }) }
}

function countOf({ session, turn, outcome, usage, ...times }: RecordSummary): SessionCount {
  return {
    session,
    isGeneration: turn !== null,
    outcome,
    inputTokens: usage?.normalized.input ?? 0,
    outputTokens: usage?.normalized.output ?? 0,
    startMs: times.start_time * 1_000,
    endMs: times.end_time * 1_000,
  }
}

function tallied(verifications: readonly Verification[]): Verified {
  const count = (same: boolean | null): number =>
    verifications.filter((one) => one.same === same).length
  return { same: count(true), different: count(false), alone: count(null) }
}

/** Ends from a place on, over as many segments of the lane as there are. */
function findEnds(
  tape: TapeFolder,
  from: TapePosition,
  endsMax: number,
): { ends: TapePosition[]; next: TapePosition } {
  const ends: TapePosition[] = []
  const start = parseSegmentName(from.segment)
  let next = from
  for (const { name, lane, number } of tape.segments()) {
    // The first one may have been let go by now; those behind it are walked all the same.
    if (lane !== start?.lane || number < start.number) continue
    const file = openSegment(tape, name)
    if (file === undefined) break
    const offset = name === from.segment ? from.offset : file.firstFrame
    const visit = (frame: { kind: number; offset: number }): boolean => {
      if (frame.kind === KIND.end) ends.push({ segment: name, offset: frame.offset })
      return ends.length < endsMax
    }
    const { end } = file.walk(visit, { from: offset, wants: ({ kind }) => kind === KIND.end })
    next = { segment: name, offset: end }
    if (ends.length >= endsMax) break
  }
  return { ends, next }
}

/** A segment that was begun just now may not have its header yet; then nothing has ended in it. */
function openSegment(tape: TapeFolder, name: string): SegmentFile | undefined {
  try {
    return tape.segment(name)
  } catch (error) {
    if (error instanceof RolltapeError && error.code === 'tape_corrupt') return undefined
    throw error
  }
}

/** Lines one after the other, each with its line break. */
interface JoinedLines {
  readonly json: JsonBytes
  readonly bytes: Uint8Array
  readonly lengths: number[]
}

/** The lines in one piece of memory that may be handed to another thread. */
function join(lines: readonly Buffer[]): JoinedLines {
  const lengths = lines.map((line) => line.length + 1)
  const total = lengths.reduce((sum, length) => sum + length, 0)
  const json = makeJsonBytes(total)
  let at = 0
  for (const line of lines) {
    at += line.copy(json.bytes, at)
    json.bytes[at++] = 10
  }
  return { json, bytes: json.bytes.subarray(0, total), lengths }
}

/**
 * What a replay's index will ask of the lines, told while they are at hand; undefined when one of
 * them does not look like a line of ours (a replay finds out by itself).
 */
function packLines({ json, bytes, lengths }: JoinedLines): PackedRecords | undefined {
  if (!isUtf8(bytes)) return undefined
  const packer = new Packer()
  scanner ??= new LineScanner(IGNORE_NOTHING)
  let at = 0
  for (const length of lengths) {
    if (scanner.scan(packer, json, at, at) !== at + length - 1) return undefined
    at += length
  }
  return packer.take()
}

/** Made at the first line, and kept: it remembers names. */
let scanner: LineScanner | undefined
