/**
 * Who asks, for what, and when: what is known of an exchange from its request head (and, where so
 * configured, one string of its body) before anything is done about it.
 */
import type { IncomingMessage } from 'node:http'
import { RolltapeError } from '../errors.ts'
import type { Mode } from '../mode.ts'
import type { BeginFields } from '../tape/format.ts'
import { topLevelString } from './body-scan.ts'
import type { SharedTables } from '../supervisor/shared.ts'
import type { LaneContext } from './context.ts'
import type { ClientKey } from '../options/client-keys.ts'
import { headerValue } from './headers.ts'
import type { KeyHmac } from './key-hmac.ts'
import { checkScope, sessionOfKey } from './keyring.ts'
import { DEFAULT_ID, checkId, isGeneration, pathOf, resolveSession } from './session.ts'
import type { Redaction } from './redaction.ts'
import type { Serving } from './serving.ts'
import type { Ticket } from './tickets.ts'

/** What was decided about a request. */
export interface Decided {
  readonly mode: Mode
  readonly policyVersion: string
  /** Empty, like the next, when it goes to no upstream. */
  readonly forwardedTarget: string
  readonly upstream: string
}

/** One request's arrival. */
export class Arrival {
  /** `performance.now()` of the request head. */
  readonly atMs = performance.now()
  readonly method: string
  /** Target without a session prefix; what is joined with the upstream's base. */
  target: string
  /** The target's path. */
  path: string
  /** What it runs with, or waits for; undefined where nothing is bounded. */
  ticket: Ticket | undefined
  /** Undefined as long as only the body can tell. */
  #session: string | undefined = DEFAULT_ID
  #otherwise = DEFAULT_ID
  #run = DEFAULT_ID
  #turn = 0
  #group: string | undefined
  #key: ClientKey | undefined
  #seq = 0
  readonly #generation: number
  readonly #tables: SharedTables | undefined
  readonly #serving: Serving
  readonly #req: IncomingMessage

  constructor(lane: LaneContext, req: IncomingMessage) {
    this.#serving = lane.serving
    this.#req = req
    this.#generation = lane.serving.generation
    this.#tables = lane.serving.recorder?.tables
    this.method = req.method ?? 'GET'
    this.target = req.url ?? '/'
    this.path = pathOf(this.target)
  }

  /** The exchange's number in the recording; 0 as long as it goes to none. */
  get seq(): number {
    return this.#seq
  }

