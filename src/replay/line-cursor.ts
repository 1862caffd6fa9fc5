/**
 * Goes through a line of JSON whose keys have a known order: what has to stand there is expected,
 * what is mostly as it was in the line before is compared with that, the rest is read. Whatever is
 * otherwise ends the line ({@link ODD}).
 *
 * A line break must stand behind the line.
 */
import { BytePattern } from './byte-pattern.ts'
import { ByteTexts, bytesOf, isAt } from './byte-texts.ts'
import type { ByteText } from './byte-texts.ts'
import { makeJsonBytes, skipNumber, skipString, skipValue, skipWord } from './json-bytes.ts'
import type { JsonBytes } from './json-bytes.ts'

const LF = 0x0a
const QUOTE = 0x22
const NULL_START = 0x6e
const TRUE_START = 0x74

/** The ends of lines differ by some digits: so much further back a part is looked for first. */
const HINT_BYTES = 32

/** Thrown where a line is not as expected. */
export const ODD = new Error('odd')

/** A text that is kept: what stands before it, and what it was in the line before. */
export class TextField {
  readonly before: DataView
  last: ByteText | undefined

  constructor(before: string) {
    this.before = bytesOf(before)
  }
}

/** A piece of the line that is mostly the same: what it was in the line before, and what it said. */
export class Piece<T> {
  readonly read: () => T
  last: { readonly bytes: DataView; readonly value: T } | undefined

  constructor(read: () => T) {
    this.read = read
  }
}

/** A part of the line that is searched for, and how far from the line's end it was last. */
export class LinePart {
  readonly pattern: BytePattern
  toEnd = 0

  constructor(pattern: string) {
    this.pattern = new BytePattern(pattern)
  }
}

/** Where a reader stands in a line. All before `at` is as it has to be. */
export class LineCursor {
  readonly #texts = new ByteTexts()
  json: JsonBytes = makeJsonBytes(0)
  bytes: Buffer = this.json.bytes
  at = 0
  /** Where the line's break is. */
  end = 0

  /** Begins with the line that begins there. */
  begin(json: JsonBytes, from: number): void {
    this.json = json
    this.bytes = json.bytes
    this.at = from
    this.end = json.bytes.indexOf(LF, from)
  }

  /** What a piece says; it is read only if it is another than in the line before. */
  piece<T>(piece: Piece<T>): T {
    const { last } = piece
    if (last !== undefined && isAt(this.json.view, this.at, last.bytes)) {
      this.at += last.bytes.byteLength
      return last.value
    }
    const from = this.at
    const value = piece.read()
    piece.last = { bytes: bytesOf(this.bytes.subarray(from, this.at)), value }
    return value
  }

  expect(before: DataView): void {
    if (!isAt(this.json.view, this.at, before)) throw ODD
    this.at += before.byteLength
  }

  /** Goes on to where a part of the line begins: first looked for where the last line had it. */
  find(part: LinePart): void {
    const bytes = this.bytes
    const end = this.end
    const likely = Math.max(this.at, end - part.toEnd - HINT_BYTES)
    let at = part.pattern.indexIn(bytes, likely, end)
    if (at < 0) at = found(part.pattern.indexIn(bytes, this.at, end))
    part.toEnd = end - at
    this.at = at
  }

  text(field: TextField): string {
    return this.textOrNull(field) ?? odd()
  }

  textOrNull(field: TextField): string | null {
    this.expect(field.before)
    const bytes = this.bytes
    const start = this.at
    if (bytes[start] === NULL_START) return this.skipNull()
    const { last } = field
    if (last !== undefined && isAt(this.json.view, start, last.quoted)) {
      this.at += last.quoted.byteLength
      return last.value
    }
    this.skipQuoted()
    const text = this.#texts.at(this.json, start, this.at)
    field.last = text
    return text.value
  }

  skipText(before: DataView): void {
    this.expect(before)
    this.skipQuoted()
  }

  skipQuoted(): void {
    if (this.bytes[this.at] !== QUOTE) throw ODD
    this.at = found(skipString(this.json, this.at))
  }

  skipNumber(before: DataView): void {
    this.expect(before)
    this.at = found(skipNumber(this.bytes, this.at))
  }

  skipNull(): null {
    this.at = found(skipWord(this.bytes, this.at))
    return null
  }

  truth(before: DataView): boolean {
    this.expect(before)
    const first = this.bytes[this.at]
    if (first === NULL_START) throw ODD
    this.at = found(skipWord(this.bytes, this.at))
    return first === TRUE_START
  }

  wholeOrNull(before: DataView): number | null {
    this.expect(before)
    return this.bytes[this.at] === NULL_START ? this.skipNull() : this.digits()
  }

  whole(before: DataView): number {
    this.expect(before)
    return this.digits()
  }

  /** A whole number of up to 15 digits. */
  digits(): number {
    const bytes = this.bytes
    const start = this.at
    let number = 0
    let at = start
    for (
      let digit = (bytes[at] as number) ^ 0x30;
      digit < 10;
      digit = (bytes[++at] as number) ^ 0x30
    ) {
      number = number * 10 + digit
    }
    if (at === start || at - start > 15) throw ODD
    this.at = at
    return number
  }

  /** Goes over a value. */
  skip(): void {
    this.at = found(skipValue(this.json, this.at))
  }

  /** Goes over a number. */
  skipDigits(): void {
    this.at = found(skipNumber(this.bytes, this.at))
  }

  /** True when the value here is not null. */
  get isThere(): boolean {
    return this.bytes[this.at] !== NULL_START
  }
}

/** Where something stands or ends; -1 says that it does not. */
export function found(at: number): number {
  return at < 0 ? odd() : at
}

/** Ends the line. */
export function odd(): never {
  throw ODD
}
