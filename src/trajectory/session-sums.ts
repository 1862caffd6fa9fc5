/**
 * What sessions come to, counted where exchanges end: by the appender for those that are recorded,
 * by the lanes for all others. A thread keeps what it has counted until it is asked for it.
 */
import { SESSIONS_LISTED_MAX } from '../limits.ts'
import type { Outcome } from './record.ts'

/** One exchange, as it counts for its session. Times are epoch ms. */
export interface SessionCount {
  readonly session: string
  readonly isGeneration: boolean
  readonly outcome: Outcome
  readonly inputTokens: number
  readonly outputTokens: number
  readonly startMs: number
  readonly endMs: number
}

/** What a session comes to. */
export interface SessionSum {
  readonly session: string
  exchanges: number
  /** Generation requests. */
  turns: number
  inputTokens: number
  outputTokens: number
  firstMs: number
  lastMs: number
  readonly outcomes: Partial<Record<Outcome, number>>
}

/** Where there are too many sessions, this part of them is forgotten at once. */
const FORGOTTEN_PART = 16

/** Sums up exchanges by session. The sessions that have been quiet for longest are forgotten first. */
export class SessionSums {
  #sums = new Map<string, SessionSum>()

  /** Counts one exchange. */
  add(count: SessionCount): void {
    const sum = this.#of(count.session, count.startMs)
    sum.exchanges++
    if (count.isGeneration) sum.turns++
    sum.inputTokens += count.inputTokens
    sum.outputTokens += count.outputTokens
    sum.firstMs = Math.min(sum.firstMs, count.startMs)
    sum.lastMs = Math.max(sum.lastMs, count.endMs)
    sum.outcomes[count.outcome] = (sum.outcomes[count.outcome] ?? 0) + 1
  }

  /** Takes over what another thread has summed up. */
  merge(more: SessionSum): void {
    const sum = this.#of(more.session, more.firstMs)
    sum.exchanges += more.exchanges
    sum.turns += more.turns
    sum.inputTokens += more.inputTokens
    sum.outputTokens += more.outputTokens
    sum.firstMs = Math.min(sum.firstMs, more.firstMs)
    sum.lastMs = Math.max(sum.lastMs, more.lastMs)
    for (const [outcome, count] of Object.entries(more.outcomes) as [Outcome, number][]) {
      sum.outcomes[outcome] = (sum.outcomes[outcome] ?? 0) + count
    }
  }

  /** All there is, which is forgotten here. */
  take(): SessionSum[] {
    const all = [...this.#sums.values()]
    this.#sums = new Map()
    return all
  }

  get(session: string): SessionSum | undefined {
    return this.#sums.get(session)
  }

  drop(session: string): void {
    this.#sums.delete(session)
  }

  /** The sessions behind `after` in the order of their ids, at most `max`. */
  list(after: string, max: number): SessionSum[] {
    const behind = [...this.#sums.values()].filter(({ session }) => session > after)
    return behind.sort((a, b) => (a.session < b.session ? -1 : 1)).slice(0, max)
  }

  #of(session: string, startMs: number): SessionSum {
    let sum = this.#sums.get(session)
    if (sum === undefined) {
      sum = emptySum(session, startMs)
      if (this.#sums.size >= SESSIONS_LISTED_MAX) this.#forget()
      this.#sums.set(session, sum)
    }
    return sum
  }

  /** Rarely and many at once: nothing is moved about while sessions are counted. */
  #forget(): void {
    const quiet = [...this.#sums.values()].sort((a, b) => a.lastMs - b.lastMs)
    quiet.length = Math.ceil(quiet.length / FORGOTTEN_PART)
    for (const { session } of quiet) this.#sums.delete(session)
  }
}

/** What a session comes to of which no exchange has ended. */
export function emptySum(session: string, startMs: number): SessionSum {
  return {
    session,
    exchanges: 0,
    turns: 0,
    inputTokens: 0,
    outputTokens: 0,
    firstMs: startMs,
    lastMs: startMs,
    outcomes: {},
  }
}
