/**
 * The request's side of one exchange: whose it is and how it is to be served, its headers as they
 * go on, its body. It ends in one call of its owner: there is the request, or it is refused.
 */
import type { IncomingMessage } from 'node:http'
import { RolltapeError, toRolltapeError } from '../errors.ts'
import { EXCHANGE_BYTES, REQUEST_GATHER_BYTES_MAX, WAITING_BODY_BYTES_MAX } from '../limits.ts'
import { replays } from '../mode.ts'
import { queueOf } from '../responder/address.ts'
import { Arrival } from './arrival.ts'
import type { LaneContext } from './context.ts'
import { apiKeyHeader, dropQueryKey, requestHeaders } from './headers.ts'
import type { ForwardedHeaders } from './headers.ts'
import { keyringOf } from './keyring.ts'
import { AheadReading, WITH_HEAD_BYTES_MAX, readBody } from './request-body.ts'
import type { BodyOwner, BodyReading, BodyStream, Relief } from './request-body.ts'
import { callOf } from '../transforms/request.ts'
import { chooseBase, joinTarget, needsModel } from './route.ts'
import type { Target } from './route.ts'
import { recordsUnder, rulesFor } from './serving.ts'
import type { Rules, Serving } from './serving.ts'
import type { TicketOwner } from './tickets.ts'

const TRANSFER_CODING = 'a transfer coding other than chunked cannot be passed on'

/** What an intake tells its exchange. */
export interface IntakeOwner {
  /** True once all is decided about it. */
  readonly isOver: boolean
  /** `first` is the body as far as it has come; all of it when `body` is no stream. */
  onRequest(first: Buffer, body: Buffer | BodyStream): void
  /** More of a streamed body; who must be relieved before it is read on, if anybody. */
  onBodyPart(part: Buffer): Relief | undefined
  onBodyTooLong(error: RolltapeError): void
  /** The request cannot be served; `body` as far as it was read. */
  refuse(error: RolltapeError, body?: Buffer): void
}

/** Takes one request in. */
export class Intake implements BodyOwner, TicketOwner {
  readonly arrival: Arrival
  /** How it is served; the process's rules until the session is known. */
  rules: Rules
  readonly #lane: LaneContext
  readonly #serving: Serving
  readonly #req: IncomingMessage
  readonly #owner: IntakeOwner
  #headers: ForwardedHeaders = { flat: [], bodyBytes: -1, plainChunks: true }
  /** Undefined before its body is read. */
  #reading: BodyReading | undefined
  /** Its body is read while it waits. */
  #ahead: AheadReading | undefined

  constructor(lane: LaneContext, req: IncomingMessage, owner: IntakeOwner) {
    this.#lane = lane
    this.#serving = lane.serving
    this.#req = req
    this.#owner = owner
    this.rules = lane.serving.rules
    this.arrival = new Arrival(lane, req)
  }

  /** Headers as they go upstream, name and value in turn. */
  get flat(): string[] {
    return this.#headers.flat
  }

  /** Bytes of the body, where the client said how many; -1 where it did not. */
  get bodyBytes(): number {
    return this.#headers.bodyBytes
  }

  /** Begins; what comes of it is told to the owner. */
  start(): void {
    const { config } = this.#serving
    const { keysFile } = config
    try {
      const { rawHeaders } = this.#req
      this.arrival.resolve(
        keysFile?.keys && keyringOf(keysFile).holder(this.arrival.target, rawHeaders),
      )
      if (this.arrival.hasSession) this.#rule()
    } catch (error) {
      return this.#owner.refuse(toRolltapeError(error))
    }
    const key = config.upstreamApiKey?.reveal()
    const keyHeader = key === undefined ? undefined : apiKeyHeader(this.arrival.path, key)
    this.#headers = requestHeaders(this.#req.rawHeaders, keyHeader, this.#keepsCredentials)
    const { bodyBytes, plainChunks } = this.#headers
    if (!plainChunks) return this.#owner.refuse(new RolltapeError('bad_request', TRANSFER_CODING))
    if (bodyBytes > config.requestBodyBytesMax) return this.onBodyTooLong(bodyBytes)
    try {
      this.arrival.ticket = this.#lane.tickets.take(this, this.#keptBytes)
    } catch (error) {
      return this.#owner.refuse(toRolltapeError(error))
    }
    if (this.arrival.ticket?.state !== 'waiting') this.onTicket()
  }

