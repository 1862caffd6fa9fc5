/**
 * One try at an upstream: undici's handler, and what its errors mean.
 *
 * An attempt tells its exchange what comes, once each, until it is settled; after that (aborted,
 * failed, given up for a retry) it swallows everything undici may still say.
 */
import type { Socket } from 'node:net'
import type { Dispatcher } from 'undici'
import { RolltapeError, errorText, toRolltapeError } from '../errors.ts'
import { INTERIM_ANSWERS_MAX } from '../limits.ts'
import type { CloseCause } from '../tape/exchange.ts'
import type { CountedTry, TallyEntry } from './tally.ts'
import type { SocketWatcher } from './upstreams.ts'

/** What an attempt tells; the vocabulary is undici's. */
export interface AttemptOwner {
  onRequestStart(attempt: Attempt): void
  onFirstByte(): void
  onInterim(status: number, reason: string, raw: Buffer[]): void
  /** False when the exchange gives this answer up and tries again. */
  onResponseStart(attempt: Attempt, status: number, reason: string, raw: Buffer[]): boolean
  onResponseData(chunk: Buffer): void
  onResponseEnd(trailers: Buffer[]): void
  onAttemptError(attempt: Attempt, failure: Failure): void
}

/** Why an attempt failed. */
export interface Failure {
  readonly cause: CloseCause
  readonly error: RolltapeError
  /** The upstream was never reached, or closed on us before any byte of an answer. */
  readonly retryable: boolean
}

/** Bytes of a given-up answer that are read on, so that its socket can serve again. */
const DISCARD_BYTES_MAX = 65_536

/** undici's handler for one request. */
export class Attempt implements Dispatcher.DispatchHandler, SocketWatcher, CountedTry {
  readonly upstream: string
  readonly startedMs: number
  tally: TallyEntry | undefined
  socket: Socket | undefined
  socketReused = false
  /** A byte of an answer has come. */
  answered = false
  /** The whole head of an answer has come. */
  headed = false
  /** Nothing is told any more. */
  settled = false
  readonly #owner: AttemptOwner
  #controller: Dispatcher.DispatchController | undefined
  #interims = 0
  #discarding = false
  #discarded = 0
  #paused = false

  constructor(owner: AttemptOwner, upstream: string, startedMs: number) {
    this.#owner = owner
    this.upstream = upstream
    this.startedMs = startedMs
  }

  /** Stops reading until {@link resume}. */
  pause(): void {
    this.#paused = true
    this.#controller?.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#controller?.resume()
  }

  /** Ends the attempt: its socket is closed (or its connecting given up), nothing more is told. */
  abort(): void {
    this.settled = true
    this.tally?.end()
    this.#controller?.abort(new Error('given up by rolltape'))
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.settled) controller.abort(new Error('given up by rolltape'))
    else this.#owner.onRequestStart(this)
  }

  onResponseStarted(): void {
    this.answered = true
    if (!this.settled) this.#owner.onFirstByte()
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    phrase = '',
  ): void {
    if (this.settled) return
    const raw = (controller as { rawHeaders?: Buffer[] }).rawHeaders ?? []
    const reason = asBytes(phrase)
    if (status < 100) return this.#failed(notHttp(this.upstream, status))
    if (status < 200) {
      if (++this.#interims > INTERIM_ANSWERS_MAX) return this.#failed(noAnswer(this.upstream))
      return this.#owner.onInterim(status, reason, raw)
    }
    this.headed = true
    this.#guard(() => {
      if (this.#owner.onResponseStart(this, status, reason, raw)) return
      this.settled = true
      this.tally?.end()
      this.#discarding = true
    })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.settled) {
      try {
        return this.#owner.onResponseData(chunk)
      } catch (error) {
        return this.#failed(error)
      }
    }
    this.#discarded += chunk.length
    if (this.#discarding && this.#discarded > DISCARD_BYTES_MAX) {
      this.#discarding = false
      controller.abort(new Error('given up by rolltape'))
    }
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.settled) return
    // undici takes a reset for the end of an answer that ends with its connection.
    const failure = this.socket?.errored
    if (failure) return this.onResponseError(controller, failure)
    this.settled = true
    this.tally?.end()
    const trailers = (controller as { rawTrailers?: Buffer[] }).rawTrailers ?? []
    this.#guard(() => this.#owner.onResponseEnd(trailers))
  }

  onResponseError(_controller: unknown, error: Error): void {
    if (this.settled) return
    this.settled = true
    const started = this.#controller !== undefined
    const failure = explain(error, this.upstream, started, this.headed)
    this.tally?.end(failure.error)
    this.#owner.onAttemptError(this, failure)
  }

  /** undici takes what a handler throws for a fault of the connection; it is one of ours. */
  #guard(tell: () => void): void {
    try {
      tell()
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    const failure = toRolltapeError(error)
    this.tally?.end(failure)
    this.abort()
    this.#owner.onAttemptError(this, { cause: 'error', error: failure, retryable: false })
  }
}

