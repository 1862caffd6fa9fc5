/**
 * How numbers are spread: counts in steps of 1, 2, 5, 10, 20, 50, … for a plot, and in steps of some
 * 9 % for percentiles, so that memory does not grow with the numbers.
 */
import { plotBars } from './plot.ts'

/** Fine steps in each doubling. */
const STEPS = 8

/** What a histogram says, for scripts. */
export interface Spread {
  readonly count: number
  readonly sum: number
  readonly min: number | null
  readonly max: number | null
  /** Percentiles; of larger numbers they may be off by 9 %. */
  readonly p50: number | null
  readonly p90: number | null
  readonly p99: number | null
  /** From `from` up to, not including, `to`. */
  readonly buckets: readonly {
    readonly from: number
    readonly to: number
    readonly count: number
  }[]
}

/** Takes numbers from 0 on. */
export class Histogram {
  #count = 0
  #sum = 0
  #min = Infinity
  #max = -Infinity
  readonly #fine = new Map<number, { count: number; sum: number }>()
  readonly #coarse = new Map<number, number>()

  add(value: number): void {
    if (!(value >= 0) || value === Infinity) return
    this.#count++
    this.#sum += value
    this.#min = Math.min(this.#min, value)
    this.#max = Math.max(this.#max, value)
    const step = value < 1 ? 0 : 1 + Math.floor(Math.log2(value) * STEPS)
    const fine = this.#fine.get(step)
    if (fine === undefined) this.#fine.set(step, { count: 1, sum: value })
    else {
      fine.count++
      fine.sum += value
    }
    const from = roundBelow(value)
    this.#coarse.set(from, (this.#coarse.get(from) ?? 0) + 1)
  }

  get count(): number {
    return this.#count
  }

  spread(): Spread {
    const none = this.#count === 0
    return {
      count: this.#count,
      sum: this.#sum,
      min: none ? null : this.#min,
      max: none ? null : this.#max,
      p50: this.#percentile(0.5),
      p90: this.#percentile(0.9),
      p99: this.#percentile(0.99),
      buckets: this.#buckets(),
    }
  }

  /** One line per bucket; `format` writes a number with its unit. */
  plot(width: number, format: (value: number) => string): string[] {
    const bars = this.#buckets().map(({ from, count }) => ({
      label: `≥ ${format(from)}`,
      value: count,
      note: count === 0 ? '' : String(count),
    }))
    return plotBars(bars, width)
  }

  /** The mean of the fine step in which it lies: exact where all in it are the same. */
  #percentile(part: number): number | null {
    let left = Math.ceil(this.#count * part)
    for (const [, { count, sum }] of [...this.#fine].sort(([a], [b]) => a - b)) {
      left -= count
      if (left <= 0) return sum / count
    }
    return null
  }

  #buckets(): { from: number; to: number; count: number }[] {
    if (this.#count === 0) return []
    const buckets = []
    for (let from = roundBelow(this.#min); from <= this.#max; from = roundAbove(from)) {
      buckets.push({ from, to: roundAbove(from), count: this.#coarse.get(from) ?? 0 })
    }
    return buckets
  }
}

/** The largest of 0, 1, 2, 5, 10, 20, 50, … that is not above a value. */
function roundBelow(value: number): number {
  if (value < 1) return 0
  let from = 1
  while (roundAbove(from) <= value) from = roundAbove(from)
  return from
}

/** The next of 0, 1, 2, 5, 10, 20, 50, … */
function roundAbove(from: number): number {
  if (from === 0) return 1
  return String(from).startsWith('2') ? from * 2.5 : from * 2
}
