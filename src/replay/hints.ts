/**
 * Where to begin in a list of records: what this thread has seen of a run so that no request walks
 * a long list from its head again.
 *
 * A hint says that all records of its list before this one are of no use, for good, but for what
 * {@link Releases} tells: a record that becomes free again lowers the hints of its lists. So a hint
 * costs nothing to lose, and all are dropped when there are too many.
 */
import { LISTS_HINTED_MAX, RULES_HINTED_MAX } from '../limits.ts'
import { LIST } from './index-table.ts'
import type { List, ReplayIndex } from './index-table.ts'

/** What is looked for: a free record, one not used, a free one of a session nobody is bound to. */
export const WANTED = { free: 0, unused: 1, bindable: 2 } as const

/** One of the things to look for. */
export type Wanted = (typeof WANTED)[keyof typeof WANTED]

/** All records of a list that can be served, counted. */
export interface ListSum {
  readonly total: number
  readonly last: number
  /** The first one, and the first one with an answer; -1 where there is none. */
  readonly first: number
  readonly firstUsable: number
}

/** Shorter walks are not worth a hint. */
const WALK_MIN = 16

const LISTS: readonly List[] = Object.values(LIST)

/** What is known under one set of rules. */
interface Known {
  readonly from: Map<number, number>
  readonly sums: Map<number, ListSum>
}

/** The hints of one run in one thread. */
export class Hints {
  readonly #sets = new Map<string, Known>()
  #known: Known = { from: new Map(), sums: new Map() }
  #under: unknown

  /** What is known holds under the rules it was learnt under, and no others. */
  under(options: unknown, rules: () => string): void {
    if (options === this.#under) return
    this.#under = options
    const text = rules()
    let known = this.#sets.get(text)
    if (known === undefined) {
      if (this.#sets.size >= RULES_HINTED_MAX) this.#sets.clear()
      known = { from: new Map(), sums: new Map() }
      this.#sets.set(text, known)
    }
    this.#known = known
  }

  /** Where to begin in the list with this head; -1 when it has nothing left. */
  start(list: List, head: number, wanted: Wanted): number {
    return this.#known.from.get(idOf(list, head, wanted)) ?? head
  }

  /** All before `record` are of no use; -1 for all there are. The walk there took so many steps. */
  learn(at: { list: List; head: number; wanted: Wanted }, record: number, steps: number): void {
    if (steps < WALK_MIN) return
    const { from } = this.#known
    if (from.size >= LISTS_HINTED_MAX) from.clear()
    from.set(idOf(at.list, at.head, at.wanted), record)
  }

  /** The sum of a list, made by `sum` unless it is known. */
  sum(list: List, head: number, sum: () => ListSum): ListSum {
    const { sums } = this.#known
    const id = idOf(list, head, WANTED.free)
    const known = sums.get(id)
    if (known !== undefined) return known
    const made = sum()
    if (sums.size >= LISTS_HINTED_MAX) sums.clear()
    sums.set(id, made)
    return made
  }

  /** A record is free again. */
  lower(index: ReplayIndex, record: number): void {
    const sets = [...this.#sets.values()].filter(({ from }) => from.size > 0)
    if (sets.length === 0) return
    for (const list of LISTS) {
      const head = index.head(list, record)
      for (const wanted of [WANTED.free, WANTED.bindable]) {
        const id = idOf(list, head, wanted)
        for (const { from } of sets) {
          const at = from.get(id)
          if (at !== undefined && (at < 0 || record < at)) from.set(id, record)
        }
      }
    }
  }

  /** Everything may be free again. */
  drop(): void {
    for (const { from } of this.#sets.values()) from.clear()
  }
}

function idOf(list: List, head: number, wanted: Wanted): number {
  return (head * LISTS.length + list) * 3 + wanted
}
