/**
 * When an exchange is to be looked after, on the lane's wheel: its total time, the moment that an
 * upstream gets after the mark, writes that are waited for, heartbeats, what its source waits for,
 * and a block of answer bytes that has waited long enough.
 */
import { RolltapeError } from '../errors.ts'
import { AFTER_MARK_MS_MAX, BLOCK_AGE_MS_MAX } from '../limits.ts'
import type { RolltapeConfig } from '../options.ts'
import type { Failure } from './attempt.ts'
import type { LaneContext } from './context.ts'
import type { Intake } from './intake.ts'
import type { Relay } from './relay.ts'
import type { Taping } from './taping.ts'
import { WheelEntry } from './wheel.ts'

/** Where an answer comes from. */
export interface Source {
  /** `performance.now()` of its next deadline. */
  readonly deadlineMs: number
  /** `performance.now()` of the last byte from it; 0 before the first. */
  readonly lastByteMs: number
  pause(): void
  resume(): void
  /** Ends it; nothing more is told. */
  abort(): void
  onDeadline(nowMs: number): void
}

/** What deadlines know of their exchange, and tell it. */
export interface DeadlineOwner {
  /** True once all is decided about it. */
  readonly isOver: boolean
  readonly source: Source | undefined
  readonly relay: Relay
  readonly taping: Taping | undefined
  /** It took longer than an exchange may. */
  onTimeout(failure: Failure): void
  /** The client has left, and nobody waits for the upstream any longer. */
  onClientLeft(): void
  /** A write that the client waits for takes too long (policy `refuse`). */
  onCommitFailed(error: Error): void
}

/** The deadlines of one exchange. */
export class Deadlines extends WheelEntry {
  /** `performance.now()` by which everything must be over; Infinity when there is no bound. */
  readonly untilMs: number
  readonly #lane: LaneContext
  /** That of its arrival, to its end. */
  readonly #config: RolltapeConfig
  readonly #owner: DeadlineOwner
  readonly #intake: Intake
  #afterMarkMs = Infinity
  #heartbeatMs = Infinity

  constructor(lane: LaneContext, owner: DeadlineOwner, intake: Intake) {
    super()
    this.#lane = lane
    this.#owner = owner
    this.#intake = intake
    this.#config = lane.serving.config
    const { requestTimeoutMs } = this.#config
    this.untilMs = requestTimeoutMs === 0 ? Infinity : intake.arrival.atMs + requestTimeoutMs
  }

  /** The answer's head is there: heartbeats count from now. */
  onHead(nowMs: number): void {
    const { heartbeatMs } = this.#config
    if (heartbeatMs > 0) this.#heartbeatMs = nowMs + heartbeatMs
    this.arm()
  }

  /** The client has left after the mark: the upstream has a moment to end by itself. */
  onMarkedLeave(): void {
    this.#afterMarkMs = performance.now() + AFTER_MARK_MS_MAX
    this.arm()
  }

  onDeadline(nowMs: number): void {
    const owner = this.#owner
    if (nowMs >= this.untilMs && !owner.isOver) return owner.onTimeout(this.#timeout())
    if (nowMs >= this.#afterMarkMs && !owner.isOver) return owner.onClientLeft()
    if (nowMs >= this.#bodyDueMs && !owner.isOver) return owner.onTimeout(this.#stalled())
    const { commitTimeoutMs, heartbeatMs, onTapeFailure } = this.#config
    const since = owner.relay.waitingSinceMs
    if (commitTimeoutMs > 0 && since > 0 && nowMs >= since + commitTimeoutMs) {
      const error = new Error(`not written within commit_timeout (${commitTimeoutMs} ms)`)
      if (onTapeFailure === 'refuse') return owner.onCommitFailed(error)
      owner.relay.releaseAll()
    }
    if (nowMs >= this.#heartbeatMs) this.#beat(nowMs, heartbeatMs)
    owner.source?.onDeadline(nowMs)
    if (owner.taping?.gathering) owner.taping.flush()
    this.arm()
  }

  /** Sets the wheel to what is due next; to be called whenever that may have changed. */
  arm(): void {
    const { wheel } = this.#lane
    const config = this.#config
    const { isOver, relay, source, taping } = this.#owner
    let dueMs = isOver ? Infinity : Math.min(this.untilMs, this.#afterMarkMs, this.#bodyDueMs)
    const since = relay.waitingSinceMs
    if (config.commitTimeoutMs > 0 && since > 0) {
      dueMs = Math.min(dueMs, since + config.commitTimeoutMs)
    }
    if (source !== undefined && !isOver) {
      dueMs = Math.min(dueMs, source.deadlineMs, this.#heartbeatMs)
      // While an answer streams, its block is looked after about every second.
      if (taping !== undefined) dueMs = Math.min(dueMs, performance.now() + BLOCK_AGE_MS_MAX)
    }
    if (dueMs === Infinity) wheel.clear(this)
    else wheel.set(this, dueMs)
  }

  /** Nothing is due any more. */
  clear(): void {
    this.#lane.wheel.clear(this)
  }

  #timeout(): Failure {
    const message = `the exchange took longer than request_timeout (${this.#config.requestTimeoutMs} ms)`
    const error = new RolltapeError('upstream_timeout_total', message)
    return { cause: 'timeout_total', error, retryable: false }
  }

  /** When the client is taken for stalled; looked at again then, as it sends on or is read on. */
  get #bodyDueMs(): number {
    const { clientBodyTimeoutMs } = this.#config
    return clientBodyTimeoutMs === 0 ? Infinity : this.#intake.waitsSinceMs + clientBodyTimeoutMs
  }

  #stalled(): Failure {
    const message = `nothing more of the request body came for client_body_timeout (${this.#config.clientBodyTimeoutMs} ms)`
    const error = new RolltapeError('request_stalled', message)
    return { cause: 'timeout_stall', error, retryable: false }
  }

  #beat(nowMs: number, heartbeatMs: number): void {
    const { source, isOver, relay } = this.#owner
    const quietMs = nowMs - (source?.lastByteMs ?? 0)
    if (quietMs >= heartbeatMs && !isOver) relay.heartbeat()
    this.#heartbeatMs = nowMs + heartbeatMs
  }
}
