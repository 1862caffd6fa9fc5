/**
 * What a restart finds on a tape: how far the numbers have come, and which exchanges have no record
 * yet. Reads only what can hold something new; changes nothing on disk.
 */
import { randomBytes } from 'node:crypto'
import { RolltapeError } from '../errors.ts'
import type { Disk } from './disk.ts'
import { realDisk } from './disk.ts'
import type { TapePosition } from './exchange.ts'
import { KIND, parseBegin } from './format.ts'
import type { SegmentHeader } from './format.ts'
import { TapeFolder } from './reader.ts'
import type { ListedSegment } from './reader.ts'
import { SegmentFile } from './segment-file.ts'

/** What is known before the walk. */
export interface RecoveryInput {
  readonly folder: string
  /** True when the exchange has its record. */
  readonly hasRecord: (seq: number) => boolean
  /** Every exchange up to this number has its record and its turn is counted. */
  readonly settledSeq: number
  /** Called for every generation request met. */
  readonly onTurn: (session: string, turn: number) => void
  /** Per lane: segments from this number on are being written, and none of this walk's business. */
  readonly before?: ReadonlyMap<number, number>
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  readonly disk?: Disk
}

/** What the walk found. */
export interface Recovery {
  readonly recordingId: string
  /** True when there was nothing: a new recording. */
  readonly isNew: boolean
  readonly lastSeq: number
  /** Per lane: the number its next segment gets. */
  readonly nextSegments: ReadonlyMap<number, number>
  /** Last frames of exchanges without a record, by lane and place of their first. */
  readonly pending: readonly TapePosition[]
  /** How many of them had not ended. */
  readonly unended: number
  readonly report: {
    readonly segments: number
    readonly walked: number
    readonly skippedBytes: number
    readonly tornBytes: number
    /** Segment files that are no tape at all, with the reason. */
    readonly unreadable: readonly string[]
  }
}

interface Found {
  position: TapePosition
  ended: boolean
}

interface Known {
  readonly name: string
  readonly header: SegmentHeader
}

/** Looks at the tape in a folder. */
export function inspectTape(input: RecoveryInput): Recovery {
  const disk = input.disk ?? realDisk
  const { before } = input
  const tape = new TapeFolder(input.folder, disk)
  const names = tape
    .segments()
    .filter(({ lane, number }) => before === undefined || number < (before.get(lane) ?? 1))
  const unreadable: string[] = []
  const known = latestOf(names, tape, input, unreadable)
  const walk = walkSegments(input, known, disk)
  const [first] = known
  const pending = [...walk.found.values()]
  return {
    recordingId: first?.header.recordingId ?? randomBytes(6).toString('hex'),
    isNew: first === undefined,
    lastSeq: Math.max(walk.lastSeq, ...known.map(({ header }) => header.seqBase)),
    nextSegments: numbersAfter(names),
    pending: pending.map((found) => found.position),
    unended: pending.filter((found) => !found.ended).length,
    report: {
      segments: names.length,
      walked: known.length,
      skippedBytes: walk.skippedBytes,
      tornBytes: walk.tornBytes,
      unreadable,
    },
  }
}

/**
 * Of each lane the segments that can hold something new, by lane and number: from its last one back to
 * the first that begins at a settled number. Those before are not opened, however many there are.
 */
function latestOf(
  names: readonly ListedSegment[],
  tape: TapeFolder,
  { folder, settledSeq, disk = realDisk }: RecoveryInput,
  unreadable: string[],
): Known[] {
  const known: Known[] = []
  let doneLane = -1
  for (const segment of names.toReversed()) {
    const { name, lane } = segment
    // What a crash left blank has nothing to tell.
    if (lane === doneLane || tape.isBlank(segment)) continue
    const header = headerOf(folder, name, disk, unreadable)
    if (header === undefined) continue
    known.unshift({ name, header })
    if (header.seqBase <= settledSeq) doneLane = lane
  }
  return known
}

/** Per lane: the number its next segment gets, as the folder stands now. */
export function nextSegments(folder: string, disk: Disk = realDisk): ReadonlyMap<number, number> {
  return numbersAfter(new TapeFolder(folder, disk).segments())
}

/** Segments come by lane and number, so a lane's last one says it. */
function numbersAfter(segments: readonly { lane: number; number: number }[]): Map<number, number> {
  return new Map(segments.map(({ lane, number }) => [lane, number + 1]))
}

function headerOf(folder: string, name: string, disk: Disk, unreadable: string[]) {
  try {
    const file = new SegmentFile(folder, name, disk)
    const { header } = file
    file.close()
    return header
  } catch (error) {
    if (!(error instanceof RolltapeError)) throw error
    unreadable.push(error.message)
    return undefined
  }
}

function walkSegments(input: RecoveryInput, segments: readonly Known[], disk: Disk) {
  const found = new Map<number, Found>()
  let lastSeq = 0
  let skippedBytes = 0
  let tornBytes = 0
  let doneBytes = 0
  const tape = new TapeFolder(input.folder, disk)
  const sizes = segments.map(({ name }) => tape.sizeOf(name))
  const totalBytes = sizes.reduce((sum, size) => sum + size, 0)
  for (const [i, { name }] of segments.entries()) {
    const file = new SegmentFile(input.folder, name, disk)
    const { recordingId } = file.header
    const report = file.walk(
      (frame) => {
        lastSeq = Math.max(lastSeq, frame.seq)
        if (frame.kind === KIND.begin && frame.payload && frame.seq > 0) {
          const begin = parseBegin(frame.payload, recordingId, frame.seq)
          if (begin.turn > 0) input.onTurn(begin.session, begin.turn)
        }
        if (input.hasRecord(frame.seq)) return
        const ended = frame.kind === KIND.end || (found.get(frame.seq)?.ended ?? false)
        found.set(frame.seq, { position: { segment: name, offset: frame.offset }, ended })
      },
      // A frame that a crash tore may look whole from its header: an exchange must not end in one.
      { wants: (frame) => frame.kind === KIND.begin || !input.hasRecord(frame.seq) },
    )
    file.close()
    skippedBytes += report.skipped.reduce((sum, stretch) => sum + stretch.bytes, 0)
    tornBytes += report.tornBytes
    doneBytes += sizes[i] ?? 0
    input.onProgress?.(doneBytes, totalBytes)
  }
  return { found, lastSeq, skippedBytes, tornBytes }
}
