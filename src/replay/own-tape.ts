/**
 * Whether the tape beside a file of records is theirs. Replay reads answers by their place, so beside
 * another recording's tape it would give that one's.
 */
import { TapeFolder } from '../tape/reader.ts'
import { readRecordLines } from '../trajectory/jsonl.ts'

/** Lines of other recorders that are passed over in a file. */
const LINES_LOOKED_AT_MAX = 100

/**
 * Why the tape in a folder is not that of these files; undefined when it is, or nothing tells: lines
 * of other recorders have no tape, and what is no record is told when all are read.
 */
export async function foreignTape(
  files: readonly string[],
  folder: string,
): Promise<string | undefined> {
  const tape = recordingIn(folder)
  const records = tape === undefined ? undefined : await recordingOf(files)
  if (records === undefined || records === tape) return undefined
  return `${folder} is the tape of recording ${tape}, and the records are of ${records}: answers are made of the records alone`
}

/** The recording whose segments are in a folder, by the first whose header can be read. */
function recordingIn(folder: string): string | undefined {
  const tape = new TapeFolder(folder)
  try {
    for (const { name } of tape.segments().toSorted((a, b) => +a.isSealed - +b.isSealed)) {
      try {
        return tape.segment(name).header.recordingId
      } catch {
        // Blank, or damaged: whoever needs it is told.
      }
    }
    return undefined
  } finally {
    tape.close()
  }
}

/** The recording whose first record that names a tape is in these files: the start of its id. */
async function recordingOf(files: readonly string[]): Promise<string | undefined> {
  for (const file of files) {
    let looked = 0
    try {
      for await (const { record } of readRecordLines(file)) {
        if (record.tape !== undefined) return record.id?.replace(/-\d+$/, '')
        if (++looked >= LINES_LOOKED_AT_MAX) break
      }
    } catch {
      // Torn or malformed: so is told when all lines are read.
    }
  }
  return undefined
}
