/**
 * Who waits, in the order of arrival; whoever leaves does so from any place at no cost.
 *
 * No `Set`, for the reason told in `live.ts`: who has left would be kept alive by those who came
 * later. A member that leaves lets go of its neighbours.
 */

/** A member. The fields belong to the line. */
export interface Queued {
  before: Queued | undefined
  after: Queued | undefined
  isQueued: boolean
}

/** Members of one line; a member is in one line at most, and once. */
export class Line<T extends Queued> {
  #first: T | undefined
  #last: T | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Who has waited longest. */
  get first(): T | undefined {
    return this.#first
  }

  /** From the first to the last; who comes or leaves meanwhile ends in no good. */
  *[Symbol.iterator](): Generator<T> {
    for (let member = this.#first; member !== undefined; member = member.after as T | undefined) {
      yield member
    }
  }

  add(member: T): void {
    member.isQueued = true
    member.before = this.#last
    if (this.#last === undefined) this.#first = member
    else this.#last.after = member
    this.#last = member
    this.#size++
  }

  /** False when it is not in. */
  delete(member: T): boolean {
    if (!member.isQueued) return false
    const { before, after } = member
    if (before === undefined) this.#first = after as T | undefined
    else before.after = after
    if (after === undefined) this.#last = before as T | undefined
    else after.before = before
    member.isQueued = false
    member.before = undefined
    member.after = undefined
    this.#size--
    return true
  }
}
