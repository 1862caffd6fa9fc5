/**
 * What a thread tells of exchanges while somebody watches them, and how: one batch is under way at
 * most, so that a main thread that is busy makes nothing grow but a count of what was left out.
 */
import { WATCH_EVENTS_PENDING_MAX, WATCH_TEXT_CHARS_MAX } from '../limits.ts'
import type { Outcome } from '../trajectory/record.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'

/** An exchange that has begun. */
export interface WatchedBegin {
  readonly kind: 'began'
  /** Tells exchanges apart that have no number; 0 where a record tells. */
  readonly watchId: number
  /** Its number in the recording; 0 while it has none. */
  readonly seq: number
  readonly session: string
  readonly method: string
  readonly path: string
  /** Epoch ms. */
  readonly atMs: number
}

/** An exchange that has ended. */
export interface WatchedEnd extends Omit<WatchedBegin, 'kind'> {
  readonly kind: 'ended'
  /** As the client got it; 0 when it got none. */
  readonly httpStatus: number
  readonly durationMs: number
  /** Undefined where it is not recorded. */
  readonly record: WatchedRecord | undefined
}

/** A record in short. */
export interface WatchedRecord {
  readonly id: string
  readonly turn: number
  readonly model: string
  readonly stream: boolean
  readonly outcome: Outcome
  readonly error: string
  readonly ttftMs: number | undefined
  readonly inputTokens: number | undefined
  readonly outputTokens: number | undefined
}

/** Something a watcher is told. */
export type WatchedEvent = WatchedBegin | WatchedEnd

/** Events on their way to the main thread. */
export interface WatchBatch {
  readonly events: readonly WatchedEvent[]
  /** Events left out since the batch before. */
  readonly lost: number
}

/** A thread's way out for events. */
export class WatchOutlet {
  readonly #send: (batch: WatchBatch) => void
  #events: WatchedEvent[] = []
  #lost = 0
  #underWay = false

  constructor(send: (batch: WatchBatch) => void) {
    this.#send = send
  }

  /** Tells of an event, now or with the next batch. */
  add(event: WatchedEvent): void {
    if (this.#events.length >= WATCH_EVENTS_PENDING_MAX) this.#lost++
    else this.#events.push(event)
    if (!this.#underWay) this.#next()
  }

  /** The main thread has taken the last batch. */
  onTaken(): void {
    this.#underWay = false
    if (this.#events.length + this.#lost > 0) this.#next()
  }

  #next(): void {
    this.#underWay = true
    this.#send({ events: this.#events, lost: this.#lost })
    this.#events = []
    this.#lost = 0
  }
}

/** A record's end as an event. */
export function endOf(record: StoredRecord): WatchedEnd {
  const { session = '', method = '', path = '', outcome, usage, timings } = record
  return {
    kind: 'ended',
    watchId: 0,
    seq: record.seq ?? 0,
    session,
    method,
    path: short(path.split('?', 1)[0] ?? ''),
    atMs: record.end_time * 1_000,
    httpStatus: record.http_status ?? 0,
    durationMs: timings?.duration_ms ?? record.response_time * 1_000,
    record: {
      id: record.id ?? '',
      turn: record.turn ?? 0,
      model: short(record.model ?? ''),
      stream: record.stream,
      outcome: outcome ?? 'complete',
      error: short(record.error ?? ''),
      ttftMs: timings?.ttft_ms ?? undefined,
      inputTokens: usage?.normalized.input,
      outputTokens: usage?.normalized.output,
    },
  }
}

/** A text cut to what an event may hold. */
export function short(text: string): string {
  return text.length <= WATCH_TEXT_CHARS_MAX ? text : `${text.slice(0, WATCH_TEXT_CHARS_MAX - 1)}…`
}
