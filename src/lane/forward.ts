/**
 * The upstream's side of one exchange: tries, and what becomes of each.
 *
 * Forward decides about retries and keeps the deadlines of connecting, first byte and stall; the
 * exchange hears only of the answer that counts, or of the failure that is left. Once a final head
 * has been handed on there is no other try.
 */
import type { Dispatcher } from 'undici'
import { RolltapeError } from '../errors.ts'
import type { RolltapeConfig } from '../options.ts'
import type { AttemptFrame } from '../tape/exchange.ts'
import { queueOf } from '../responder/address.ts'
import { formatHop } from '../responder/hop.ts'
import type { Asker } from '../responder/hop.ts'
import { Attempt } from './attempt.ts'
import type { AttemptOwner, Failure } from './attempt.ts'
import type { LaneContext } from './context.ts'
import { headerValue, responseHeaders } from './headers.ts'
import type { BodyStream } from './request-body.ts'
import { retriesStatus, retryDelayMs } from './retry.ts'
import type { RetryRules } from './retry.ts'
import type { Target } from './route.ts'
import type { Upstreams } from './upstreams.ts'

/** What a forward tells its exchange. */
export interface ForwardOwner {
  onInterim(status: number, reason: string, flat: string[]): void
  onHead(status: number, reason: string, flat: string[]): void
  onChunk(chunk: Buffer, nowMs: number): void
  onUpstreamEnd(trailers: string[]): void
  onUpstreamFailure(failure: Failure): void
  /** A replayed answer has come to where it broke off when it was recorded. */
  onRecordedBreak(): void
  onAttemptFailed(frame: AttemptFrame): void
}

/** The request as it goes upstream. */
export interface ForwardRequest {
  /** That of its arrival. */
  readonly config: Pick<RolltapeConfig, 'ttfbTimeoutMs' | 'stallTimeoutMs'> & RetryRules
  readonly target: Target
  readonly method: string
  readonly flat: string[]
  /** Gathered bytes can be sent again; a stream cannot, so it is tried once. */
  readonly body: Buffer | BodyStream | undefined
  /** Bytes of a streamed body, when the client said how many; -1 when it did not. */
  readonly bodyBytes: number
  /** `performance.now()` by which everything must be over; Infinity when there is no bound. */
  readonly untilMs: number
  /** A try before this one is on the tape, so all of these are noted there. */
  readonly isNoted?: boolean
}

/** Forwards one request. */
export class Forward implements AttemptOwner {
  /** `performance.now()` of the last byte from the upstream; 0 before the first. */
  lastByteMs = 0
  readonly #lane: LaneContext
  readonly #upstreams: Upstreams
  readonly #owner: ForwardOwner
  readonly #request: ForwardRequest
  #attempt: Attempt | undefined
  #tries = 0
  #retriedFresh = false
  /** A try that failed is on the tape, so the one that ends it all must be too. */
  #noted: boolean
  #retryAtMs = Infinity
  #headed = false
  #status: number | null = null
  #over = false
  #paused = false

  constructor(
    lane: LaneContext,
    upstreams: Upstreams,
    owner: ForwardOwner,
    request: ForwardRequest,
  ) {
    this.#lane = lane
    this.#upstreams = upstreams
    this.#owner = owner
    this.#request = request
    this.#noted = request.isNoted === true
  }

  /** Sends the request. */
  start(): void {
    // What is left of an answer that was given up is not waited for any longer.
    this.#attempt?.abort()
    this.#tries++
    this.#try(this.#upstreams.pool(this.#request.target.origin))
  }

  pause(): void {
    this.#paused = true
    this.#attempt?.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#attempt?.resume()
  }

  /** Ends it: the upstream's socket is closed and nothing more is told. */
  abort(): void {
    this.#over = true
    this.#attempt?.abort()
    this.#abortBody()
  }

