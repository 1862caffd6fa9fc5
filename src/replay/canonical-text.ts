/**
 * The canonical form of JSON (RFC 8785) straight from its text, byte by byte, without making its
 * value first: several times as fast, which is what starting a replay of a million records takes.
 * The text is gone through once, and seen to be JSON on the way. What is rare is left to
 * `canonical.ts`: names that are not plain ASCII or come twice, and texts that do not count.
 */
import type { IgnoreRules, PointerParts } from './canonical.ts'
import {
  makeJsonBytes,
  skipNumber,
  skipPlain,
  skipSpace,
  skipString,
  skipValue,
  skipWord,
} from './json-bytes.ts'
import type { JsonBytes } from './json-bytes.ts'
import { TextPieces } from './text-pieces.ts'

/** Deeper nesting is left to `canonical.ts`, and so are objects of more members out of order. */
const DEPTH_MAX = 128
const UNSORTED_MAX = 128

/** Words noted of a member: where its name stands, and which pieces it came to. */
const MEMBER_WORDS = 4

const NO_POINTERS: readonly PointerParts[] = []

/** Escapes that are canonical as they stand. */
const AS_IT_STANDS = Uint8Array.from({ length: 256 }, (_, byte) =>
  '"\\bfnrt'.includes(String.fromCharCode(byte)) ? 1 : 0,
)

/** Thrown, and caught here, where the text is left to `canonical.ts`, or is not JSON. */
const RARE = new Error('rare')

/** Writes canonical forms, one after the other, into memory of its own. */
export class CanonicalWriter {
  /** What was written; up to {@link length}. */
  bytes: Buffer = Buffer.allocUnsafeSlow(64 * 1024)
  length = 0
  readonly #pieces = new TextPieces()
  #members = new Int32Array(1024)
  #membersEnd = 0
  #json: JsonBytes = makeJsonBytes(0)
  #text: Buffer = this.#json.bytes
  #at = 0
  /** Where the last comma stood between two members or items. */
  #comma = 0
  /** Where the colon stood behind the last name. */
  #colon = 0

  /** Begins anew, with these bytes. */
  begin(bytes: Uint8Array): void {
    this.length = 0
    this.#reserve(bytes.length)
    this.bytes.set(bytes, 0)
    this.length = bytes.length
  }

  /**
   * Writes the canonical form of the value that begins at `from`, without what the rules name, and
   * gives the value's end; -1 when it is left to `canonical.ts`, or is not JSON. The text must be
   * UTF-8, with a line break somewhere behind.
   */
  write(json: JsonBytes, from: number, { pointers, texts }: IgnoreRules): number {
    if (texts.length > 0) return -1
    const pieces = this.#pieces
    pieces.clear()
    this.#json = json
    this.#text = json.bytes
    this.#at = from
    this.#membersEnd = 0
    try {
      this.#value(pointers, 0)
    } catch (error) {
      if (error === RARE) return -1
      throw error
    }
    this.#reserve(pieces.byteLength)
    this.length = pieces.copyTo(this.bytes, this.length, this.#text)
    return this.#at
  }

  #reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return
    const bytes = Buffer.allocUnsafeSlow((this.length + more) * 2)
    bytes.set(this.bytes.subarray(0, this.length))
    this.bytes = bytes
  }

