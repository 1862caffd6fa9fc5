/**
 * Which models refuse to tell their tokens, by upstream: what was refused once is not asked for
 * again (O29). Kept by each lane for itself; so many, then the ones asked for longest ago go.
 */
import { REFUSALS_MAX } from '../limits.ts'

/** Remembers refusals. */
export class Refusals {
  readonly #known = new Map<string, string>()

  /** Why this model is not asked; undefined when it is. */
  of(base: string, model: string): string | undefined {
    const key = `${base}\n${model}`
    const why = this.#known.get(key)
    if (why === undefined) return undefined
    this.#known.delete(key)
    this.#known.set(key, why)
    return why
  }

  /** A model has refused. */
  add(base: string, model: string, why: string): void {
    this.#known.set(`${base}\n${model}`, why)
    const [oldest] = this.#known.keys()
    if (this.#known.size > REFUSALS_MAX && oldest !== undefined) this.#known.delete(oldest)
  }

  /** How many are known. */
  get size(): number {
    return this.#known.size
  }
}
