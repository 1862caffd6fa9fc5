/**
 * The upstream's side of an exchange whose request was changed on its way: a forward, and what has to
 * be seen of its answer. An error that names a field that was put in is held back, and the upstream is
 * asked once more without (O29); an answer with more in it than the client has asked for goes on with
 * what takes that out.
 */
import type { SentFrame } from '../tape/exchange.ts'
import type { RequestPlan } from '../transforms/request.ts'
import { stripFor } from '../transforms/strip-answer.ts'
import type { AnswerStrip } from '../transforms/strip-answer.ts'
import type { StripSpec } from '../transforms/transform.ts'
import { REFUSAL_BYTES_MAX } from '../limits.ts'
import type { AttemptFrame } from '../tape/exchange.ts'
import type { Failure } from './attempt.ts'
import type { LaneContext } from './context.ts'
import { Forward } from './forward.ts'
import type { ForwardOwner, ForwardRequest } from './forward.ts'
import type { Upstreams } from './upstreams.ts'

/** What it tells its exchange beyond what a forward does. */
export interface CapturedOwner extends ForwardOwner {
  onHead(status: number, reason: string, flat: string[], strip?: AnswerStrip): void
  /** Something else is sent than before. */
  onSent(frame: SentFrame): void
}

/** What is sent. */
export interface CapturedRequest {
  readonly upstreams: Upstreams
  /** As the client has sent it, and as it is sent. */
  readonly forward: ForwardRequest
  readonly asked: ForwardRequest
  readonly plan: RequestPlan
  /** What would be sent if the engine were not asked for tokens. */
  planWithout(why: string): RequestPlan | undefined
}

/** An error answer that may name a field that was put in. */
interface HeldError {
  readonly status: number
  readonly reason: string
  readonly flat: string[]
  readonly chunks: { readonly chunk: Buffer; readonly nowMs: number }[]
  bytes: number
}

/** Forwards a request that was changed. */
export class Captured implements ForwardOwner {
  readonly #lane: LaneContext
  readonly #owner: CapturedOwner
  readonly #request: CapturedRequest
  readonly #startedMs = performance.now()
  #forward: Forward
  /** What was put in, until it has been refused. */
  #injected: readonly string[]
  #strip: StripSpec | undefined
  #held: HeldError | undefined
  /** Why it is asked without, once it is. */
  #refusal: string | undefined
  #isPaused = false
  /** Nobody wants to hear more of it. */
  #isOver = false

  constructor(lane: LaneContext, owner: CapturedOwner, request: CapturedRequest) {
    this.#lane = lane
    this.#owner = owner
    this.#request = request
    this.#injected = request.plan.injected
    this.#strip = request.plan.strip
    this.#forward = this.#open({ ...request.asked, body: request.plan.body })
  }

  get deadlineMs(): number {
    return this.#forward.deadlineMs
  }

  get lastByteMs(): number {
    return this.#forward.lastByteMs
  }

  start(): void {
    this.#forward.start()
  }

  pause(): void {
    this.#isPaused = true
    this.#forward.pause()
  }

  resume(): void {
    this.#isPaused = false
    this.#forward.resume()
  }

  abort(): void {
    this.#isOver = true
    this.#held = undefined
    this.#forward.abort()
  }

  onDeadline(nowMs: number): void {
    this.#forward.onDeadline(nowMs)
  }

  onInterim(status: number, reason: string, flat: string[]): void {
    this.#owner.onInterim(status, reason, flat)
  }

  onHead(status: number, reason: string, flat: string[]): void {
    // An error that comes again was about something else, although it named the field.
    if (this.#refusal !== undefined && status < 400) this.#remember(this.#refusal)
    const mayRefuse = this.#injected.length > 0 && (status === 400 || status === 403)
    if (mayRefuse) this.#held = { status, reason, flat, chunks: [], bytes: 0 }
    else this.#head(status, reason, flat)
  }

  onChunk(chunk: Buffer, nowMs: number): void {
    const held = this.#held
    if (held === undefined) return this.#owner.onChunk(chunk, nowMs)
    held.chunks.push({ chunk, nowMs })
    held.bytes += chunk.length
    if (held.bytes > REFUSAL_BYTES_MAX) this.#release()
  }

  onUpstreamEnd(trailers: string[]): void {
    const field = this.#namedField()
    if (field !== undefined) return this.#askWithout(field)
    this.#release()
    if (!this.#isOver) this.#owner.onUpstreamEnd(trailers)
  }

  onUpstreamFailure(failure: Failure): void {
    this.#release()
    if (!this.#isOver) this.#owner.onUpstreamFailure(failure)
  }

  onRecordedBreak(): void {
    this.#owner.onRecordedBreak()
  }

  onAttemptFailed(frame: AttemptFrame): void {
    this.#owner.onAttemptFailed(frame)
  }

  #head(status: number, reason: string, flat: string[]): void {
    const strip = this.#strip && stripFor(this.#strip, { status, flat })
    if (typeof strip === 'object') this.#owner.onHead(status, reason, flat, strip)
    else this.#owner.onHead(status, reason, flat)
  }

  #release(): void {
    const held = this.#held
    this.#held = undefined
    if (held === undefined) return
    this.#head(held.status, held.reason, held.flat)
    for (const { chunk, nowMs } of held.chunks) {
      // The head may have been one that node refuses, and all is over.
      if (!this.#isOver) this.#owner.onChunk(chunk, nowMs)
    }
  }

  /** The field that a held error is about. */
  #namedField(): string | undefined {
    if (this.#held === undefined) return undefined
    const text = Buffer.concat(this.#held.chunks.map(({ chunk }) => chunk)).toString('latin1')
    return this.#injected.find((field) => text.includes(field))
  }

  /** The refusal is noted as a try of its own, and nothing of it goes to the client. */
  #askWithout(field: string): void {
    const { status } = this.#held ?? { status: 0 }
    this.#held = undefined
    this.#injected = []
    this.#strip = undefined
    const { forward, planWithout } = this.#request
    const { base } = forward.target
    const why = `${field} was refused with status ${status}`
    this.#refusal = why
    const next = planWithout(why)
    if (next !== undefined) this.#owner.onSent(sentOf(next))
    this.#forward = this.#open({ ...forward, body: next?.body ?? forward.body, isNoted: true })
    if (this.#isPaused) this.#forward.pause()
    this.#forward.start()
    const durationMs = Math.round((performance.now() - this.#startedMs) * 1000) / 1000
    this.#owner.onAttemptFailed({ upstream: base, status, error: 'capture_refused', durationMs })
  }

  #remember(why: string): void {
    const { plan, forward } = this.#request
    this.#lane.refusals.add(forward.target.base, plan.model, why)
  }

  #open(request: ForwardRequest): Forward {
    return new Forward(this.#lane, this.#request.upstreams, this, request)
  }
}

/** What the tape is told of a plan. */
export function sentOf({ transforms, strip, body, clientBody }: RequestPlan): SentFrame {
  return {
    transforms,
    ...(strip === undefined ? {} : { strip }),
    ...(body === clientBody ? {} : { body }),
  }
}
