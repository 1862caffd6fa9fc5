/**
 * A text that is put together from pieces of another: noted as they come, put in another order
 * while they are but numbers, copied once at the end.
 */

/** Copies shorter than this are quicker byte by byte. */
const COPY_MIN = 48

/** Words of a piece: where it begins and ends in the text; in the additions as -1 - place. */
const PIECE_WORDS = 2

/** Pieces of one text after the other. */
export class TextPieces {
  /** Where the next piece is noted. */
  end = 0
  #sealed = 0
  #words = new Int32Array(1024)
  /** Words that were moved elsewhere for a moment. */
  #moved = new Int32Array(256)
  /** What does not stand in the text. */
  #additions: Buffer = Buffer.allocUnsafeSlow(1024)
  #additionsEnd = 0

  /** Forgets all pieces. */
  clear(): void {
    this.end = 0
    this.#sealed = 0
    this.#additionsEnd = 0
  }

  /** Notes a piece of the text; one that goes on where the last ended becomes part of it. */
  take(from: number, to: number): void {
    const { end } = this
    if (end > this.#sealed && this.#words[end - 1] === from) {
      this.#words[end - 1] = to
      return
    }
    if (end + PIECE_WORDS > this.#words.length) this.#words = grown(this.#words)
    this.#words[end] = from
    this.#words[end + 1] = to
    this.end = end + PIECE_WORDS
  }

  /** The next piece is one of its own; gives its place. */
  seal(): number {
    this.#sealed = this.end
    return this.end
  }

  /** Notes what does not stand in the text. */
  add(text: string): void {
    const room = this.#additionsEnd + text.length * 3
    if (room > this.#additions.length) {
      const additions = Buffer.allocUnsafeSlow(room * 2)
      this.#additions.copy(additions, 0, 0, this.#additionsEnd)
      this.#additions = additions
    }
    const from = this.#additionsEnd
    this.#additionsEnd += this.#additions.write(text, from)
    this.take(-1 - from, -1 - this.#additionsEnd)
  }

  /** Lifts all pieces from there on, to be put back in another order by {@link putBack}. */
  lift(from: number): void {
    while (this.end - from > this.#moved.length) this.#moved = grown(this.#moved)
    for (let at = from; at < this.end; at++) this.#moved[at - from] = this.#words[at] as number
    this.end = from
  }

  /** Puts some of the pieces back that were lifted: places counted from where that began. */
  putBack(from: number, to: number): void {
    const count = to - from
    while (this.end + count > this.#words.length) this.#words = grown(this.#words)
    for (let i = 0; i < count; i++) this.#words[this.end + i] = this.#moved[from + i] as number
    this.end += count
  }

  /** Bytes of all pieces. */
  get byteLength(): number {
    let bytes = 0
    for (let at = 0; at < this.end; at += PIECE_WORDS) {
      bytes += Math.abs((this.#words[at + 1] as number) - (this.#words[at] as number))
    }
    return bytes
  }

  /** Copies all pieces, one behind the other; gives their end. */
  copyTo(target: Buffer, start: number, text: Buffer): number {
    const words = this.#words
    let to = start
    for (let at = 0; at < this.end;) {
      const from = words[at] as number
      let end = words[at + 1] as number
      at += PIECE_WORDS
      if (from < 0) {
        to = copy(this.#additions, -1 - from, -1 - end, target, to)
        continue
      }
      for (; at < this.end && words[at] === end; at += PIECE_WORDS) end = words[at + 1] as number
      to = copy(text, from, end, target, to)
    }
    return to
  }
}

function copy(source: Buffer, from: number, end: number, target: Buffer, to: number): number {
  if (end - from >= COPY_MIN) return to + source.copy(target, to, from, end)
  const shift = to - from
  for (let at = from; at < end; at++) target[at + shift] = source[at] as number
  return end + shift
}

function grown(words: Int32Array): Int32Array<ArrayBuffer> {
  const more = new Int32Array(words.length * 2)
  more.set(words)
  return more
}