function notHttp(upstream: string, status: number): RolltapeError {
  return new RolltapeError('upstream_invalid', `${upstream} sent status ${status}, which is none`)
}

function noAnswer(upstream: string): RolltapeError {
  const message = `${upstream} sent more than ${INTERIM_ANSWERS_MAX} interim answers and no other`
  return new RolltapeError('upstream_invalid', message)
}

/**
 * A reason phrase as node writes it, a character a byte. undici has read its bytes as UTF-8: those
 * that were none it has replaced, so such a phrase comes out with the replacement character.
 */
function asBytes(phrase: string): string {
  const bytes = Buffer.from(phrase)
  return bytes.length === phrase.length ? phrase : bytes.toString('latin1')
}

const ALTNAME = 'ERR_TLS_CERT_ALTNAME_INVALID'

/** A certificate that is not taken: another try would meet the same. */
const UNTRUSTED = new Set([
  ALTNAME,
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_UNTRUSTED',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'INVALID_CA',
])

function unreachable(upstream: string, code: string, text: string): string {
  if (!UNTRUSTED.has(code)) return `cannot reach ${upstream}: ${text}`
  const hint =
    code === ALTNAME
      ? 'use a name in proxy_base_url that the certificate is for'
      : 'name its authority with --upstream-ca'
  return (
    `${upstream} is not trusted: ${text}; ${hint}, or take any certificate with ` +
    '--upstream-insecure, where nobody can stand between'
  )
}

function explain(error: Error, upstream: string, started: boolean, headed: boolean): Failure {
  const code = (error as { code?: string }).code ?? ''
  const text = errorText(error)
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || (!started && code === 'ETIMEDOUT')) {
    return {
      cause: 'timeout_connect',
      error: new RolltapeError(
        'upstream_timeout_connect',
        `no connection to ${upstream} within connect_timeout`,
        { cause: error },
      ),
      retryable: true,
    }
  }
  if (!started) {
    return {
      cause: 'error',
      error: new RolltapeError('upstream_unreachable', unreachable(upstream, code, text), {
        cause: error,
      }),
      retryable:
        !UNTRUSTED.has(code) &&
        !code.startsWith('UND_ERR_INVALID') &&
        code !== 'UND_ERR_NOT_SUPPORTED',
    }
  }
  const unsound =
    error.name === 'HTTPParserError' ||
    code === 'UND_ERR_HEADERS_OVERFLOW' ||
    (!headed && code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') ||
    // A status 100 or 101 that nobody has asked for: undici takes neither.
    (code === 'UND_ERR_SOCKET' && /^bad (?:response|upgrade)$/.test(error.message))
  if (unsound) {
    return {
      cause: 'error',
      error: new RolltapeError('upstream_invalid', `${upstream} sent no sound HTTP: ${text}`, {
        cause: error,
      }),
      retryable: false,
    }
  }
  return {
    cause: 'upstream_reset',
    error: new RolltapeError(
      'upstream_reset',
      `${upstream} closed the connection ${headed ? 'in the middle of its answer' : 'before answering'}: ${text}`,
      { cause: error },
    ),
    retryable: !headed,
  }
}
