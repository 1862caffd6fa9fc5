/** The pauses of admission, over all lanes: said once, kept by every lane that starts later. */
import { RolltapeError } from '../errors.ts'
import type { AdmissionRule } from '../lane/admission.ts'
import { PAUSES_MAX } from '../limits.ts'
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
   * @throws RolltapeError `over_capacity` when there are too many already.
   */
  async pause(rule: AdmissionRule, abort: boolean): Promise<number> {
    const others = this.#pauses.filter((one) => !isSameScope(one, rule))
    if (others.length >= PAUSES_MAX) {
      const message = `admission is paused for ${PAUSES_MAX} scopes, which is the most`
      throw new RolltapeError('over_capacity', message, { hint: 'take some of them back' })
    }
    this.#pauses = [...others, rule]
    const order = { rules: this.#pauses, ...(abort && { abort: rule }) }
    const aborted = await this.#lanes.askAll('admit', () => order)
    return aborted.reduce((sum, count) => sum + count, 0)
  }

  /** How many have gone to an upstream in this scope and are not over. */
  async inFlight(scope: AdmissionScope): Promise<number> {
    const counts = await this.#lanes.askAll('under', () => ({ ...scope, policy: 'hold' }))
    return counts.reduce((sum, count) => sum + count, 0)
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
