/**
 * Those who wait for a commit, in the order of what they wait for. A writer answers together all
 * whom one write has carried.
 */

/** Somebody who waits for a commit. */
export interface CommitWaiter {
  /** Called once per commit asked for: with an error when the write failed. */
  onCommitted(error: Error | undefined): void
}

interface Waiting {
  readonly target: number
  readonly waiter: CommitWaiter
}

/** A queue whose targets never go back. */
export class CommitQueue {
  /** Whoever has been answered is let go at once: an exchange hangs on it. */
  readonly #waiters: (Waiting | undefined)[] = []
  /** Those before this place have been answered. */
  #from = 0

  /** How many wait. */
  get size(): number {
    return this.#waiters.length - this.#from
  }

  /** Answers the waiter once `target` is reached. */
  add(target: number, waiter: CommitWaiter): void {
    this.#waiters.push({ target, waiter })
  }

  /** Answers all whose target is reached. */
  reach(position: number): void {
    for (let next = this.#next(); next && next.target <= position; next = this.#next()) {
      this.#waiters[this.#from++] = undefined
      next.waiter.onCommitted(undefined)
    }
    this.#forget()
  }

  /** Answers everybody: it failed. */
  fail(error: Error): void {
    for (let next = this.#next(); next; next = this.#next()) {
      this.#waiters[this.#from++] = undefined
      next.waiter.onCommitted(error)
    }
    this.#forget()
  }

  #next(): Waiting | undefined {
    return this.#waiters[this.#from]
  }

  #forget(): void {
    if (this.#from === this.#waiters.length) {
      this.#waiters.length = 0
      this.#from = 0
    } else if (this.#from > 1024) {
      this.#waiters.splice(0, this.#from)
      this.#from = 0
    }
  }
}
