/** Work that is done one piece after the other, in the order it came. */

/** Does one piece of work at a time. */
export class OneByOne {
  #last: Promise<unknown> = Promise.resolve()
  #closed: Error | undefined

  /** Does it once all that came before is over, well or not. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed)
    const done = this.#last.then(work)
    this.#last = done.catch(() => undefined)
    return done
  }

  /** Takes no more; resolves once all that has come so far is over. */
  async close(reason: Error): Promise<void> {
    this.#closed = reason
    await this.#last
  }
}