  /** It has its place: its body is read. */
  onTicket(): void {
    const { bodyBytes } = this
    if (bodyBytes === 0) return this.onBody(Buffer.alloc(0))
    const bytesMax = this.#serving.config.requestBodyBytesMax
    const bounds = { gatherBytesMax: this.#gatherBytesMax, bytesMax }
    this.#ahead?.putBack()
    this.#reading = readBody(this.#req, bodyBytes, bounds, this)
    if (this.#ahead !== undefined) this.#req.resume()
    this.#ahead = undefined
  }

  get aheadBytes(): number {
    const { bodyBytes } = this
    const isRead = bodyBytes > WITH_HEAD_BYTES_MAX && bodyBytes <= WAITING_BODY_BYTES_MAX
    return isRead ? bodyBytes : 0
  }

  readAhead(): void {
    this.#ahead = new AheadReading(this.#req, this.bodyBytes)
  }

  onNoTicket(error: RolltapeError): void {
    this.#ahead?.drop()
    this.#ahead = undefined
    this.#owner.refuse(error)
  }

  get isOver(): boolean {
    return this.#owner.isOver
  }

  /** `performance.now()` since when the client keeps its body waited for, see {@link BodyReading}. */
  get waitsSinceMs(): number {
    if (this.#reading !== undefined) return this.#reading.waitsSinceMs
    return this.bodyBytes === 0 ? Infinity : performance.now()
  }

  /**
   * Where the request goes.
   * @throws RolltapeError `bad_model`, `no_route`.
   */
  target(first: Buffer): Target {
    const { config } = this.#serving
    const { session, target } = this.arrival
    const base = chooseBase(config, session, first, this.#isChanged ? config.modelOverride : null)
    const to = joinTarget(base, this.#keepsCredentials ? target : dropQueryKey(target))
    return queueOf(base) === undefined ? to : { ...to, asker: this.arrival }
  }

  onBody(body: Buffer): void {
    this.#hand(body, body)
  }

  onLongBody(first: Buffer, stream: BodyStream): void {
    this.#hand(first, stream)
  }

  onBodyPart(part: Buffer): Relief | undefined {
    return this.#owner.onBodyPart(part)
  }

  /** More is gathered than its ticket is for: its length was not known. */
  onGathered(bytes: number): boolean {
    const { ticket } = this.arrival
    if (ticket === undefined || this.#lane.tickets.grow(ticket, bytes)) return true
    const message = 'the request body has grown beyond what max_in_flight_bytes leaves for it'
    const hint = 'send it with its length, or try again in a moment'
    this.#owner.onBodyTooLong(new RolltapeError('over_capacity', message, { hint }))
    return false
  }

  onBodyTooLong(bytes: number): void {
    const max = this.#serving.config.requestBodyBytesMax
    const message = `the request body has ${bytes} bytes or more, and request_body_bytes_max is ${max}`
    this.#owner.onBodyTooLong(new RolltapeError('request_too_large', message))
  }

  #hand(first: Buffer, body: Buffer | BodyStream): void {
    if (!this.arrival.hasSession) {
      try {
        this.arrival.resolveFromBody(first)
        this.#rule()
      } catch (error) {
        return this.#owner.refuse(toRolltapeError(error), first)
      }
    }
    this.#owner.onRequest(first, body)
  }

  /** What a client shows is meant for the upstream. */
  get #keepsCredentials(): boolean {
    const { upstreamApiKey, keysFile } = this.#serving.config
    return upstreamApiKey === null && keysFile === null
  }

  /** The session is known: how it is served, and its number in the recording it goes to. */
  #rule(): void {
    this.rules = rulesFor(this.#serving, this.arrival.session, this.#req.rawHeaders)
    const { mode } = this.rules
    if (mode !== 'hybrid' && recordsUnder(this.rules)) this.arrival.number()
  }

  /** Bytes of the body that are kept; of one without a length, what is kept in any case. */
  get #keptBytes(): number {
    const { bodyBytes } = this
    if (bodyBytes < 0) return Math.min(this.#gatherBytesMax, REQUEST_GATHER_BYTES_MAX)
    return bodyBytes > this.#gatherBytesMax ? EXCHANGE_BYTES : bodyBytes
  }

  get #gatherBytesMax(): number {
    const { requestBodyBytesMax } = this.#serving.config
    return this.#needsWhole ? requestBodyBytesMax : REQUEST_GATHER_BYTES_MAX
  }

  /** Something must see the whole body before the request can go anywhere. */
  get #needsWhole(): boolean {
    const { config } = this.#serving
    return (
      replays(this.rules.mode) ||
      needsModel(config) ||
      config.maxAttempts > 1 ||
      config.sessionSources.includes('body') ||
      this.#isChanged
    )
  }

  /** Transforms look at its body. */
  get #isChanged(): boolean {
    if (this.#serving.transforms === undefined) return false
    return callOf(this.arrival.method, this.arrival.path) !== undefined
  }
}
