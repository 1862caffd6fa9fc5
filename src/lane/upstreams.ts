/**
 * A lane's connections to upstreams: one undici pool per origin, with resolved addresses kept for
 * ten seconds. Built only in modes that forward.
 */
import { lookup as resolve } from 'node:dns'
import type { LookupAddress, LookupOptions } from 'node:dns'
import { createSecureContext, getCACertificates } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { LookupFunction, Socket } from 'node:net'
import { buildConnector } from 'undici'
import type { Client, Dispatcher, Pool } from 'undici'
import { queueOf } from '../responder/address.ts'
import { DNS_TTL_MS, RESPONSE_HEAD_BYTES_MAX } from '../limits.ts'
import type { SecurityConfig } from '../options/security.ts'
import { CountingClient, CountingPool, Tally } from './tally.ts'
import { unixConnector } from './unix-connector.ts'

/** Idle sockets are closed before uvicorn (vLLM, SGLang) closes them after 5 s. */
const KEEP_ALIVE_MS = 4_000
const SEND_HEADERS = 'undici:client:sendHeaders'
const used = new WeakSet<object>()

/** Somebody who wants to know which socket its request went out on, and whether it was used before. */
export interface SocketWatcher {
  socket: Socket | undefined
  socketReused: boolean
}

/** How upstreams are connected to. */
export interface UpstreamsOptions extends Pick<SecurityConfig, 'upstreamCa' | 'upstreamInsecure'> {
  readonly connectTimeoutMs: number
}

/** Pools by origin. */
export class Upstreams {
  /** Requests handed to a socket; proof that replay sends none. */
  egressTotal = 0
  /** What goes on at each of them. */
  readonly tally = new Tally()
  /** Unix socket that leads to responders; undefined as long as no upstream is one. */
  responderSocket: string | undefined
  readonly #pools = new Map<string, Pool>()
  readonly #options: Pool.Options
  readonly #connectTimeoutMs: number
  #starting: SocketWatcher | undefined
  readonly #onSend = (message: unknown): void => {
    const { socket } = message as { socket: Socket }
    if (this.#starting !== undefined) {
      this.#starting.socket = socket
      this.#starting.socketReused = used.has(socket)
      this.#starting = undefined
    }
    used.add(socket)
    this.egressTotal++
  }

  constructor(options: UpstreamsOptions) {
    const { connectTimeoutMs } = options
    this.#connectTimeoutMs = connectTimeoutMs
    const connector = buildConnector({
      timeout: connectTimeoutMs,
      allowH2: false,
      lookup: cachedLookup(),
      noDelay: true,
      ...trust(options),
    } as buildConnector.BuildOptions)
    this.#options = {
      connect: connector,
      pipelining: 1,
      allowH2: false,
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: RESPONSE_HEAD_BYTES_MAX,
    }
    subscribe(SEND_HEADERS, this.#onSend)
  }

  /** The pool of an origin. */
  pool(origin: string): Dispatcher {
    let pool = this.#pools.get(origin)
    if (pool === undefined) {
      pool = new CountingPool(...this.#to(origin), this.tally)
      this.#pools.set(origin, pool)
    }
    return pool
  }

  /** A dispatcher with a new socket of its own, for the one retry after a dead idle socket. */
  fresh(origin: string): Client {
    const [url, options] = this.#to(origin)
    return new CountingClient(url, options as Client.Options, this.tally)
  }

  /** To be called from `onRequestStart`: the watcher hears of the socket in the same turn. */
  starting(watcher: SocketWatcher): void {
    this.#starting = watcher
  }

  /** Where an origin is, and how it is reached. */
  #to(origin: string): [url: string, options: Pool.Options] {
    if (queueOf(origin) === undefined) return [origin, this.#options]
    if (this.responderSocket === undefined) throw new TypeError('responders are not served')
    const connect = unixConnector(this.responderSocket, this.#connectTimeoutMs)
    return ['http://responder', { ...this.#options, connect }]
  }

  /** Destroys all connections. */
  async close(): Promise<void> {
    unsubscribe(SEND_HEADERS, this.#onSend)
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy()))
  }
}

/**
 * Whom upstreams are trusted by. Said in so many words, since NODE_TLS_REJECT_UNAUTHORIZED would else
 * switch it off for whoever inherits it. One context for all connections: to read some 150
 * certificates for each would take milliseconds.
 */
function trust({ upstreamCa, upstreamInsecure }: UpstreamsOptions): ConnectionOptions {
  if (upstreamInsecure) return { rejectUnauthorized: false }
  if (upstreamCa === null) return { rejectUnauthorized: true }
  const ca = [...getCACertificates('default'), ...upstreamCa.certificates]
  return { rejectUnauthorized: true, secureContext: createSecureContext({ ca }) }
}

type LookupDone = Parameters<LookupFunction>[2]

/** `dns.lookup` with its answers kept; failures are not kept. */
function cachedLookup(): LookupFunction {
  const known = new Map<string, { addresses: LookupAddress[]; untilMs: number }>()
  return (hostname: string, options: LookupOptions, done: LookupDone) => {
    const key = `${hostname} ${options.family ?? 0}`
    const hit = known.get(key)
    if (hit && hit.untilMs > performance.now()) return answer(hit.addresses, options, done)
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return done(error, [])
      known.set(key, { addresses, untilMs: performance.now() + DNS_TTL_MS })
      answer(addresses, options, done)
    })
  }
}

function answer(addresses: LookupAddress[], options: LookupOptions, done: LookupDone): void {
  const [first] = addresses
  if (options.all) done(null, addresses)
  else done(null, first?.address ?? '', first?.family)
}
