/** The pauses of admission, over all lanes: said once, kept by every lane that starts later. */
import { RolltapeError } from '../errors.ts'
import type { AdmissionRule } from '../lane/admission.ts'
import type { Lanes } from './lanes.ts'

/** What a pause is about: everything, an upstream, a model, or both. */
export type AdmissionScope = Omit<AdmissionRule, 'policy'>

/** Pauses and resumes admission. */
export class Admissions {
  readonly #lanes: Lanes
  #pauses: readonly AdmissionRule[] = []

  constructor(lanes: Lanes) {
    this.#lanes = lanes
  }

  /** The pauses that hold now. */
  get pauses(): readonly AdmissionRule[] {
    return this.#pauses
  }

  /**
   * Pauses. What has gone to an upstream already is kept, or ended (`abort`); the number of those
   * that were. A pause of the same scope takes the other's place.
   */
  async pause(rule: AdmissionRule, abort: boolean): Promise<number> {
    this.#pauses = [...this.#pauses.filter((one) => !isSameScope(one, rule)), rule]
    const order = { rules: this.#pauses, ...(abort && { abort: rule }) }
    const aborted = await this.#lanes.askAll('admit', () => order)
    return aborted.reduce((sum, count) => sum + count, 0)
  }

  /** Resolves once what was in flight under this rule when it was asked has ended. */
  async quiet(rule: AdmissionRule): Promise<void> {
    await this.#lanes.askAll('quiet', () => rule)
  }

  /**
   * Takes back a pause, or all of them.
   * @throws RolltapeError `not_found` when there is no such pause.
   */
  async resume(scope?: AdmissionScope): Promise<void> {
    const left = this.#pauses.filter((one) => scope !== undefined && !isSameScope(one, scope))
    if (scope !== undefined && left.length === this.#pauses.length) {
      throw new RolltapeError('not_found', 'admission is not paused for that', {
        hint: 'the status lists the pauses',
      })
    }
    this.#pauses = left
    await this.#lanes.askAll('admit', () => ({ rules: left }))
  }
}

function isSameScope(one: AdmissionScope, other: AdmissionScope): boolean {
  return one.upstream === other.upstream && one.model === other.model
}
