/**
 * A segment of a tape that has no file of records, read for the index: the exchanges that end in
 * it, derived and packed, and what is needed to tell over all segments which ones never ended.
 */
import { RolltapeError } from '../errors.ts'
import type { TapePosition } from '../tape/exchange.ts'
import { KIND } from '../tape/format.ts'
import { TapeFolder } from '../tape/reader.ts'
import { SegmentFile } from '../tape/segment-file.ts'
import { deriveAt } from '../trajectory/tape-records.ts'
import type { IgnoreRules } from './canonical.ts'
import { packRecord } from './pack-record.ts'
import { Packer } from './packed.ts'
import type { PackedRecords } from './packed.ts'

/** What derived records come to. */
export interface ScannedEnds {
  readonly records: PackedRecords
  /** In one line each: exchanges that cannot be read. */
  readonly troubles: readonly string[]
}

/** What a segment has. */
export interface ScannedSegment extends ScannedEnds {
  /** Last frames of exchanges that have not ended in it, by their number. */
  readonly open: ReadonlyMap<number, TapePosition>
  /** Numbers of exchanges that ended in it and began before it. */
  readonly closed: readonly number[]
}

/** Exchanges whose ends are looked up in one go while a segment is walked. */
const ENDS_PER_WALK = 64

/** Reads a segment. Throws `tape_corrupt` when it has no header. */
export function scanSegment(folder: string, name: string, ignore: IgnoreRules): ScannedSegment {
  const open = new Map<number, TapePosition>()
  const begun = new Set<number>()
  const closed: number[] = []
  const file = new SegmentFile(folder, name)
  const tape = new TapeFolder(folder)
  const derived = new Derived(tape, ignore)
  try {
    for (let from = file.firstFrame; ;) {
      const ends: TapePosition[] = []
      const visit = ({ kind, seq, offset }: { kind: number; seq: number; offset: number }) => {
        const position = { segment: name, offset }
        if (kind === KIND.begin) begun.add(seq)
        if (kind === KIND.end) {
          ends.push(position)
          open.delete(seq)
          if (!begun.delete(seq)) closed.push(seq)
        } else open.set(seq, position)
        return ends.length < ENDS_PER_WALK
      }
      const { end } = file.walk(visit, { from, wants: () => false })
      for (const position of ends) derived.add(position)
      if (end === from) break
      from = end
    }
  } finally {
    file.close()
    tape.close()
  }
  return { ...derived.take(), open, closed }
}

/** Derives the exchanges whose last frames stand there. */
export function scanEnds(
  folder: string,
  ends: readonly TapePosition[],
  ignore: IgnoreRules,
): ScannedEnds {
  const tape = new TapeFolder(folder)
  try {
    const derived = new Derived(tape, ignore)
    for (const position of ends) derived.add(position)
    return derived.take()
  } finally {
    tape.close()
  }
}

class Derived {
  readonly #tape: TapeFolder
  readonly #ignore: IgnoreRules
  readonly #packer = new Packer()
  readonly #troubles: string[] = []

  constructor(tape: TapeFolder, ignore: IgnoreRules) {
    this.#tape = tape
    this.#ignore = ignore
  }

  add(position: TapePosition): void {
    try {
      const record = deriveAt(this.#tape, position)
      packRecord(this.#packer, record, { offset: -1, length: 0 }, this.#ignore)
    } catch (error) {
      if (!(error instanceof RolltapeError)) throw error
      const place = `the exchange that ends at ${position.offset}`
      this.#troubles.push(`${error.message}: ${place} is left out`)
    }
  }

  take(): ScannedEnds {
    return { records: this.#packer.take(), troubles: this.#troubles }
  }
}
