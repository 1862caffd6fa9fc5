/**
 * The records of a tape folder, derived anew, one exchange at a time: for whoever has the tape and
 * no `.jsonl`. Memory is bounded by one record; exchanges that a crash left open come last.
 */
import { RolltapeError } from '../errors.ts'
import type { TapePosition } from '../tape/exchange.ts'
import { KIND } from '../tape/format.ts'
import { TapeFolder } from '../tape/reader.ts'
import { SegmentFile } from '../tape/segment-file.ts'
import { deriveRecord } from './derive.ts'
import type { StoredRecord } from './jsonl.ts'

/** How to read. */
export interface TapeRecordsOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (bytesDone: number, bytesTotal: number) => void
  /** Told in one line about each exchange that cannot be read; reading goes on behind it. */
  readonly onTrouble: (line: string) => void
}

/** Exchanges whose ends are looked up in one go while a segment is walked. */
const ENDS_PER_WALK = 64

/** The records of a tape folder, by segment and the order of their ends. Throws `tape_corrupt`. */
export async function* readTapeRecords(
  folder: string,
  { signal, onProgress, onTrouble }: TapeRecordsOptions,
): AsyncGenerator<StoredRecord> {
  const tape = new TapeFolder(folder)
  const derive = function* (position: TapePosition): Generator<StoredRecord> {
    try {
      yield deriveAt(tape, position)
    } catch (error) {
      if (!(error instanceof RolltapeError)) throw error
      onTrouble(`${error.message}: the exchange that ends at ${position.offset} is left out`)
    }
  }
  try {
    const segments = tape.written()
    const sizes = segments.map(({ name }) => tape.sizeOf(name))
    const total = sizes.reduce((sum, size) => sum + size, 0)
    // Exchanges without an END so far, by lane and number: as many as ran at once.
    const open = new Map<string, TapePosition>()
    let done = 0
    for (const [index, { name, lane }] of segments.entries()) {
      for (const position of endsOf(folder, name, lane, open)) {
        if (signal?.aborted === true) return
        yield* derive(position)
        onProgress?.(done + position.offset, total)
      }
      done += sizes[index] ?? 0
    }
    for (const position of open.values()) yield* derive(position)
  } finally {
    tape.close()
  }
}

/** The record of one exchange, as its line would be read. Throws as {@link TapeFolder.exchange}. */
export function deriveAt(tape: TapeFolder, position: TapePosition, seq?: number): StoredRecord {
  const { line } = deriveRecord(tape.exchange(position, seq))
  return JSON.parse(line.toString('utf8')) as StoredRecord
}

/** Positions of the ENDs in a segment; a walk is cut into short ones, so that it can be left. */
function* endsOf(
  folder: string,
  name: string,
  lane: number,
  open: Map<string, TapePosition>,
): Generator<TapePosition> {
  const file = new SegmentFile(folder, name)
  try {
    let from = file.firstFrame
    for (;;) {
      const ends: TapePosition[] = []
      const { end } = file.walk(
        ({ kind, seq, offset }) => {
          const position = { segment: name, offset }
          if (kind === KIND.end) ends.push(position)
          if (kind === KIND.end) open.delete(`${lane} ${seq}`)
          else open.set(`${lane} ${seq}`, position)
          return ends.length < ENDS_PER_WALK
        },
        { from, wants: () => false },
      )
      yield* ends
      if (end === from) return
      from = end
    }
  } finally {
    file.close()
  }
}
