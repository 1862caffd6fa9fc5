/**
 * Sums per session over any number of records, for a bounded number of sessions.
 */
import { SESSIONS_SUMMED_MAX } from '../limits.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { countToolCalls } from '../trajectory/tool-calls.ts'

/** What is known of one session. Times are epoch seconds. */
export interface SessionSum {
  readonly session: string
  exchanges: number
  turns: number
  failed: number
  startTime: number
  endTime: number
  ttftMsSum: number
  ttftMsMax: number
  ttftCount: number
  /** Tokens, as the upstream counted them. */
  input: number
  output: number
  /** Tokens whose ids are known, of choices that lack none. */
  sampled: number
  toolCalls: number
  /** What all exchanges took together. */
  waitedMs: number
}

/** Adds records up. */
export class SessionSums {
  /** Records of sessions over the bound. */
  untold = 0
  readonly #sums = new Map<string, SessionSum>()
  readonly #sessionsMax: number

  constructor(sessionsMax = SESSIONS_SUMMED_MAX) {
    this.#sessionsMax = sessionsMax
  }

  /** Takes one record; `failed` is the caller's judgement of it. */
  add(record: StoredRecord, failed: boolean): void {
    const sum = this.#sumOf(record)
    if (sum === undefined) {
      this.untold += 1
      return
    }
    sum.exchanges += 1
    if ((record.turn ?? 0) > 0) sum.turns += 1
    if (failed) sum.failed += 1
    sum.startTime = Math.min(sum.startTime, record.start_time)
    sum.endTime = Math.max(sum.endTime, record.end_time)
    const ttftMs = record.timings?.ttft_ms ?? null
    if (ttftMs !== null) {
      sum.ttftMsSum += ttftMs
      sum.ttftMsMax = Math.max(sum.ttftMsMax, ttftMs)
      sum.ttftCount += 1
    }
    sum.input += record.usage?.normalized.input ?? 0
    sum.output += record.usage?.normalized.output ?? 0
    for (const { token_ids: ids } of record.tokens ?? []) {
      if (ids?.includes(null) === false) sum.sampled += ids.length
    }
    sum.toolCalls += countToolCalls(record)
    sum.waitedMs += record.timings?.duration_ms ?? record.response_time * 1_000
  }

  /** All sums, in the order in which sessions were first met. */
  all(): Iterable<SessionSum> {
    return this.#sums.values()
  }

  #sumOf(record: StoredRecord): SessionSum | undefined {
    const session = record.session ?? 'default'
    const known = this.#sums.get(session)
    if (known !== undefined) return known
    if (this.#sums.size >= this.#sessionsMax) return undefined
    const sum: SessionSum = {
      session,
      exchanges: 0,
      turns: 0,
      failed: 0,
      startTime: record.start_time,
      endTime: record.end_time,
      ttftMsSum: 0,
      ttftMsMax: 0,
      ttftCount: 0,
      input: 0,
      output: 0,
      sampled: 0,
      toolCalls: 0,
      waitedMs: 0,
    }
    this.#sums.set(session, sum)
    return sum
  }
}
