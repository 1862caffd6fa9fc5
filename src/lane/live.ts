/**
 * The exchanges of a lane that are not over, in no order.
 *
 * A `Set` would keep thousands of them alive that have long ended: each time its table is replaced,
 * the old one still points at its members and at the next table, and once one of that chain has
 * grown old no minor collection frees what hangs on it. Here each member knows its place.
 */

/** A member. The field belongs to the list. */
export interface Placed {
  /** Place in its list; -1 when it is in none. */
  liveAt: number
}

/** Members, added and taken out at no cost. */
export class LiveList<T extends Placed> {
  readonly #members: T[] = []

  /** How many there are. */
  get size(): number {
    return this.#members.length
  }

  /** Copies the members, so that they may come and go meanwhile. */
  all(): T[] {
    return [...this.#members]
  }

  has(member: T): boolean {
    return member.liveAt >= 0
  }

  /** To be called once for each. */
  add(member: T): void {
    member.liveAt = this.#members.length
    this.#members.push(member)
  }

  /** False when it is not in. */
  delete(member: T): boolean {
    const at = member.liveAt
    if (at < 0) return false
    const last = this.#members.pop()
    if (last !== undefined && last !== member) {
      this.#members[at] = last
      last.liveAt = at
    }
    member.liveAt = -1
    return true
  }
}
