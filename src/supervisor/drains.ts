/**
 * Drains of admission: who waits for the end of what is in flight, until when, and what is said when
 * that does not come in time.
 */
import type { Caller } from '../control/calls.ts'
import { RolltapeError } from '../errors.ts'
import type { AdmissionRule } from '../lane/admission.ts'
import { DEADLINE_MARGIN_MS, DRAINS_AT_ONCE_MAX } from '../limits.ts'
import type { Supervisor } from './supervisor.ts'

/** Waits for ends. */
export class Drains {
  readonly #supervisor: Supervisor
  #waiting = 0

  constructor(supervisor: Supervisor) {
    this.#supervisor = supervisor
  }

  /** @throws RolltapeError `over_capacity` when there are too many already. */
  check(): void {
    if (this.#waiting < DRAINS_AT_ONCE_MAX) return
    const message = `${DRAINS_AT_ONCE_MAX} drains are waiting already, which is the most`
    throw new RolltapeError('over_capacity', message)
  }

  /**
   * Resolves once what is in flight under a pause has ended.
   * @throws RolltapeError `deadline_passed` when the caller waits no longer; the pause stays.
   */
  async wait(rule: AdmissionRule, caller: Caller): Promise<void> {
    this.#waiting++
    const quiet = this.#supervisor.quiet(rule).finally(() => this.#waiting--)
    const leftMs = caller.deadlineMs - Date.now()
    const marginMs = Math.min(DEADLINE_MARGIN_MS, leftMs / 2)
    const late = Promise.withResolvers<'late'>()
    const onLate = (): void => late.resolve('late')
    const timer =
      leftMs === Infinity ? undefined : setTimeout(onLate, Math.max(0, leftMs - marginMs))
    caller.signal.addEventListener('abort', onLate)
    if (caller.signal.aborted) onLate()
    try {
      if ((await Promise.race([quiet, late.promise])) !== 'late') return
    } finally {
      clearTimeout(timer)
    }
    // Nobody may be there to hear of its end.
    quiet.catch(() => undefined)
    const left = await this.#supervisor.inFlight(rule)
    throw new RolltapeError(
      'deadline_passed',
      `${left} exchanges are still in flight; the pause stays, and new requests wait`,
      { hint: 'drain again to go on waiting, abort what is in flight, or resume' },
    )
  }
}