  #value(pointers: readonly PointerParts[], depth: number): void {
    const first = this.#text[this.#at] as number
    if (first === 0x22) return this.#string()
    if (first === 0x7b || first === 0x5b) {
      if (depth === DEPTH_MAX) throw RARE
      return first === 0x7b ? this.#object(pointers, depth) : this.#array(pointers, depth)
    }
    if (first < 0x61) return this.#number()
    this.#copy(found(skipWord(this.#text, this.#at)) - this.#at)
  }

  /** So many bytes count as they stand. */
  #copy(length: number): void {
    this.#pieces.take(this.#at, this.#at + length)
    this.#at += length
  }

  #string(): void {
    const text = this.#text
    const start = this.#at
    for (let at = start + 1; ; at += 2) {
      at = skipPlain(this.#json, at)
      if (text[at] === 0x22) return this.#copy(at + 1 - start)
      if (text[at] !== 0x5c) throw RARE
      if (AS_IT_STANDS[text[at + 1] as number] === 0) break
    }
    this.#at = found(skipString(this.#json, start))
    this.#pieces.add(JSON.stringify(JSON.parse(text.toString('utf8', start, this.#at))))
  }

  #number(): void {
    const text = this.#text
    const start = this.#at
    const length = plainNumber(text, start)
    if (length > 0) return this.#copy(length)
    this.#at = found(skipNumber(text, start))
    this.#pieces.add(JSON.stringify(Number(text.toString('latin1', start, this.#at))))
  }

  #array(pointers: readonly PointerParts[], depth: number): void {
    const text = this.#text
    const pieces = this.#pieces
    pieces.take(this.#at, this.#at + 1)
    let written = 0
    this.#at = skipSpace(text, this.#at + 1)
    for (let i = 0; text[this.#at] !== 0x5d; i++) {
      const below = pointers.length === 0 ? pointers : this.#below(pointers, String(i))
      if (below === undefined) {
        this.#at = found(skipValue(this.#json, this.#at))
      } else {
        if (written++ > 0) pieces.take(this.#comma, this.#comma + 1)
        this.#value(below, depth + 1)
      }
      this.#next(0x5d)
    }
    this.#copy(1)
  }

  /** Goes to the next item, or to the bracket that ends the list. */
  #next(bracket: number): void {
    const text = this.#text
    const at = skipSpace(text, this.#at)
    this.#at = at
    if (text[at] === bracket) return
    if (text[at] !== 0x2c) throw RARE
    this.#comma = at
    this.#at = skipSpace(text, at + 1)
    if (text[this.#at] === bracket) throw RARE
  }

  #object(pointers: readonly PointerParts[], depth: number): void {
    const text = this.#text
    const pieces = this.#pieces
    const firstMember = this.#membersEnd
    let isSorted = true
    pieces.take(this.#at, this.#at + 1)
    this.#at = skipSpace(text, this.#at + 1)
    while (text[this.#at] !== 0x7d) {
      const name = this.#at + 1
      const nameEnd = this.#name()
      const below = pointers.length === 0 ? pointers : this.#below(pointers, name, nameEnd)
      if (below === undefined) {
        this.#at = found(skipValue(this.#json, this.#at))
        this.#next(0x7d)
        continue
      }
      const member = this.#membersEnd
      if (member > firstMember) {
        pieces.take(this.#comma, this.#comma + 1)
        const order = this.#compare(member - MEMBER_WORDS, name, nameEnd)
        if (order === 0) throw RARE
        if (order > 0) isSorted = false
      }
      this.#note(member, name, nameEnd)
      this.#members[member + 2] = pieces.seal()
      pieces.take(name - 1, nameEnd + 1)
      pieces.take(this.#colon, this.#colon + 1)
      this.#value(below, depth + 1)
      this.#members[member + 3] = pieces.seal()
      this.#next(0x7d)
    }
    if (!isSorted) this.#sort(firstMember)
    this.#membersEnd = firstMember
    this.#copy(1)
  }

  /** Goes over a name and its colon; gives the name's end. */
  #name(): number {
    const text = this.#text
    let at = this.#at
    if (text[at++] !== 0x22) throw RARE
    for (let byte = text[at] as number; byte !== 0x22; byte = text[++at] as number) {
      if (byte >= 0x7f || byte === 0x5c || byte < 0x20) throw RARE
    }
    const colon = skipSpace(text, at + 1)
    if (text[colon] !== 0x3a) throw RARE
    this.#colon = colon
    this.#at = skipSpace(text, colon + 1)
    return at
  }

  #note(member: number, name: number, nameEnd: number): void {
    if (member + MEMBER_WORDS > this.#members.length) {
      const members = new Int32Array(this.#members.length * 2)
      members.set(this.#members)
      this.#members = members
    }
    this.#members[member] = name
    this.#members[member + 1] = nameEnd
    this.#membersEnd = member + MEMBER_WORDS
  }

  /** Below 0 when the member's name comes before the one that stands there; 0 for the same. */
  #compare(member: number, name: number, nameEnd: number): number {
    const text = this.#text
    const start = this.#members[member] ?? 0
    const length = (this.#members[member + 1] ?? 0) - start
    const other = nameEnd - name
    for (let i = 0; i < length && i < other; i++) {
      const difference = (text[start + i] ?? 0) - (text[name + i] ?? 0)
      if (difference !== 0) return difference
    }
    return length - other
  }

  /** Puts the pieces of the members from here on in the order of their names. */
  #sort(firstMember: number): void {
    const members = this.#members
    const pieces = this.#pieces
    const start = members[firstMember + 2] as number
    if (this.#membersEnd - firstMember > UNSORTED_MAX * MEMBER_WORDS) throw RARE
    for (let at = firstMember + MEMBER_WORDS; at < this.#membersEnd; at += MEMBER_WORDS) {
      this.#insert(firstMember, at)
    }
    pieces.lift(start)
    for (let member = firstMember; member < this.#membersEnd; member += MEMBER_WORDS) {
      if (member > firstMember) pieces.take(this.#comma, this.#comma + 1)
      const [from, end] = [members[member + 2] as number, members[member + 3] as number]
      pieces.putBack(from - start, end - start)
    }
  }

  /** Moves a member down to its place among those before it, which are in order. */
  #insert(firstMember: number, member: number): void {
    const members = this.#members
    const name = members[member] as number
    const nameEnd = members[member + 1] as number
    const from = members[member + 2] as number
    const end = members[member + 3] as number
    let at = member
    while (at > firstMember) {
      const order = this.#compare(at - MEMBER_WORDS, name, nameEnd)
      if (order === 0) throw RARE
      if (order < 0) break
      for (let i = 0; i < MEMBER_WORDS; i++)
        members[at + i] = members[at + i - MEMBER_WORDS] as number
      at -= MEMBER_WORDS
    }
    members[at] = name
    members[at + 1] = nameEnd
    members[at + 2] = from
    members[at + 3] = end
  }

  /** What is left of the pointers below a place; undefined when this very place is left out. */
  #below(
    pointers: readonly PointerParts[],
    name: string | number,
    nameEnd = 0,
  ): readonly PointerParts[] | undefined {
    let below: PointerParts[] | undefined
    for (const parts of pointers) {
      const first = parts[0] ?? ''
      if (first !== '*' && !this.#isName(first, name, nameEnd)) continue
      if (parts.length === 1) return undefined
      below ??= []
      below.push(parts.slice(1))
    }
    return below ?? NO_POINTERS
  }

  #isName(part: string, name: string | number, nameEnd: number): boolean {
    if (typeof name === 'string') return part === name
    if (part.length !== nameEnd - name) return false
    for (let i = 0; i < part.length; i++) {
      if (part.charCodeAt(i) !== this.#text[name + i]) return false
    }
    return true
  }
}

/** The end of something; -1 says that it was none. */
function found(end: number): number {
  if (end < 0) throw RARE
  return end
}

/**
 * Bytes of a number that is canonical as it stands; 0 when that is not seen at a glance. Up to 15
 * digits come back from a double as they went in; below 0.1 there may be an exponent.
 */
function plainNumber(text: Uint8Array, start: number): number {
  let at = text[start] === 0x2d ? start + 1 : start
  const isWhole = text[at] !== 0x30
  if (isWhole && !isDigit(text[at] as number)) return 0
  do at++
  while (isWhole && isDigit(text[at] as number))
  if (text[at] === 0x2e) {
    if (!isWhole && text[at + 1] === 0x30) return 0
    do at++
    while (isDigit(text[at] as number))
    const last = text[at - 1] as number
    if (last === 0x30 || last === 0x2e) return 0
  } else if (!isWhole && at - start > 1) {
    return 0
  }
  const isExact = at - start < 16 && ((text[at] as number) | 0x20) !== 0x65
  return isExact ? at - start : 0
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}
