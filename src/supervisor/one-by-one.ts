/** Work that is done one piece after the other, in the order it came. */

/** Does one piece of work at a time. */
export class OneByOne {
  #last: Promise<unknown> = Promise.resolve()

  /** Does it once all that came before is over, well or not. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => undefined)
    return done
  }

  /** Resolves once all that has come so far is over. */
  async idle(): Promise<void> {
    await this.#last
  }
}
