/**
 * What goes on at each upstream, counted where requests are handed to its pool: tries under way,
 * tries in all, and how the last one failed. One entry per base URL of the configuration.
 */
import { Client, Pool } from 'undici'
import type { Dispatcher } from 'undici'
import type { RolltapeError } from '../errors.ts'

/** The counts of one upstream. */
export interface UpstreamTally {
  readonly baseUrl: string
  inFlight: number
  requests: number
  failures: number
  lastError: { readonly code: string; readonly message: string; readonly atMs: number } | undefined
}

/** A try as it is counted. */
export interface CountedTry {
  /** Base URL of its upstream. */
  readonly upstream: string
  /** Set once it is handed to a pool; told when it is over. */
  tally: TallyEntry | undefined
}

/** Where one try is counted: once when it begins, once when it is over. */
export class TallyEntry {
  readonly #counts: UpstreamTally
  #over = false

  constructor(counts: UpstreamTally) {
    this.#counts = counts
    counts.inFlight++
    counts.requests++
  }

  /** The try is over; `error` says why it failed. Later calls change nothing. */
  end(error?: RolltapeError): void {
    if (this.#over) return
    this.#over = true
    const counts = this.#counts
    counts.inFlight--
    if (error === undefined) return
    counts.failures++
    counts.lastError = { code: error.code, message: error.message, atMs: Date.now() }
  }
}

/** The counts of a lane. */
export class Tally {
  readonly #byBase = new Map<string, UpstreamTally>()

  /** Counts a try that is handed to a pool. */
  begin(attempt: CountedTry): void {
    const { upstream: baseUrl } = attempt
    let counts = this.#byBase.get(baseUrl)
    if (counts === undefined) {
      counts = { baseUrl, inFlight: 0, requests: 0, failures: 0, lastError: undefined }
      this.#byBase.set(baseUrl, counts)
    }
    attempt.tally = new TallyEntry(counts)
  }

  /** All counts. */
  get all(): readonly UpstreamTally[] {
    return [...this.#byBase.values()]
  }
}

/** A pool that counts what it is handed. */
export class CountingPool extends Pool {
  readonly #tally: Tally

  constructor(origin: string, options: Pool.Options, tally: Tally) {
    super(origin, options)
    this.#tally = tally
  }

  override dispatch(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
  ): boolean {
    this.#tally.begin(handler as unknown as CountedTry)
    return super.dispatch(options, handler)
  }
}

/** A client that counts what it is handed. */
export class CountingClient extends Client {
  readonly #tally: Tally

  constructor(origin: string, options: Client.Options, tally: Tally) {
    super(origin, options)
    this.#tally = tally
  }

  override dispatch(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
  ): boolean {
    this.#tally.begin(handler as unknown as CountedTry)
    return super.dispatch(options, handler)
  }
}
