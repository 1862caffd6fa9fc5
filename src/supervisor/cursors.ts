/**
 * How far runs have come in the sessions of a recording, read off the shared claims, and moved there.
 *
 * A cursor's position is the number of generation records of its session before the lowest one that
 * is not used; nothing else is kept, so lanes and callers can never disagree about it. Records that
 * are not served (a client had left them, say) do not count.
 */
import { RolltapeError } from '../errors.ts'
import type { LaneReplay } from '../lane/player.ts'
import { Claims } from '../replay/claims.ts'
import type { RunClaims } from '../replay/claims.ts'
import { LIST, ReplayIndex } from '../replay/index-table.ts'
import { IS_GENERATION, isServed } from '../replay/packed.ts'
import type { ServedRules } from '../replay/packed.ts'

/** How far a run has come in a session. */
export interface Cursor {
  readonly run: string
  /** Who asks: the session that is bound to the recorded one; null when none is, or not known. */
  readonly session: string | null
  /** True when somebody is bound to it. */
  readonly isBound: boolean
  readonly recordedSession: string
  /** Generation records before the lowest one that is not used. */
  readonly position: number
  /** Generation records of the session that are served. */
  readonly total: number
  readonly used: number
  /** Being given to somebody right now. */
  readonly claimed: number
  /** The record at `position`; undefined at the end. */
  readonly next: { readonly seq: number; readonly turn: number } | undefined
}

/** Which cursor: a run, and a session by who asks or by its recorded name. */
export interface CursorName {
  readonly run: string
  readonly session: string
}

interface Place {
  readonly run: string
  readonly claims: RunClaims
  readonly session: number
}

/** The cursors on one recording. */
export class Cursors {
  readonly #index: ReplayIndex
  readonly #claims: Claims
  readonly #rules: ServedRules

  constructor({ index, claims }: LaneReplay, rules: ServedRules) {
    this.#rules = rules
    this.#index = new ReplayIndex(index)
    this.#claims = new Claims(claims, index.count, index.sessions.length)
  }

