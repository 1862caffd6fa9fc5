/**
 * A set of exchange numbers that is nearly always "all up to n, but for a few": kept as ascending
 * ranges, so that a million numbers take as much room as the holes between them.
 */

/** First and last number of a stretch without holes. */
export type SeqRange = readonly [first: number, last: number]

/** Numbers from 1, added in nearly ascending order. */
export class SeqSet {
  #ranges: [number, number][] = []

  /** Takes what {@link toJSON} gave. */
  static from(ranges: readonly SeqRange[]): SeqSet {
    const set = new SeqSet()
    set.#ranges = ranges.map(([first, last]) => [first, last])
    return set
  }

  /** All numbers from 1 to `floor` are in the set; 0 when 1 is not. */
  get floor(): number {
    const first = this.#ranges[0]
    return first?.[0] === 1 ? first[1] : 0
  }

  /** How many numbers it has. */
  get size(): number {
    return this.#ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0)
  }

  /** The highest number; 0 when there is none. */
  get max(): number {
    return this.#ranges.at(-1)?.[1] ?? 0
  }

  has(seq: number): boolean {
    const range = this.#ranges[this.#at(seq)]
    return range !== undefined && range[0] <= seq
  }

  /** True when every number of the other is in this one. */
  covers(other: SeqSet): boolean {
    return other.#ranges.every(([first, last]) => {
      const range = this.#ranges[this.#at(last)]
      return range !== undefined && range[0] <= first
    })
  }

  /** Adds a number; false when it was in the set. */
  add(seq: number): boolean {
    const at = this.#at(seq)
    const next = this.#ranges[at]
    if (next !== undefined && next[0] <= seq) return false
    const before = this.#ranges[at - 1]
    const joinsBefore = before?.[1] === seq - 1
    const joinsNext = next?.[0] === seq + 1
    if (joinsBefore && joinsNext) {
      before[1] = next[1]
      this.#ranges.splice(at, 1)
    } else if (joinsBefore) {
      before[1] = seq
    } else if (joinsNext) {
      next[0] = seq
    } else {
      this.#ranges.splice(at, 0, [seq, seq])
    }
    return true
  }

  /** Adds all numbers from 1 to `last`. */
  fill(last: number): void {
    if (last < 1) return
    const above = this.#ranges.filter((range) => range[1] > last)
    const [first] = above
    if (first !== undefined && first[0] <= last + 1) first[0] = 1
    else above.unshift([1, last])
    this.#ranges = above
  }

  /** The ranges, for a file. */
  toJSON(): readonly SeqRange[] {
    return this.#ranges
  }

  /** Index of the first range that ends at or after `seq`. */
  #at(seq: number): number {
    let low = 0
    let high = this.#ranges.length
    // Numbers come in nearly ascending order: the last range is the usual place.
    if (high > 0 && (this.#ranges[high - 1] as SeqRange)[1] < seq) return high
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#ranges[middle] as SeqRange)[1] < seq) low = middle + 1
      else high = middle
    }
    return low
  }
}
