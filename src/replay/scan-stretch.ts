/**
 * A stretch of a file of records, read for the index: the lines that begin in it, packed. Files are
 * cut into stretches by bytes, so that several threads read one; memory is bounded by one block and
 * the longest line.
 */
import { isUtf8 } from 'node:buffer'
import { closeSync, openSync, readSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { INDEX_BLOCK_BYTES, LINE_BYTES_MAX } from '../limits.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { tapeFolderBeside } from '../trajectory/parts.ts'
import { TapedRequests, isRequestTaped } from '../trajectory/taped-requests.ts'
import { isObject } from '../wire/json.ts'
import type { IgnoreRules } from './canonical.ts'
import { makeJsonBytes } from './json-bytes.ts'
import type { JsonBytes } from './json-bytes.ts'
import { LineScanner } from './line-scan.ts'
import { packRecord } from './pack-record.ts'
import { Packer } from './packed.ts'
import type { PackedRecords } from './packed.ts'
import type { BlockRange } from './sidecar.ts'

/** Bytes of a file: the lines that begin at `from` or behind, and before `to`. */
export interface Stretch {
  readonly path: string
  readonly from: number
  readonly to: number
  /** Where the file ends; nothing behind is looked at, even if it grows. */
  readonly size: number
}

/** A line that ends the reading, or a torn last one that does not. Counted from 1 in its stretch. */
export interface OddLine {
  readonly line: number
  readonly offset: number
  readonly length: number
  /** As in "line 3 of a.jsonl …". */
  readonly why: string
  /** It is JSON, but nothing that can be replayed. */
  readonly isJson: boolean
}

/** What a stretch has. */
export interface ScannedStretch {
  readonly records: PackedRecords
  /** The lines that begin in it; a torn one is none. */
  readonly range: BlockRange
  readonly malformed: OddLine | undefined
  readonly torn: OddLine | undefined
}

const LF = 0x0a

/** Reads a stretch. Throws when the file cannot be read. */
export function scanStretch(stretch: Stretch, ignore: IgnoreRules): ScannedStretch {
  const fd = openSync(stretch.path, 'r')
  const reader = new StretchReader(fd, stretch, ignore)
  try {
    return reader.read()
  } finally {
    reader.requests?.close()
    closeSync(fd)
  }
}

/**
 * Invariant: the window holds `#length` bytes of the file from `#start` on; `#at` is where in it
 * the next line begins, and up to `#whole` there are whole lines.
 */
class StretchReader {
  /** Opened at the first record that needs it. */
  requests: TapedRequests | undefined
  readonly #fd: number
  readonly #stretch: Stretch
  readonly #ignore: IgnoreRules
  readonly #packer = new Packer()
  readonly #scanner: LineScanner
  #window: JsonBytes = makeJsonBytes(INDEX_BLOCK_BYTES)
  #start: number
  #length = 0
  #at = 0
  #whole = 0
  /** The whole lines are UTF-8 and hold no zeros, which is what a disk leaves of lost blocks. */
  #isClean = true
  #lines = 0
  /** Where in the window the bytes begin that are not in the checksum yet. */
  #unsummed = 0
  #crc = 0
  #first: number
  #odd: OddLine | undefined

  constructor(fd: number, stretch: Stretch, ignore: IgnoreRules) {
    this.#fd = fd
    this.#stretch = stretch
    this.#ignore = ignore
    this.#scanner = new LineScanner(ignore)
    // One byte earlier: a line begins here if a line break stands before it.
    this.#start = Math.max(0, stretch.from - 1)
    this.#first = this.#start
  }

  read(): ScannedStretch {
    const { from, to } = this.#stretch
    let isTorn = false
    if (from === 0 || this.#seekLine()) {
      while (this.#odd === undefined && this.#start + this.#at < to) {
        if (this.#at < this.#whole) this.#readLine()
        else if (!this.#more()) {
          isTorn = !this.#readLast()
          break
        }
      }
    }
    const odd = this.#odd
    return {
      records: this.#packer.take(),
      range: this.#range(),
      malformed: isTorn ? undefined : odd,
      torn: isTorn ? odd : undefined,
    }
  }

  /** Goes behind the first line break; false when there is none. */
  #seekLine(): boolean {
    while (this.#more()) {
      const found = this.#window.bytes.indexOf(LF, this.#at)
      const isFound = found >= 0 && found < this.#length
      this.#at = isFound ? found + 1 : this.#length
      this.#look()
      this.#unsummed = this.#at
      this.#first = this.#start + this.#at
      if (isFound) return true
    }
    return false
  }

  /** Reads on behind what is there; false at the file's end, or where a line is too long. */
  #more(): boolean {
    const rest = this.#length - this.#at
    if (rest > LINE_BYTES_MAX) this.#note(rest, `is longer than ${LINE_BYTES_MAX} bytes`, false)
    if (this.#odd !== undefined) return false
    this.#sum()
    this.#unsummed = 0
    const { bytes } = this.#window
    if (rest * 2 > bytes.length) {
      this.#window = makeJsonBytes(bytes.length * 2)
      bytes.copy(this.#window.bytes, 0, this.#at, this.#length)
    } else {
      bytes.copyWithin(0, this.#at, this.#length)
    }
    this.#start += this.#at
    this.#at = 0
    const position = this.#start + rest
    // The last bytes of the memory are the line break that has to stand behind.
    const room = Math.min(this.#window.bytes.length - 8 - rest, this.#stretch.size - position)
    const got = room <= 0 ? 0 : readSync(this.#fd, this.#window.bytes, rest, room, position)
    this.#length = rest + got
    this.#look()
    return got > 0
  }

  /** Looks how far there are whole lines. */
  #look(): void {
    const { bytes } = this.#window
    const last = this.#length === 0 ? -1 : bytes.lastIndexOf(LF, this.#length - 1)
    this.#whole = Math.max(this.#at, last + 1)
    const lines = bytes.subarray(this.#at, this.#whole)
    this.#isClean = isUtf8(lines) && !lines.includes(0)
  }

  #readLine(): void {
    const { bytes } = this.#window
    let end = -1
    if (this.#isClean)
      end = this.#scanner.scan(this.#packer, this.#window, this.#at, this.#start + this.#at)
    if (end < 0) {
      end = bytes.indexOf(LF, this.#at)
      this.#parse(end)
    }
    this.#at = end + 1
    this.#lines++
  }

  /** Takes what stands behind the last line break; false when it is torn. */
  #readLast(): boolean {
    if (this.#odd !== undefined) return true
    if (this.#at === this.#length) return true
    this.#parse(this.#length)
    const odd = this.#odd as OddLine | undefined
    if (odd !== undefined) return odd.isJson
    this.#at = this.#length
    this.#lines++
    return true
  }

  /** Takes a line that is not just one of ours. */
  #parse(end: number): void {
    const text = this.#window.bytes.toString('utf8', this.#at, end)
    if (text.trim() === '') return
    const length = end - this.#at
    let record: unknown
    try {
      record = JSON.parse(text)
    } catch {
      return this.#note(length, 'is not JSON', false)
    }
    if (!isObject(record)) return this.#note(length, 'is not a JSON object', false)
    const place = { offset: this.#start + this.#at, length }
    const stored = this.#withRequest(record as unknown as StoredRecord)
    const why = packRecord(this.#packer, stored, place, this.#ignore)
    if (why !== undefined) this.#note(length, why, true)
  }

  /** What the record leaves to the tape is read there. */
  #withRequest(record: StoredRecord): StoredRecord {
    if (!isRequestTaped(record)) return record
    this.requests ??= new TapedRequests(tapeFolderBeside(this.#stretch.path))
    return this.requests.record(record)
  }

  #sum(): void {
    this.#crc = crc32(this.#window.bytes.subarray(this.#unsummed, this.#at), this.#crc)
  }

  #range(): BlockRange {
    this.#sum()
    const to = this.#start + this.#at
    return { from: this.#first, to, lines: this.#lines, contentCrc: this.#crc }
  }

  #note(length: number, why: string, isJson: boolean): void {
    const offset = this.#start + this.#at
    this.#odd = { line: this.#lines + 1, offset, length, why, isJson }
  }
}
