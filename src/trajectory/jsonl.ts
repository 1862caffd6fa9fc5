/**
 * Reads records back out of a `.jsonl`, of any size, with memory for one line.
 *
 * The file may be one that is being written: a torn last line is no error, and with `follow` the
 * reader waits for more, also over a rotation. Lines of other recorders with just the nine first
 * keys read as well; of a line's shape nothing is checked but that it is an object.
 */

import { open, stat, type FileHandle } from 'node:fs/promises'
import { RolltapeError } from '../errors.ts'
import { LINE_BYTES_MAX } from '../limits.ts'
import { isObject } from '../wire/json.ts'
import { FileFollower } from './follow.ts'
import type { ExchangeRecord } from './record.ts'

/** Bytes of one read. */
const READ_BYTES = 256 * 1024
const LF = 0x0a

/** The keys that every recorder of such files writes. */
type CommonKey =
  | 'model'
  | 'stream'
  | 'status'
  | 'response_time'
  | 'start_time'
  | 'end_time'
  | 'request'
  | 'response'
  | 'error'

/** A record as a file holds it: the nine first keys, and ours if rolltape wrote it. */
export type StoredRecord = Pick<ExchangeRecord, CommonKey> & Partial<ExchangeRecord>

/** A record and where it stands. */
export interface RecordLine {
  readonly record: StoredRecord
  /** Line number from where reading started, from 1, blank lines counted. */
  readonly line: number
  /** Byte offset of the line in its file. */
  readonly offset: number
  /** Bytes of the line, without its line break. */
  readonly length: number
  /** False for a last line without its line break: who appends has to write one first. */
  readonly closed: boolean
}

/** A last line that was cut short. */
export type TornLine = Omit<RecordLine, 'record' | 'closed'>

/** How far a reader has come. */
export interface ReadProgress {
  readonly records: number
  readonly bytes: number
  /** Size of the file when it was last looked at. */
  readonly bytesTotal: number
}

/** How to read. */
export interface ReadOptions {
  /** Byte offset of the line to start at; default 0. A file that follows a rotation starts at 0. */
  readonly start?: number
  /** Wait for more lines, also for the file itself, until the signal fires. Default false. */
  readonly follow?: boolean
  /** Ends the reading: the iteration is over, without an error. */
  readonly signal?: AbortSignal
  /** Called after each block read, about every 256 KiB. */
  readonly onProgress?: (progress: ReadProgress) => void
  /** Called with a last line that was cut short; it is not among the records. */
  readonly onTorn?: (torn: TornLine) => void
  /** Bytes of one line; default {@link LINE_BYTES_MAX}. */
  readonly lineBytesMax?: number
  /** With `follow`, ms between looks at the file where nothing reports changes; default 250. */
  readonly pollMs?: number
}

/**
 * The records of a file, in the order of its lines. A missing file has none. Throws a RolltapeError
 * `record_malformed` that names the line, at a line that is no JSON object or longer than the bound.
 */
export async function* readRecords(
  path: string,
  options: ReadOptions = {},
): AsyncGenerator<StoredRecord, void, undefined> {
  for await (const { record } of readRecordLines(path, options)) yield record
}

/** As {@link readRecords}, each record with its line number, offset and length. */
export async function* readRecordLines(
  path: string,
  options: ReadOptions = {},
): AsyncGenerator<RecordLine, void, undefined> {
  const { follow = false, signal } = options
  let start = options.start ?? 0
  const follower = follow ? new FileFollower(path, options.pollMs ?? 250, signal) : undefined
  try {
    while (!isAborted(signal)) {
      const file = await openIfThere(path)
      if (file === undefined) {
        if (follower === undefined) return
        await follower.wait()
        continue
      }
      try {
        const lines = new LineSplitter(path, start, options.lineBytesMax ?? LINE_BYTES_MAX)
        yield* readFile(file, path, lines, options, follower)
      } finally {
        await file.close()
      }
      if (follower === undefined) return
      start = 0
    }
  } finally {
    follower?.close()
  }
}

