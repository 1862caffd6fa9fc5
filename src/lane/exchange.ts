/**
 * One exchange from its request head to its END: what happens when, and that it ends once.
 *
 *   taken in ──▶ forwarded | replayed ──▶ answering ──▶ closed
 *       └──────────── refused ────────────────┘
 *
 * Its request comes from `intake.ts`, its answer from `forward.ts` or `replay.ts`, which goes to
 * `relay.ts`; its deadlines are kept by the lane's wheel. Nothing is parsed here.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { RolltapeError, errorText, toRolltapeError } from '../errors.ts'
import type { AttemptFrame, CloseCause, EndFrame, MatchFrame } from '../tape/exchange.ts'
import { concerns } from './admission.ts'
import type { AdmissionRule } from './admission.ts'
import type { Failure } from './attempt.ts'
import type { LaneContext } from './context.ts'
import { Deadlines } from './deadlines.ts'
import type { DeadlineOwner } from './deadlines.ts'
import { dispatch } from './dispatch.ts'
import type { DispatchOwner } from './dispatch.ts'
import { endFrame } from './ending.ts'
import { Forward } from './forward.ts'
import { Intake } from './intake.ts'
import type { IntakeOwner } from './intake.ts'
import { errorAnswer, untaped } from './own-answer.ts'
import { Relay } from './relay.ts'
import type { RelayOwner } from './relay.ts'
import { Replay } from './replay.ts'
import type { ReplayOwner } from './replay.ts'
import { leaveRest } from './request-body.ts'
import type { BodyStream } from './request-body.ts'
import type { Target } from './route.ts'
import { recordsUnder } from './serving.ts'
import type { Serving } from './serving.ts'
import { Taping } from './taping.ts'

interface Forwarded {
  readonly body: Buffer | BodyStream
  readonly match: MatchFrame | undefined
}

/** Serves one request. */
export class Exchange
  implements IntakeOwner, DispatchOwner, ReplayOwner, RelayOwner, DeadlineOwner
{
  readonly #lane: LaneContext
  /** How it is served, to its end. */
  readonly serving: Serving
  /** Base URL of the upstream it has gone to; empty before. */
  upstream = ''
  readonly relay: Relay
  taping: Taping | undefined
  source: Forward | Replay | undefined
  /** How it ended. */
  end: EndFrame | undefined
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  /** Who asks, and for what. */
  readonly arrival: Intake['arrival']
  readonly #intake: Intake
  readonly #deadlines: Deadlines
  /** The look into the recording, also where its answer is only compared with. */
  #replay: Replay | undefined
  /** The request's body, as far as it had come when it was taken in. */
  #first: Buffer | undefined
  /** What is to be forwarded. */
  #asked: Forwarded | undefined
  /** A record answers: what is on a tape already is not recorded again. */
  #found = false
  #begun = false
  #ended = false
  #answered = false
  #closed = false

  constructor(lane: LaneContext, req: IncomingMessage, res: ServerResponse) {
    this.#lane = lane
    this.serving = lane.serving
    this.#req = req
    this.#res = res
    this.#intake = new Intake(lane, req, this)
    this.relay = new Relay(this, req, res, this.serving.config.onTapeFailure)
    this.arrival = this.#intake.arrival
    this.#deadlines = new Deadlines(lane, this, this.arrival.atMs)
  }

  /** Takes the request, or refuses it: everything that follows is driven by events. */
  accept(refused?: RolltapeError): void {
    this.#res.on('close', () => this.#onClientClose())
    this.#deadlines.arm()
    if (refused === undefined) this.#intake.start()
    else this.refuse(refused)
  }

  /** Answers with an error of rolltape's own; a frozen session gets no record of it. */
  refuse(error: RolltapeError, body?: Buffer): void {
    if (this.#ended) return
    this.#lane.counters.add('refused')
    if (error.code !== 'session_frozen') this.#beginUnsent(body)
    this.#answer(error, 'error')
  }

  /** Ends it on behalf of an operator or a drain that has run out of time. */
  cancel(error: RolltapeError): void {
    if (this.#closed) this.#res.destroy()
    this.#fail('cancelled', error)
  }

  /** True once all is decided about it. */
  get isOver(): boolean {
    return this.#ended
  }

  /** True when an admission rule is about it, now that it has gone to an upstream. */
  isUnder(rule: AdmissionRule): boolean {
    const { upstream } = this
    return upstream !== '' && concerns(rule, { upstream, first: this.#first ?? Buffer.alloc(0) })
  }

  onRequest(first: Buffer, body: Buffer | BodyStream): void {
    if (this.#ended) return
    this.#first = first
    const { mode } = this.#intake.rules
    const { player } = this.serving
    if (player === undefined || mode === 'record' || mode === 'passthrough') {
      return this.#forward(first, body)
    }
    this.#replay = new Replay(this.#lane, player, this, this.#intake, this.#req.rawHeaders)
    if (mode === 'verify') {
      this.#replay
        .find(first)
        .then((match) => this.#goLive(first, body, match))
        .catch((error: unknown) => this.#fail('error', toRolltapeError(error)))
      return
    }
    this.source = this.#replay
    this.#replay.start(first)
  }

  onFound(isFound: boolean): void {
    this.#found = isFound
  }

  onLive(body: Buffer): void {
    if (this.#ended) return
    this.source = undefined
    this.#goLive(body, body)
  }

  onBodyPart(part: Buffer): void {
    if (this.#ended) return
    this.taping?.request(part)
    this.taping?.submit()
  }

  onBodyTooLong(error: RolltapeError): void {
    if (this.#ended) return void this.#req.destroy()
    this.source?.abort()
    if (this.source === undefined) this.refuse(error)
    else this.#fail('error', error)
  }

  onInterim(status: number, reason: string, flat: string[]): void {
    this.relay.interim(this.arrival.atUs(performance.now()), status, reason, flat)
  }

  onHead(status: number, reason: string, flat: string[]): void {
    const nowMs = performance.now()
    try {
      this.relay.head(this.arrival.atUs(nowMs), status, reason, flat, {
        own: false,
        path: this.arrival.path,
      })
    } catch (cause) {
      this.source?.abort()
      const message = `the upstream's answer cannot be passed on: ${errorText(cause)}`
      return this.#fail('error', new RolltapeError('upstream_invalid', message, { cause }))
    }
    this.#deadlines.onHead(nowMs)
  }

  onChunk(chunk: Buffer, nowMs: number): void {
    this.relay.data(chunk, this.arrival.atUs(nowMs))
  }

  onUpstreamEnd(trailers: string[]): void {
    if (this.#ended) return
    this.#ended = true
    this.relay.end(trailers, this.#frame('upstream_end'))
    this.#deadlines.arm()
  }

  onUpstreamFailure(failure: Failure): void {
    this.#fail(failure.cause, failure.error)
  }

  onRecordedBreak(): void {
    if (this.#ended) return
    this.#ended = true
    this.relay.cut(this.#frame('upstream_reset'))
    this.#deadlines.arm()
  }

  onAttemptFailed(frame: AttemptFrame): void {
    this.taping?.attempt(frame)
    this.#deadlines.arm()
  }

  pauseUpstream(): void {
    this.source?.pause()
  }

  resumeUpstream(): void {
    this.source?.resume()
  }

  onAnswered(): void {
    if (this.#answered) return
    this.#answered = true
    leaveRest(this.#req, this.serving.config.requestBodyBytesMax)
    if (this.taping === undefined || this.taping.lost) this.#close(undefined)
  }

  onTaped(error: Error | undefined): void {
    this.#close(error)
  }

  onCommitFailed(error: Error): void {
    if (this.#closed || (this.#answered && !this.#ended)) return
    if (!this.#answered) {
      const text = `the answer could not be committed to the tape: ${errorText(error)}`
      // First the client, so that what it never got does not count as forwarded.
      this.relay.abandonClient()
      const frame = this.#frame('error', new RolltapeError('tape_unavailable', text))
      this.#ended = true
      this.#answered = true
      this.source?.abort()
      this.taping?.end(frame)
    }
    this.#close(error)
  }

  onTimeout({ cause, error }: Failure): void {
    this.#fail(cause, error)
  }

  onMarkedLeft(): void {
    this.#clientLeft()
  }

  /** Forwards although there is a recording to answer from. */
  #goLive(first: Buffer, body: Buffer | BodyStream, match?: MatchFrame): void {
    if (!this.#ended) this.#lane.counters.add('live')
    this.#forward(first, body, match)
  }

  #forward(first: Buffer, body: Buffer | BodyStream, match?: MatchFrame): void {
    if (this.#ended) return
    this.#asked = { body, match }
    const recorder = this.#records ? this.serving.recorder : undefined
    const { config } = this.serving
    const request = { intake: this.#intake, req: this.#req, config, first, body, recorder }
    dispatch(this.#lane, request, this)
  }

  onDispatch(target: Target): void {
    const { upstreams, config } = this.serving
    const [asked, first] = [this.#asked, this.#first]
    if (!upstreams || !asked || !first) throw new TypeError('nothing to forward')
    const { body, match } = asked
    this.#begin(target.path, target.base)
    this.taping?.request(first)
    if (match !== undefined) this.taping?.match(match)
    this.taping?.submit()
    const { flat, bodyBytes, arrival } = this.#intake
    const { method } = arrival
    const { untilMs } = this.#deadlines
    const request = { config, target, method, flat, body, bodyBytes, untilMs }
    this.source = new Forward(this.#lane, upstreams, this, request)
    this.upstream = target.base
    this.source.start()
    this.#deadlines.arm()
  }

  /** True when this exchange goes to the tape. */
  get #records(): boolean {
    return this.serving.recorder !== undefined && !this.#found && recordsUnder(this.#intake.rules)
  }

  /** It ends before it has gone anywhere: what came of its body is recorded all the same. */
  #beginUnsent(body = this.#first): void {
    if (this.#begun) return
    this.#begin('', '')
    if (body !== undefined) this.taping?.request(body)
  }

  /** From here on it is known whether the exchange is recorded, and it is. */
  #begin(forwardedTarget: string, upstream: string): void {
    if (this.#begun) return
    this.#begun = true
    const { recorder } = this.serving
    if (recorder === undefined || !this.#records) return
    const { arrival, rules } = this.#intake
    const { blocks } = this.#lane
    const { config } = this.serving
    this.taping = new Taping(recorder.writer, blocks, arrival.number())
    this.relay.record(this.taping, config.durability !== 'memory')
    const { policyVersion } = this.#lane.serving
    this.taping.begin(arrival.begin({ mode: rules.mode, policyVersion, forwardedTarget, upstream }))
  }

  onUntaped(failure: Error): void {
    this.#lane.counters.add('tapeRefused')
    this.#ended = true
    const { path, seq } = this.arrival
    const { status, reason, flat, body } = errorAnswer(untaped(failure), path, false)
    this.#res.writeHead(status, reason, flat).end(body)
    leaveRest(this.#req, this.serving.config.requestBodyBytesMax)
    if (seq !== 0) this.serving.recorder?.onVoid(seq)
    this.#close(undefined)
  }

  /** Something went wrong: an answer of our own while there is no head yet, else a cut. */
  #fail(cause: CloseCause, error: RolltapeError): void {
    if (this.#ended) return
    this.source?.abort()
    const { log } = this.#lane
    const { seq } = this.arrival
    log.debug({ seq, code: error.code, err: errorText(error.cause) }, error.message)
    if (!this.relay.hasHead) {
      this.#beginUnsent(this.#first)
      return this.#answer(error, cause)
    }
    this.#ended = true
    this.relay.cut(this.#frame(cause, error))
    this.#deadlines.arm()
  }

  #answer(error: RolltapeError, cause: CloseCause): void {
    this.#ended = true
    const answer = errorAnswer(error, this.arrival.path, this.#lane.draining)
    const atUs = this.arrival.atUs(performance.now())
    const options = { own: true, path: this.arrival.path }
    this.relay.head(atUs, answer.status, answer.reason, answer.flat, options)
    this.relay.data(answer.body, atUs)
    this.relay.end([], this.#frame(cause, error))
    this.#deadlines.arm()
  }

  #onClientClose(): void {
    this.#replay?.onClientClosed(this.#res.writableFinished)
    if (this.#closed) this.#lane.onClosed(this)
    if (this.#answered || this.#res.writableFinished) return
    this.relay.clientGone()
    if (this.#ended) return
    this.#lane.counters.add('clientGone')
    if (this.relay.marked) {
      this.#deadlines.onMarkedLeave()
      this.resumeUpstream()
    } else if (this.serving.config.onClientGone === 'finish' && this.source && this.#req.complete) {
      this.resumeUpstream()
    } else {
      this.#clientLeft()
    }
  }

  #clientLeft(): void {
    this.source?.abort()
    this.#beginUnsent(this.#first)
    this.#ended = true
    this.relay.cut(this.#frame('client_gone'))
    this.#deadlines.arm()
  }

  #frame(cause: CloseCause, error?: RolltapeError): EndFrame {
    const part = this.serving.recorder?.part ?? 1
    const atUs = this.arrival.atUs(performance.now())
    return (this.end = endFrame(this.relay, cause, atUs, error, part))
  }

  /** Over: derive gets its place on the tape, at once or when the disk takes it again. */
  #close(commitError: Error | undefined): void {
    if (this.#closed) return
    this.#closed = true
    this.#deadlines.clear()
    this.#hand(commitError)
    // A slow reader has its answer only once the last of it is with the kernel.
    if (this.#res.writableFinished || this.#res.closed) this.#lane.onClosed(this)
  }

  /** Derive gets its place on the tape. */
  #hand(commitError: Error | undefined): void {
    const taping = this.taping
    const { recorder } = this.serving
    if (taping === undefined || recorder === undefined) return
    if (taping.gapped) this.#lane.counters.add('untaped')
    if (taping.lost) recorder.onVoid(taping.tail.seq)
    else if (commitError === undefined) recorder.onTaped(taping.tail)
    else recorder.onTapedLate(taping.tail)
  }
}