  /** Gives the exchange its number, unless it has one. */
  number(): number {
    if (this.#seq === 0) this.#seq = this.#tables?.nextSeq() ?? 0
    return this.#seq
  }

  /** False as long as only the body can tell the session. */
  get hasSession(): boolean {
    return this.#session !== undefined
  }

  /** The session; `default` until one is known. */
  get session(): string {
    return this.#session ?? DEFAULT_ID
  }

  /**
   * Reads session, run and turn from the request head.
   * @throws RolltapeError `bad_session`, `bad_request`, `over_capacity`, `session_forbidden`,
   *   `session_frozen`.
   */
  resolve(key?: ClientKey): void {
    this.#key = key
    const { sessionSources } = this.#serving.config
    const resolved = resolveSession(
      originForm(this.target, this.redaction),
      this.#req.rawHeaders,
      sessionSources,
      key && sessionOfKey(key),
    )
    this.target = resolved.target
    this.path = pathOf(resolved.target)
    this.#run = resolved.run
    const group = headerValue(this.#req.rawHeaders, 'x-rolltape-group')
    if (group !== undefined) this.#group = checkId(utf8(group), 'group')
    this.#session = undefined
    this.#otherwise = resolved.otherwise
    if (resolved.session !== undefined) this.#is(resolved.session)
  }

  /** Reads the session from the body, when the head named none and the body may. */
  resolveFromBody(body: Buffer): void {
    if (this.#session !== undefined) return
    const id = topLevelString(body, this.#serving.config.sessionBodyField ?? '')
    const session = typeof id === 'string' ? checkId(id, 'session') : this.#otherwise
    this.#is(session)
  }

  /** The session is known. */
  #is(session: string): void {
    const key = this.#key
    // Its own session is open to a key whatever its prefix.
    if (key !== undefined && session !== sessionOfKey(key)) checkScope(key, session)
    this.#session = session
    this.#count(session)
  }

  get run(): string {
    return this.#run
  }

  /** Which of its session's generation requests it is; 0 when it is none, or nothing is recorded. */
  get turn(): number {
    return this.#turn
  }

  /** A call that makes the model produce: these have turns and move cursors. */
  get isGeneration(): boolean {
    return isGeneration(this.method, this.path)
  }

  /** Its record is to say so where tokens are missing. */
  get requiresTokens(): boolean {
    return this.#serving.config.requires.includes('tokens')
  }

  /** µs since arrival of a `performance.now()` time. */
  atUs(nowMs: number): number {
    return Math.round((nowMs - this.atMs) * 1000)
  }

  /** What must not be kept of it. */
  get redaction(): Redaction {
    return this.#serving.redaction
  }

  /** What BEGIN stores, credentials redacted; `keys` digests the one that the client has shown. */
  begin(decided: Decided, keys: KeyHmac): BeginFields {
    const { mode, policyVersion, forwardedTarget, upstream } = decided
    const { url = '', rawHeaders } = this.#req
    const keyHmac = keys.of(url, rawHeaders)
    const { redaction } = this
    return {
      arrivedAtUs: Math.round((performance.timeOrigin + this.atMs) * 1000),
      session: this.session,
      run: this.#run,
      turn: this.#turn,
      method: this.method,
      httpVersion: this.#req.httpVersion,
      target: redaction.target(url),
      forwardedTarget: redaction.target(forwardedTarget),
      upstream,
      policyVersion,
      tagsJson: this.#tags(),
      rawHeaders: redaction.headers(rawHeaders),
      mode,
      generation: this.#generation,
      ...(this.#group === undefined ? {} : { group: this.#group }),
      ...(keyHmac === undefined ? {} : { keyHmac }),
    }
  }

  /** The configured labels, and those the client sent as `x-rolltape-tags: k=v, k2=v2`. */
  #tags(): string {
    const sent = headerValue(this.#req.rawHeaders, 'x-rolltape-tags')
    if (sent === undefined) return this.#serving.tagsJson
    const pairs = utf8(sent)
      .split(',')
      .map((pair) => pair.trim().split('='))
      .filter(([key]) => key !== '')
      .map(([key, ...value]) => [key, value.join('=')])
    return JSON.stringify({ ...this.#serving.config.tags, ...Object.fromEntries(pairs) })
  }

  #count(session: string): void {
    if (this.#tables?.isFrozen(session) === true) throw frozen(session)
    if (this.isGeneration) this.#turn = this.#tables?.nextTurn(session) ?? 0
  }
}

function frozen(session: string): RolltapeError {
  const message = `session ${session} is frozen: its records stay as they are`
  return new RolltapeError('session_frozen', message, { hint: 'use another session id' })
}

/** Header bytes are Latin-1 in node; these are UTF-8 on the wire. */
function utf8(value: string): string {
  return Buffer.from(value, 'latin1').toString()
}

/** Upstreams come from the configuration alone: of an absolute target only the path counts. */
function originForm(target: string, redaction: Redaction): string {
  if (target.startsWith('/')) return target
  const absolute = /^https?:\/\/[^/?#]*(.*)$/i.exec(target)
  if (absolute === null) {
    const message = `"${redaction.target(target)}" is no request target that can be forwarded`
    throw new RolltapeError('bad_request', message)
  }
  const rest = absolute[1] ?? ''
  return rest.startsWith('/') ? rest : `/${rest}`
}
