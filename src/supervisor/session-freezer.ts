/**
 * Freezing sessions: no new calls, the running ones end, all have their records, and a digest of
 * those is written down. Or it fails, and the session goes on.
 */
import type { Caller } from '../control/calls.ts'
import { RolltapeError } from '../errors.ts'
import { DEADLINE_MARGIN_MS, FREEZES_AT_ONCE_MAX, FREEZE_WAIT_MS_MAX } from '../limits.ts'
import type { Snapshot } from '../trajectory/annotations.ts'
import { barrier } from './barrier.ts'
import { noRecord } from './recorded-trajectories.ts'
import type { Recording } from './recording.ts'
import type { Supervisor } from './supervisor.ts'

/** Freezes sessions. */
export class SessionFreezer {
  readonly #supervisor: Supervisor
  readonly #waitMsMax: number
  /** Freezes under way: who asks for one again gets what comes of it. */
  readonly #freezes = new Map<string, Promise<Snapshot>>()
  /** Waits for calls in flight, those of freezes that have failed included. */
  #waiting = 0

  constructor(supervisor: Supervisor, waitMsMax = FREEZE_WAIT_MS_MAX) {
    this.#supervisor = supervisor
    this.#waitMsMax = waitMsMax
  }

  /**
   * Freezes a session; one that is frozen already stays as it is.
   * @throws RolltapeError `wrong_state` when nothing is recorded or calls of it do not end in time,
   *   `not_found` when nothing of it is recorded, `over_capacity`, `tape_unavailable`; then it goes on.
   */
  async freeze(session: string, { deadlineMs }: Caller): Promise<Snapshot> {
    const { recording } = this.#supervisor
    if (recording === undefined) {
      throw new RolltapeError('wrong_state', 'nothing is recorded, so nothing can be frozen', {
        hint: 'start rolltape with --recording-file, or close the session without freeze',
      })
    }
    const key = `${recording.folder}\n${session}`
    const running = this.#freezes.get(key)
    if (running !== undefined) return running
    const snapshot = recording.trajectories.snapshotOf(session)
    if (snapshot !== undefined) return snapshot
    if (this.#waiting >= FREEZES_AT_ONCE_MAX) {
      const message = `${FREEZES_AT_ONCE_MAX} freezes are waiting already, which is the most`
      throw new RolltapeError('over_capacity', message)
    }
    const freezing = this.#freeze(recording, session, deadlineMs)
    this.#freezes.set(key, freezing)
    return freezing.finally(() => this.#freezes.delete(key))
  }

  async #freeze(recording: Recording, session: string, deadlineMs: number): Promise<Snapshot> {
    const { trajectories } = recording
    await this.#checkKnown(recording, session)
    trajectories.setFrozen(session, true)
    try {
      await this.#quiet(session, deadlineMs)
      await barrier(this.#supervisor, recording)
      return await trajectories.freeze(session)
    } catch (error) {
      trajectories.setFrozen(session, false)
      throw error
    }
  }

  /** What is not known shall leave no trace; a session without generation requests is in the file. */
  async #checkKnown({ tables, trajectories }: Recording, session: string): Promise<void> {
    if (tables.hasSession(session)) return
    const reading = await trajectories.read(session)
    if (reading === undefined) throw noRecord(session)
    reading.close()
  }

  async #quiet(session: string, deadlineMs: number): Promise<void> {
    this.#waiting++
    const quiet = this.#askAll('sessionQuiet', session).finally(() => this.#waiting--)
    const leftMs = deadlineMs - Date.now()
    const waitMs = Math.min(this.#waitMsMax, leftMs - Math.min(DEADLINE_MARGIN_MS, leftMs / 2))
    const late = Promise.withResolvers<'late'>()
    const timer = setTimeout(() => late.resolve('late'), Math.max(0, waitMs))
    try {
      if ((await Promise.race([quiet, late.promise])) !== 'late') return
    } finally {
      clearTimeout(timer)
    }
    // Nobody may be there to hear of its end.
    quiet.catch(() => undefined)
    const counts = await this.#askAll('ofSession', session)
    const running = counts.reduce((sum, count) => sum + count, 0)
    const what = running === 1 ? '1 call' : `${running} calls`
    throw new RolltapeError(
      'wrong_state',
      `${what} of session ${session} did not end in time, so it is not frozen`,
      { hint: 'freeze it again when they have ended' },
    )
  }

  #askAll<Q extends 'sessionQuiet' | 'ofSession'>(question: Q, session: string) {
    const lanes = Array.from({ length: this.#supervisor.lanes }, (_, lane) => lane)
    return Promise.all(lanes.map((lane) => this.#supervisor.ask(lane, question, session)))
  }
}