  /**
   * Cursors that somebody is bound to, or that have been moved, by run and recorded session; from
   * behind `after` on, at most `max`.
   */
  list({ run, after, max }: { run?: string; after?: CursorName; max: number }): Cursor[] {
    const found: Cursor[] = []
    const runs = [...this.#claims.named()].sort(([a], [b]) => (a < b ? -1 : 1))
    const { sessions } = this.#index
    for (const [name, claims] of runs) {
      if ((run !== undefined && name !== run) || (after !== undefined && name < after.run)) continue
      const start = after?.run === name ? (this.#index.sessionNumber(after.session) ?? -1) + 1 : 0
      for (let session = start; session < sessions.length; session++) {
        if (found.length >= max) return found
        const cursor = this.#read({ run: name, claims, session })
        const isMoved = cursor.used + cursor.claimed > 0
        if (isMoved || !claims.isUnbound(session)) found.push(cursor)
      }
    }
    return found
  }

  /** The cursors of whoever asks as this session, in all runs. */
  of(session: string): Cursor[] {
    return [...this.#claims.named()].flatMap(([run, claims]) => {
      const recorded = claims.bound(session)
      return recorded < 0 ? [] : [{ ...this.#read({ run, claims, session: recorded }), session }]
    })
  }

  /**
   * One cursor.
   * @throws RolltapeError `not_found` when there is no such run or session.
   */
  get(name: CursorName): Cursor {
    return this.#read(this.#find(name))
  }

  /**
   * Moves a cursor: records before `position` count as used, the others are free. Records that are
   * being given right now are left to those who give them.
   * @throws RolltapeError `not_found`; `bad_argument` beyond the end; `generation_conflict` when the
   *   cursor does not stand at `expected`.
   */
  seek(name: CursorName, { position, expected }: { position: number; expected?: number }): Cursor {
    const place = this.#find(name)
    const before = this.#read(place)
    if (position > before.total) {
      throw new RolltapeError(
        'bad_argument',
        `position is ${position}, and session ${before.recordedSession} has ${before.total} records`,
      )
    }
    if (expected !== undefined && expected !== before.position) {
      throw new RolltapeError(
        'generation_conflict',
        `position ${expected} is expected, and the cursor stands at ${before.position}`,
        { hint: 'it has been moved meanwhile; look at it and decide anew' },
      )
    }
    let at = 0
    for (const record of this.#records(place.session)) place.claims.place(record, at++ < position)
    return this.#read(place)
  }

  /**
   * Moves cursors back to the start: all of a run, with what is bound, or one session's.
   * @throws RolltapeError `not_found`.
   */
  reset(run: string, session?: string): void {
    if (session !== undefined) {
      this.seek({ run, session }, { position: 0 })
      return
    }
    const claims = this.#claims.find(run)
    if (claims === undefined) throw noRun(run)
    claims.reset()
  }

  /**
   * Takes a session's cursor over into another run, which is begun if need be: its session asks for
   * the same recorded one and stands at the same place.
   * @throws RolltapeError `not_found`; `wrong_state` where the other run's recorded session is
   *   somebody else's; `bad_argument` within one run, whose records are given once.
   */
  fork(from: CursorName, to: CursorName): Cursor {
    if (from.run === to.run) {
      throw new RolltapeError('bad_argument', 'a run gives each record once; fork into another run')
    }
    const source = this.#find(from)
    const claims = this.#claims.run(to.run)
    const bound = claims.bound(to.session)
    const isFree = bound < 0 && claims.isUnbound(source.session)
    if (bound !== source.session && !(isFree && claims.bind(source.session, to.session))) {
      const recorded = this.#index.sessions[source.session] ?? ''
      throw new RolltapeError(
        'wrong_state',
        `in run ${to.run} the recorded session ${recorded} or the session ${to.session} is taken`,
        { hint: 'fork into a run of its own' },
      )
    }
    const place = { run: to.run, claims, session: source.session }
    for (const record of this.#records(source.session)) {
      claims.place(record, source.claims.isUsed(record))
    }
    return { ...this.#read(place), session: to.session }
  }

  #find({ run, session }: CursorName): Place {
    const claims = this.#claims.find(run)
    if (claims === undefined) throw noRun(run)
    const bound = claims.bound(session)
    const recorded = this.#index.sessionNumber(session) ?? -1
    const number = [bound, recorded].find((one) => one >= 0)
    if (number === undefined) {
      throw new RolltapeError('not_found', `run ${run} has no session ${session}`, {
        hint: 'ListCursors tells which there are',
      })
    }
    return { run, claims, session: number }
  }

  #read({ run, claims, session }: Place): Cursor {
    let [total, used, claimed, position] = [0, 0, 0, -1]
    let next: Cursor['next']
    for (const record of this.#records(session)) {
      const isUsed = claims.isUsed(record)
      if (isUsed) used++
      else if (!claims.isFree(record)) claimed++
      if (!isUsed && position < 0) {
        position = total
        const { seq, turn } = this.#index.entry(record)
        next = { seq, turn }
      }
      total++
    }
    return {
      run,
      session: this.#asking(claims, session),
      isBound: !claims.isUnbound(session),
      recordedSession: this.#index.sessions[session] ?? '',
      position: position < 0 ? total : position,
      total,
      used,
      claimed,
      next,
    }
  }

  /** Who is bound to it, where it asks under the recorded name; other names only lanes know. */
  #asking(claims: RunClaims, session: number): string | null {
    const recorded = this.#index.sessions[session] ?? ''
    return claims.bound(recorded) === session ? recorded : null
  }

  *#records(session: number): Generator<number> {
    for (let record = this.#index.firstOf(session); record >= 0;) {
      const flags = this.#index.flags(record)
      if ((flags & IS_GENERATION) !== 0 && isServed(flags, this.#rules)) yield record
      record = this.#index.next(LIST.session, record)
    }
  }
}

function noRun(run: string): RolltapeError {
  return new RolltapeError('not_found', `there is no run ${run}`, {
    hint: 'a run begins with its first request; ListCursors tells which there are',
  })
}