/** A function of its own, as an abort may come between any two looks. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined
    throw error
  }
}

/** Reads one file to its end; when following, until another file has taken its path. */
async function* readFile(
  file: FileHandle,
  path: string,
  lines: LineSplitter,
  options: ReadOptions,
  follower: FileFollower | undefined,
): AsyncGenerator<RecordLine, void, undefined> {
  const { signal, onProgress } = options
  const block = Buffer.allocUnsafe(READ_BYTES)
  let records = 0
  let replaced = false
  while (!isAborted(signal)) {
    const { bytesRead } = await file.read(block, 0, block.length, lines.position)
    for (const line of lines.split(block.subarray(0, bytesRead))) {
      if (isAborted(signal)) return
      records++
      yield line
    }
    if (onProgress !== undefined) {
      onProgress({ records, bytes: lines.position, bytesTotal: (await file.stat()).size })
    }
    // Of a file that grows, an unfinished line is not read on from its middle: its writer may cut it back and begin anew meanwhile.
    const torn = follower !== undefined && bytesRead < block.length && lines.unfinished
    if (bytesRead > 0 && !torn) continue
    if (follower === undefined || replaced) {
      const last = lines.end(options.onTorn)
      if (last !== undefined) yield last
      return
    }
    // What is unfinished is read again, from its start: its writer may cut it back and begin anew.
    lines.rewind()
    // A file is read to its end once more after it was replaced: more may have come meanwhile.
    replaced = await isReplaced(file, path)
    if (!replaced) await follower.wait()
  }
}

/** Whether the path leads to another file by now; while it leads nowhere the old one may go on. */
async function isReplaced(file: FileHandle, path: string): Promise<boolean> {
  try {
    const [ours, theirs] = await Promise.all([file.stat(), stat(path)])
    return ours.ino !== theirs.ino || ours.dev !== theirs.dev
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return false
    throw error
  }
}

/** Cuts blocks into lines and parses them; holds one unfinished line at most. */
class LineSplitter {
  readonly #path: string
  readonly #bytesMax: number
  /** Copies of the unfinished line's pieces. */
  #pieces: Buffer[] = []
  #heldBytes = 0
  /** Where the unfinished line starts. */
  #lineStart: number
  #line = 1

  constructor(path: string, start: number, bytesMax: number) {
    this.#path = path
    this.#lineStart = start
    this.#bytesMax = bytesMax
  }

  /** The last piece did not end with a line break. */
  get unfinished(): boolean {
    return this.#heldBytes > 0
  }

  /** Where to read on. */
  get position(): number {
    return this.#lineStart + this.#heldBytes
  }

  *split(block: Buffer): Generator<RecordLine, void, undefined> {
    let start = 0
    for (let at = block.indexOf(LF); at >= 0; at = block.indexOf(LF, start)) {
      const bytes = this.#joined(block.subarray(start, at))
      const line = this.#parse(bytes, true)
      start = at + 1
      this.#next(bytes.length + 1)
      if (line !== undefined) yield line
    }
    if (start === block.length) return
    this.#pieces.push(Buffer.from(block.subarray(start)))
    this.#heldBytes += block.length - start
    this.#checkLength(this.#heldBytes)
  }

  /** The last line where it has no line break: a record if it is whole, else torn. */
  end(onTorn: ReadOptions['onTorn']): RecordLine | undefined {
    const bytes = this.#joined(Buffer.alloc(0))
    if (bytes.length === 0) return undefined
    try {
      return this.#parse(bytes, false)
    } catch {
      onTorn?.({ line: this.#line, offset: this.#lineStart, length: bytes.length })
      return undefined
    }
  }

  /** Forgets the unfinished line, so that reading goes on at its start. */
  rewind(): void {
    this.#pieces = []
    this.#heldBytes = 0
  }

  #joined(last: Buffer): Buffer {
    this.#checkLength(this.#heldBytes + last.length)
    return this.#pieces.length === 0 ? last : Buffer.concat([...this.#pieces, last])
  }

  #next(bytes: number): void {
    this.rewind()
    this.#lineStart += bytes
    this.#line++
  }

  #parse(bytes: Buffer, closed: boolean): RecordLine | undefined {
    const text = bytes.toString('utf8')
    if (text.trim() === '') return undefined
    let record: unknown
    try {
      record = JSON.parse(text)
    } catch (error) {
      throw this.#malformed('is not JSON', error)
    }
    if (!isObject(record)) throw this.#malformed('is not a JSON object')
    return {
      record: record as unknown as StoredRecord,
      line: this.#line,
      offset: this.#lineStart,
      length: bytes.length,
      closed,
    }
  }

  #checkLength(bytes: number): void {
    if (bytes > this.#bytesMax) throw this.#malformed(`is longer than ${this.#bytesMax} bytes`)
  }

  #malformed(what: string, cause?: unknown): RolltapeError {
    const place = `line ${this.#line} of ${this.#path} (byte ${this.#lineStart})`
    return new RolltapeError('record_malformed', `${place} ${what}`, {
      cause,
      hint: 'take the line out, or derive the file anew from its tape',
    })
  }
}
