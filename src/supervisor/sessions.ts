/**
 * Sessions as callers see them: what they come to since the start, what they have of their own, and
 * their end.
 */
import { RolltapeError } from '../errors.ts'
import type { SessionOverride } from '../options/overrides.ts'
import { SessionSums, emptySum } from '../trajectory/session-sums.ts'
import type { SessionSum } from '../trajectory/session-sums.ts'
import type { Cursor } from './cursors.ts'
import type { Lanes } from './lanes.ts'
import type { Recording } from './recording.ts'

/** A session. */
export interface Session extends SessionSum {
  /** What it has of its own; undefined when nothing. */
  readonly own: SessionOverride | undefined
}

/** How a session stood when it was closed. */
export interface ClosedSession {
  readonly session: Session
  /** Its cursors in all runs; each tells how many of its records nobody has used. */
  readonly cursors: readonly Cursor[]
}

/** What sessions need of their supervisor. */
export interface SessionsOptions {
  readonly lanes: Lanes
  readonly recording: () => Recording | undefined
  readonly overrides: () => ReadonlyMap<string, SessionOverride>
  /** Takes back what a session has of its own. */
  readonly clear: (session: string) => Promise<unknown>
  /** Ends what waits for responders; how many requests that were. */
  readonly endWaiting: (session: string) => number
  /** The session's cursors; none where nothing is replayed. */
  readonly cursorsOf: (session: string) => Promise<readonly Cursor[]>
}

/** The sessions of one process. */
export class Sessions {
  readonly #options: SessionsOptions
  readonly #sums = new SessionSums()

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  /** Sessions behind `after` in the order of their ids, at most `max`. */
  async list(after: string, max: number): Promise<Session[]> {
    await this.#gather()
    return this.#sums.list(after, max).map((sum) => this.#session(sum))
  }

  /**
   * One session.
   * @throws RolltapeError `not_found` when none of this id has ended an exchange since the start.
   */
  async get(id: string): Promise<Session> {
    await this.#gather()
    const sum = this.#sums.get(id)
    if (sum === undefined) throw unknown(id)
    return this.#session(sum)
  }

  /**
   * Ends a session: what it has of its own is taken back, what waits for a responder waits no longer,
   * and it is not listed any more. A request that comes later begins it anew.
   * @throws RolltapeError `not_found`.
   */
  async close(id: string): Promise<ClosedSession> {
    const ended = this.#options.endWaiting(id)
    const session = await this.#known(id, ended > 0)
    const cursors = await this.#options.cursorsOf(id)
    if (session.own !== undefined) await this.#options.clear(id)
    this.#sums.drop(id)
    return { session, cursors }
  }

  /** Takes over what was counted elsewhere. */
  take(sums: readonly SessionSum[]): void {
    for (const sum of sums) this.#sums.merge(sum)
  }

  /** What threads have counted since they were asked last. */
  async #gather(): Promise<void> {
    const { lanes, recording } = this.#options
    const told = await Promise.all([
      lanes.askAll('sessionSums', () => null).then((all) => all.flat()),
      recording()?.sessionSums() ?? [],
    ])
    this.take(told.flat())
  }

  /** With requests that have just been ended there is a session, though none of it has been counted. */
  async #known(id: string, isThere: boolean): Promise<Session> {
    if (!isThere) return this.get(id)
    await this.#gather()
    return this.#session(this.#sums.get(id) ?? emptySum(id, Date.now()))
  }

  #session(sum: SessionSum): Session {
    return { ...sum, own: this.#options.overrides().get(sum.session) }
  }
}

function unknown(id: string): RolltapeError {
  return new RolltapeError('not_found', `no exchange of session ${id} has ended since the start`, {
    hint: 'ListSessions tells which there are',
  })
}
