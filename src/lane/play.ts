/**
 * The upstream's side of an exchange that is replayed: where `Forward` asks a server, this gives a
 * recorded answer, its bytes in their chunks, at the pace that is asked for.
 *
 * Times are kept against one start, never chunk by chunk, so nothing drifts; all plays of a lane
 * share one fine wheel.
 */
import type { PlayedAnswer } from '../replay/answer.ts'
import type { Pace } from '../replay/pace.ts'
import type { ForwardOwner } from './forward.ts'
import { WheelEntry } from './wheel.ts'
import type { Wheel } from './wheel.ts'

/** Gives one recorded answer. */
export class Play extends WheelEntry {
  /** Nothing is waited for: a replay has no byte that could come late. */
  readonly lastByteMs = 0
  readonly deadlineMs = Infinity

  readonly #owner: ForwardOwner
  readonly #pacer: Wheel
  readonly #pace: Pace
  readonly #startMs: number
  #answer: PlayedAnswer | undefined
  #chunk = -1
  #at = 0
  #paused = false
  #over = false
  /** The answer broke off when it was recorded, and has done so again. */
  hasBrokenOff = false

  /** `startMs` is the request's arrival: recorded times count from the recorded arrival. */
  constructor(owner: ForwardOwner, pacer: Wheel, pace: Pace, startMs: number) {
    super()
    this.#owner = owner
    this.#pacer = pacer
    this.#pace = pace
    this.#startMs = startMs
  }

  /** The answer has been read: from here on it plays. */
  begin(answer: PlayedAnswer): void {
    if (this.#over) return
    this.#answer = answer
    this.#run()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#run()
  }

  abort(): void {
    this.#over = true
    this.#pacer.clear(this)
  }

  onDeadline(): void {
    this.#run()
  }

  /** Gives everything that is due, then waits for the next. */
  #run(): void {
    const answer = this.#answer
    if (answer === undefined) return
    while (!this.#over && !this.#paused) {
      const dueMs = this.#dueMs(answer)
      if (dueMs > performance.now()) return this.#pacer.set(this, dueMs)
      this.#step(answer)
    }
  }

  #step(answer: PlayedAnswer): void {
    if (this.#chunk < 0) {
      this.#chunk = 0
      for (const one of answer.interim) this.#owner.onInterim(one.status, one.reason, one.flat)
      const { status, reason, flat } = answer.head
      return this.#owner.onHead(status, reason, [...flat])
    }
    if (this.#chunk < answer.lengths.length) {
      const length = answer.lengths[this.#chunk++] ?? 0
      const { body } = answer
      const chunk = Buffer.from(body.buffer, body.byteOffset + this.#at, length)
      this.#at += length
      return this.#owner.onChunk(chunk, performance.now())
    }
    this.#over = true
    this.hasBrokenOff = !answer.whole
    if (answer.whole) this.#owner.onUpstreamEnd(answer.trailers)
    else this.#owner.onRecordedBreak()
  }

  /** When the next step is due, in `performance.now()` time. */
  #dueMs(answer: PlayedAnswer): number {
    const pace = this.#pace
    if (pace.kind === 'instant') return 0
    const { lengths, timesUs } = answer
    if (pace.kind === 'scaled') {
      const us = this.#chunk < 0 ? answer.head.atUs : (timesUs[this.#chunk] ?? answer.endUs)
      return this.#startMs + us / 1000 / pace.factor
    }
    if (this.#chunk < 0) return 0
    const step = Math.min(this.#chunk, lengths.length - 1)
    return this.#startMs + pace.ttftMs + step * pace.perChunkMs
  }
}
