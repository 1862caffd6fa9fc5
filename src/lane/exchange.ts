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
import type { AttemptFrame, CloseCause, EndFrame, MatchFrame, SentFrame } from '../tape/exchange.ts'
import type { RequestPlan } from '../transforms/request.ts'
import type { AnswerStrip } from '../transforms/strip-answer.ts'
import { concerns, type AdmissionRule } from './admission.ts'
import { openSource } from './asking.ts'
import type { Failure } from './attempt.ts'
import type { LaneContext } from './context.ts'
import { Deadlines, type DeadlineOwner } from './deadlines.ts'
import { dispatch, type DispatchOwner } from './dispatch.ts'
import { endFrame } from './ending.ts'
import type { Captured, CapturedOwner } from './captured.ts'
import type { Forward } from './forward.ts'
import { Intake, type IntakeOwner } from './intake.ts'
import type { Placed } from './live.ts'
import { errorAnswer, leavesNoRecord, sendUntaped } from './own-answer.ts'
import { Relay, type RelayOwner } from './relay.ts'
import { Replay, type ReplayOwner } from './replay.ts'
import { leaveRest, type BodyStream } from './request-body.ts'
import type { Target } from './route.ts'
import { recordsUnder } from './serving.ts'
import type { Serving } from './serving.ts'
import type { Taping } from './taping.ts'

interface Forwarded {
  readonly body: Buffer | BodyStream
  readonly match: MatchFrame | undefined
}

/** Serves one request. */
export class Exchange
  implements
    IntakeOwner,
    DispatchOwner,
    ReplayOwner,
    CapturedOwner,
    RelayOwner,
    DeadlineOwner,
    Placed
{
  readonly #lane: LaneContext
  /** How it is served, to its end. */
  readonly serving: Serving
  liveAt = -1
  /** Base URL of the upstream it has gone to; empty before. */
  upstream = ''
  readonly relay: Relay
  taping: Taping | undefined
  source: Forward | Captured | Replay | undefined
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
    this.#deadlines = new Deadlines(lane, this, this.#intake)
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
    if (leavesNoRecord(error)) this.#begun = true
    this.#beginUnsent(body)
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

  onBodyPart(part: Buffer): Taping | undefined {
    if (!this.#ended) this.taping?.request(part)
    this.taping?.submit()
    return this.taping?.congested === true ? this.taping : undefined
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

  onHead(status: number, reason: string, flat: string[], strip?: AnswerStrip): void {
    const nowMs = performance.now()
    const { path } = this.arrival
    const atUs = this.arrival.atUs(nowMs)
    const options = { own: false, path, strip }
    if (!this.#passes(() => this.relay.head(atUs, status, reason, flat, options))) return
    this.taping?.policy(this.#lane.serving.policyVersion, 'head')
    this.#deadlines.onHead(nowMs)
  }

  onChunk(chunk: Buffer, nowMs: number): void {
    this.relay.data(chunk, this.arrival.atUs(nowMs))
  }

  onUpstreamEnd(trailers: string[]): void {
    if (this.#ended || !this.#passes(() => this.relay.complete())) return
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

  onSent(frame: SentFrame): void {
    this.taping?.sent(frame)
    if (this.source !== undefined) this.taping?.submit()
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

  /** Forwards although there is a recording to answer from. */
  #goLive(first: Buffer, body: Buffer | BodyStream, match?: MatchFrame): void {
    if (!this.#ended) this.#lane.counters.add('live')
    this.#forward(first, body, match)
  }

  #forward(first: Buffer, body: Buffer | BodyStream, match?: MatchFrame): void {
    if (this.#ended) return
    this.#asked = { body, match }
    const recorder = this.#records ? this.serving.recorder : undefined
    const [serving, intake, req] = [this.serving, this.#intake, this.#req]
    dispatch(this.#lane, { intake, req, serving, first, body, recorder }, this)
  }

  onDispatch(target: Target, plan: RequestPlan | undefined): void {
    const [asked, first] = [this.#asked, this.#first]
    if (!asked || !first) throw new TypeError('nothing to forward')
    const { body, match } = asked
    this.#begin(target.path, target.base)
    this.taping?.request(first)
    if (match !== undefined) this.taping?.match(match)
    const { serving } = this
    const how = { isRecorded: this.taping !== undefined, untilMs: this.#deadlines.untilMs }
    const asking = { serving, intake: this.#intake, target, body, ...how }
    const source = openSource(this.#lane, this, asking, plan)
    this.taping?.submit()
    this.source = source
    this.upstream = target.base
    source.start()
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
    const { recorder, config } = this.serving
    if (recorder === undefined || !this.#records || recorder.leavesOut(this.arrival)) return
    const { policyVersion } = this.#lane.serving
    const decided = { mode: this.#intake.rules.mode, policyVersion, forwardedTarget, upstream }
    this.taping = recorder.begin(this.#lane.blocks, this.arrival, decided)
    this.relay.record(this.taping, config.durability !== 'memory')
  }

  onUntaped(failure: Error): void {
    this.#lane.counters.add('tapeRefused')
    this.#ended = true
    const { path, seq } = this.arrival
    sendUntaped(this.#res, failure, path)
    leaveRest(this.#req, this.serving.config.requestBodyBytesMax)
    if (seq !== 0) this.serving.recorder?.onVoid(seq)
    this.#close(undefined)
  }

  /** False, and it has failed, where node refuses what the upstream has sent. */
  #passes(pass: () => void): boolean {
    try {
      pass()
      return true
    } catch (cause) {
      const message = `the upstream's answer cannot be passed on: ${errorText(cause)}`
      this.#fail('error', new RolltapeError('upstream_invalid', message, { cause }))
      return false
    }
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
      this.onClientLeft()
    }
  }

  onClientLeft(): void {
    this.source?.abort()
    this.#beginUnsent(this.#first)
    this.#ended = true
    this.relay.cut(this.#frame('client_gone'))
    this.#deadlines.arm()
  }

  #frame(cause: CloseCause, error?: RolltapeError): EndFrame {
    const part = this.serving.recorder?.part ?? 1
    const atUs = this.arrival.atUs(performance.now())
    this.taping?.policy(this.#lane.serving.policyVersion, 'end')
    return (this.end = endFrame(this.relay, cause, atUs, error, part))
  }

  /** Over: derive gets its place on the tape, at once or when the disk takes it again. */
  #close(commitError: Error | undefined): void {
    if (this.#closed) return
    this.#closed = true
    this.#deadlines.clear()
    if (this.taping?.gapped === true) this.#lane.counters.add('untaped')
    if (this.taping !== undefined) this.serving.recorder?.onEnded(this.taping, commitError)
    // A slow reader has its answer only once the last of it is with the kernel.
    if (this.#res.writableFinished || this.#res.closed) this.#lane.onClosed(this)
  }
}