  /** When {@link onDeadline} is to be called next, in `performance.now()` time. */
  get deadlineMs(): number {
    if (this.#over) return Infinity
    if (this.#retryAtMs !== Infinity) return this.#retryAtMs
    const { ttfbTimeoutMs, stallTimeoutMs } = this.#request.config
    if (this.lastByteMs === 0) {
      return ttfbTimeoutMs === 0 ? Infinity : (this.#attempt?.startedMs ?? 0) + ttfbTimeoutMs
    }
    return stallTimeoutMs === 0 ? Infinity : this.lastByteMs + stallTimeoutMs
  }

  /** Acts on what is due: the next try, or a timeout. */
  onDeadline(nowMs: number): void {
    if (nowMs < this.deadlineMs) return
    if (this.#retryAtMs !== Infinity) {
      this.#retryAtMs = Infinity
      return this.start()
    }
    const attempt = this.#attempt
    if (attempt === undefined) return
    const first = this.lastByteMs === 0
    attempt.abort()
    this.onAttemptError(attempt, first ? this.#ttfbTimeout() : this.#stallTimeout())
  }

  onRequestStart(attempt: Attempt): void {
    this.#upstreams.starting(attempt)
    this.#lane.counters.add('egress')
    if (this.#paused) attempt.pause()
  }

  onFirstByte(): void {
    this.lastByteMs = performance.now()
  }

  onInterim(status: number, reason: string, raw: Buffer[]): void {
    this.#owner.onInterim(status, reason, responseHeaders(raw))
  }

  onResponseStart(attempt: Attempt, status: number, reason: string, raw: Buffer[]): boolean {
    const flat = responseHeaders(raw)
    if (retriesStatus(this.#request.config, status)) {
      const retryAfter = headerValue(flat, 'retry-after')
      if (this.#retryLater(retryAfter)) {
        this.#note(attempt, status, null)
        return false
      }
    }
    this.#headed = true
    this.#status = status
    this.#owner.onHead(status, reason, flat)
    return true
  }

  onResponseData(chunk: Buffer): void {
    // undici tells of empty pieces when a paused answer is resumed; framed, one would end the body.
    if (chunk.length === 0) return
    const nowMs = performance.now()
    this.lastByteMs = nowMs
    this.#owner.onChunk(chunk, nowMs)
  }

  onResponseEnd(trailers: Buffer[]): void {
    this.#over = true
    if (this.#noted && this.#attempt) this.#note(this.#attempt, this.#status, null)
    this.#owner.onUpstreamEnd(responseHeaders(trailers))
  }

  onAttemptError(attempt: Attempt, failure: Failure): void {
    if (this.#over) return
    this.lastByteMs = this.#headed ? this.lastByteMs : 0
    if (failure.cause === 'upstream_reset' && !attempt.answered && attempt.socketReused) {
      if (this.#retryFresh(attempt, failure)) return
    }
    const again = !this.#headed && failure.retryable && this.#retryLater(undefined)
    if (again || this.#noted) this.#note(attempt, this.#status, failure.error.code)
    if (again) return
    this.#over = true
    this.#abortBody()
    this.#owner.onUpstreamFailure(failure)
  }

  #try(dispatcher: Dispatcher): void {
    const { target, method, flat, body, bodyBytes } = this.#request
    const attempt = new Attempt(this, target.base, performance.now())
    this.#attempt = attempt
    const sized = body !== undefined && !Buffer.isBuffer(body) && bodyBytes >= 0
    const own = sized ? [...flat, 'content-length', String(bodyBytes)] : flat
    const headers = target.asker === undefined ? own : [...own, ...this.#told(target.asker)]
    const options = { origin: target.origin, path: target.path, method, headers }
    try {
      dispatcher.dispatch({ ...options, body: body ?? null } as Dispatcher.DispatchOptions, attempt)
    } catch (error) {
      attempt.onResponseError(undefined, error as Error)
    }
  }

  /** What a responder is told beside the request. */
  #told(asker: Asker): string[] {
    const { target, untilMs } = this.#request
    const queue = queueOf(target.base) ?? ''
    const { session, run, turn, seq } = asker
    return formatHop({ queue, session, run, turn, seq, leftMs: untilMs - performance.now() })
  }

  /** The one retry a dead idle socket is worth (the upstream closed it as we reused it). */
  #retryFresh(dead: Attempt, { error }: Failure): boolean {
    if (this.#retriedFresh || !this.#resendable) return false
    this.#retriedFresh = true
    this.#note(dead, null, error.code)
    const client = this.#upstreams.fresh(this.#request.target.origin)
    this.#try(client)
    // Closes the client once its only request is over, without waiting for anything else.
    client.close().catch(() => undefined)
    return true
  }

  get #resendable(): boolean {
    const { body } = this.#request
    return body === undefined || Buffer.isBuffer(body)
  }

  /** Plans another try if one is left and it fits the total deadline. */
  #retryLater(retryAfter: string | undefined): boolean {
    const { config } = this.#request
    if (this.#tries >= config.maxAttempts || !this.#resendable) return false
    const delayMs = retryDelayMs(this.#tries + 1, retryAfter, () => this.#lane.random())
    if (delayMs === undefined) return false
    const atMs = performance.now() + delayMs
    if (atMs >= this.#request.untilMs) return false
    this.#retryAtMs = atMs
    this.lastByteMs = 0
    this.#lane.counters.add('retries')
    return true
  }

  #note(attempt: Attempt, status: number | null, error: string | null): void {
    this.#noted = true
    const durationMs = Math.round((performance.now() - attempt.startedMs) * 1000) / 1000
    this.#owner.onAttemptFailed({ upstream: attempt.upstream, status, error, durationMs })
  }

  #abortBody(): void {
    const { body } = this.#request
    if (body !== undefined && !Buffer.isBuffer(body)) body.destroy()
  }

  #ttfbTimeout(): Failure {
    const { ttfbTimeoutMs, retryAfterSend } = this.#request.config
    const message = `${this.#request.target.base} sent no byte within ttfb_timeout (${ttfbTimeoutMs} ms)`
    return {
      cause: 'timeout_ttfb',
      error: new RolltapeError('upstream_timeout_ttfb', message),
      retryable: retryAfterSend,
    }
  }

  #stallTimeout(): Failure {
    const { stallTimeoutMs } = this.#request.config
    const message = `no byte from ${this.#request.target.base} for stall_timeout (${stallTimeoutMs} ms)`
    return {
      cause: 'timeout_stall',
      error: new RolltapeError('upstream_timeout_stall', message),
      retryable: false,
    }
  }
}
