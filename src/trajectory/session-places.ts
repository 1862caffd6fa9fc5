/**
 * Where the lines of each session stand: columns of numbers, some 50 bytes a line, so that an index
 * of millions fits where their lines would not. The lines of a session are a chain.
 */

/** One line. */
export interface LinePlace {
  /** Number of its file. */
  readonly file: number
  readonly offset: number
  /** Without its line break. */
  readonly length: number
  readonly seq: number
}

/** Lines by session. */
export class SessionPlaces {
  readonly #last = new Map<string, number>()
  readonly #before: number[] = []
  readonly #file: number[] = []
  readonly #offset: number[] = []
  readonly #length: number[] = []
  readonly #seq: number[] = []

  add(session: string, { file, offset, length, seq }: LinePlace): void {
    this.#before.push(this.#last.get(session) ?? -1)
    this.#last.set(session, this.#file.length)
    this.#file.push(file)
    this.#offset.push(offset)
    this.#length.push(length)
    this.#seq.push(seq)
  }

  /** Those of a session, in the order in which they were added. */
  of(session: string): LinePlace[] {
    const places: LinePlace[] = []
    for (let at = this.#last.get(session) ?? -1; at >= 0; at = this.#before[at] ?? -1) {
      const [file = 0, offset = 0] = [this.#file[at], this.#offset[at]]
      const [length = 0, seq = 0] = [this.#length[at], this.#seq[at]]
      places.push({ file, offset, length, seq })
    }
    return places.reverse()
  }
}
