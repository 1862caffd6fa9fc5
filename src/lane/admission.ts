/**
 * Who may go to an upstream now. Trainers pause admission around weight updates: requests that come
 * meanwhile are held, in order and within bounds, or rejected; for all upstreams, one, or one model.
 *
 * Replayed answers need no upstream and are not asked here.
 */
import { RolltapeError, toRolltapeError } from '../errors.ts'
import { HELD_BODY_BYTES_MAX, HELD_MAX } from '../limits.ts'
import { topLevelString } from './body-scan.ts'

/** A pause. */
export interface AdmissionRule {
  readonly policy: 'hold' | 'reject'
  /** Base URL; undefined for all upstreams. */
  readonly upstream?: string
  /** Undefined for all models. */
  readonly model?: string
}

/** A request on its way to an upstream. */
export interface Applicant {
  /** Base URL of where it is to go. */
  readonly upstream: string
  /** The body as far as it has come; a model it does not show counts as any. */
  readonly first: Buffer
  /** True once nobody waits for it any more. */
  readonly isOver: () => boolean
  /** It may go, or why it may not. */
  readonly onAdmission: (refused: RolltapeError | undefined) => void
}

/** Admits requests of one lane. */
export class Admission {
  #rules: readonly AdmissionRule[]
  #held: Applicant[] = []
  #heldBytes = 0

  constructor(rules: readonly AdmissionRule[]) {
    this.#rules = rules
  }

  /** True while some are not let go. */
  get isPaused(): boolean {
    return this.#rules.length > 0
  }

  /** Requests that are held. */
  get held(): number {
    this.#forgetOver()
    return this.#held.length
  }

  /** Goes by these rules from now on; what they let go, goes. */
  apply(rules: readonly AdmissionRule[]): void {
    this.#rules = rules
    const held = this.#held
    this.#held = []
    this.#heldBytes = 0
    for (const applicant of held) {
      try {
        if (!applicant.isOver()) this.ask(applicant)
      } catch (error) {
        applicant.onAdmission(toRolltapeError(error))
      }
    }
  }

  /** Tells the applicant, now or later, once. */
  ask(applicant: Applicant): void {
    if (this.#rules.length === 0) return applicant.onAdmission(undefined)
    const rule = this.#rules.find((one) => concerns(one, applicant))
    if (rule === undefined) return applicant.onAdmission(undefined)
    if (rule.policy === 'reject') return applicant.onAdmission(paused(rule))
    if (this.#isFull(applicant)) this.#forgetOver()
    if (this.#isFull(applicant)) return applicant.onAdmission(full(this.#held.length))
    this.#held.push(applicant)
    this.#heldBytes += applicant.first.length
  }

  #isFull({ first }: Applicant): boolean {
    if (this.#held.length >= HELD_MAX) return true
    return this.#held.length > 0 && this.#heldBytes + first.length > HELD_BODY_BYTES_MAX
  }

  #forgetOver(): void {
    this.#held = this.#held.filter((applicant) => !applicant.isOver())
    this.#heldBytes = this.#held.reduce((sum, { first }) => sum + first.length, 0)
  }
}

/** True when a rule is about requests that go to this upstream with this body. */
export function concerns(
  { upstream, model }: AdmissionRule,
  to: { readonly upstream: string; readonly first: Buffer },
): boolean {
  if (upstream !== undefined && upstream !== to.upstream) return false
  if (model === undefined) return true
  const asked = topLevelString(to.first, 'model')
  return typeof asked !== 'string' || asked === model
}

function paused({ upstream, model }: AdmissionRule): RolltapeError {
  const whose = [upstream, model].filter((one) => one !== undefined).join(' ')
  const what = whose === '' ? 'admission is paused' : `admission to ${whose} is paused`
  return new RolltapeError('admission_paused', what, { hint: 'try again in a moment' })
}

function full(held: number): RolltapeError {
  const message = `admission is paused, and ${held} requests are held already, which is the most`
  return new RolltapeError('over_capacity', message, { hint: 'try again in a moment' })
}
