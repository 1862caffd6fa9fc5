/**
 * A scripted upstream for exactness tests: raw TCP, so a test decides every byte and every write
 * of an answer, and sees every byte of a request.
 *
 * A script gets one `ScriptedExchange` per request and answers through it with `send`, `end`,
 * `reset`, or not at all. Nothing here waits by time: order comes from awaited writes and from
 * gates (promises) that the test opens.
 */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'

import type { HeaderPair } from '../tape/exchange.ts'
import { RequestParser, type RequestHead, type RequestPart } from './request-parser.ts'
import { reset } from '../reset.ts'

/** One step of an answer: bytes for one write, or a gate that is awaited (called first if a function). */
export type Step = Buffer | string | Promise<unknown> | (() => unknown)

/** What a script does with one request; it may return before the answer is whole. */
export type Script = (exchange: ScriptedExchange) => unknown

/** When the script is called. */
export interface ScriptedOptions {
  /** `request` (default): the body is whole; `head`: as soon as the head is there. */
  readonly at?: 'head' | 'request'
  /** Address to listen on; default 127.0.0.1. */
  readonly host?: string
  /** Default 0: a free one. */
  readonly port?: number
}

/** How a connection closed. */
export interface Closed {
  /** `performance.now()` of it. */
  readonly atMs: number
  /** Code of the socket error such as `ECONNRESET`, or null for an orderly close. */
  readonly error: string | null
}

/** One TCP connection that somebody opened to the scripted upstream. */
export class ScriptedConnection {
  /** Number by arrival, from 0. */
  readonly index: number
  readonly socket: Socket
  /** Fulfilled when the connection is closed, whoever did it. */
  readonly closed: Promise<Closed>
  readonly #received: Buffer[] = []

  constructor(index: number, socket: Socket) {
    this.index = index
    this.socket = socket
    let error: string | null = null
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => this.#received.push(bytes))
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      error = cause.code ?? cause.message
    })
    this.closed = new Promise((resolve) => {
      socket.on('close', () => resolve({ atMs: performance.now(), error }))
    })
  }

  /** Every byte that came, exactly. */
  get received(): Buffer {
    return Buffer.concat(this.#received)
  }
}

/** One request and the hand that answers it. */
export class ScriptedExchange {
  /** Number by arrival over all connections, from 0. */
  readonly index: number
  readonly connection: ScriptedConnection
  readonly head: RequestHead
  /** Fulfilled with the decoded body once it is whole; never when the client left before. */
  readonly whole: Promise<Buffer>
  /** `performance.now()` when the head was whole. */
  readonly arrivedAtMs = performance.now()
  trailers: readonly HeaderPair[] = []
  readonly #parts: Buffer[] = []
  readonly #whole = Promise.withResolvers<Buffer>()

  constructor(index: number, connection: ScriptedConnection, head: RequestHead) {
    this.index = index
    this.connection = connection
    this.head = head
    this.whole = this.#whole.promise
  }

  /** Body bytes that came so far, decoded. */
  get body(): Buffer {
    return Buffer.concat(this.#parts)
  }

  /** The value of the first header of that name, whatever its case. */
  header(name: string): string | undefined {
    return this.head.headers.find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1]
  }

  /**
   * Does the steps in order: each text or buffer is one write, awaited until the kernel has it;
   * each promise is awaited. Stops when the connection closes; returns whether all steps were done.
   */
  async send(...steps: Step[]): Promise<boolean> {
    const { socket, closed } = this.connection
    for (const step of steps) {
      if (socket.destroyed) return false
      if (typeof step === 'string' || Buffer.isBuffer(step)) {
        if (!(await write(socket, step))) return false
      } else {
        await Promise.race([typeof step === 'function' ? step() : step, closed])
      }
    }
    return !socket.destroyed
  }

  /** Half-closes: the other side reads to the end and may still write. */
  async end(): Promise<void> {
    const { socket } = this.connection
    if (!socket.destroyed) await new Promise<void>((resolve) => socket.end(resolve))
  }

  /** Closes at once, with FIN when nothing unread waits. */
  destroy(): void {
    this.connection.socket.destroy()
  }

  /** Closes with RST: the other side sees ECONNRESET. */
  reset(): void {
    reset(this.connection.socket)
  }

  /** Takes what the parser found; the connection's reader calls it. */
  take(part: RequestPart): void {
    if (part.kind === 'body') this.#parts.push(part.bytes)
    if (part.kind === 'trailers') this.trailers = part.trailers
    if (part.kind === 'end') this.#whole.resolve(this.body)
  }
}

/** A scripted upstream that listens. */
export class ScriptedUpstream {
  /** All exchanges so far, by arrival; a long test may empty it. */
  readonly exchanges: ScriptedExchange[] = []
  /** All connections so far, by arrival; a long test may empty it. */
  readonly connections: ScriptedConnection[] = []
  /** Errors that scripts threw; `close` rejects with the first. */
  readonly failures: unknown[] = []
  readonly #script: Script
  readonly #at: 'head' | 'request'
  readonly #server: Server
  #changed = Promise.withResolvers<void>()

  constructor(script: Script, options: ScriptedOptions) {
    this.#script = script
    this.#at = options.at ?? 'request'
    this.#server = createServer((socket) => this.#accept(socket))
    this.#server.listen(options.port ?? 0, options.host ?? '127.0.0.1')
  }

  /** Fulfilled once it listens. */
  async ready(): Promise<void> {
    if (!this.#server.listening) await once(this.#server, 'listening')
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Base URL without a path, e.g. `http://127.0.0.1:40123`. */
  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** Connections that are open now. */
  get open(): number {
    return this.connections.filter(({ socket }) => !socket.destroyed).length
  }

  /** Waits until exchange number `index` (from 0) has arrived. */
  async exchange(index: number): Promise<ScriptedExchange> {
    return this.#arrived(this.exchanges, index)
  }

  /** Waits until connection number `index` (from 0) was opened. */
  async connection(index: number): Promise<ScriptedConnection> {
    return this.#arrived(this.connections, index)
  }

  /** Resets what is open and stops listening. Rejects if a script threw. */
  async close(): Promise<void> {
    for (const { socket } of this.connections) if (!socket.destroyed) reset(socket)
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
    if (this.failures.length > 0) throw this.failures[0]
  }

  async #arrived<T>(items: readonly T[], index: number): Promise<T> {
    for (;;) {
      const item = items[index]
      if (item !== undefined) return item
      await this.#changed.promise
    }
  }

  #notify(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }

  #accept(socket: Socket): void {
    const connection = new ScriptedConnection(this.connections.length, socket)
    const parser = new RequestParser()
    let current: ScriptedExchange | undefined
    // Pipelined requests are answered in order: a script starts when the one before is done.
    let turn = Promise.resolve()
    this.connections.push(connection)
    this.#notify()
    socket.on('data', (bytes: Buffer) => {
      for (const part of this.#parse(parser, bytes, socket)) {
        if (part.kind === 'head') {
          current = new ScriptedExchange(this.exchanges.length, connection, part.head)
          const exchange = current
          turn = turn.then(() => this.#run(exchange))
          this.exchanges.push(exchange)
          this.#notify()
        } else {
          current?.take(part)
        }
      }
    })
  }

  #parse(parser: RequestParser, bytes: Buffer, socket: Socket): RequestPart[] {
    try {
      return parser.push(bytes)
    } catch (error) {
      this.failures.push(error)
      reset(socket)
      return []
    }
  }

  async #run(exchange: ScriptedExchange): Promise<void> {
    try {
      if (this.#at === 'request') await exchange.whole
      await this.#script(exchange)
    } catch (error) {
      this.failures.push(error)
      exchange.reset()
    }
  }
}

/** Starts a scripted upstream on a free port. */
export async function startScriptedUpstream(
  script: Script,
  options: ScriptedOptions = {},
): Promise<ScriptedUpstream> {
  const upstream = new ScriptedUpstream(script, options)
  await upstream.ready()
  return upstream
}

/** A response head with exactly these headers; ends with the blank line. */
export function responseHead(
  status: number,
  reason: string,
  headers: readonly HeaderPair[],
  httpVersion = '1.1',
): Buffer {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return Buffer.from(`HTTP/${httpVersion} ${status} ${reason}\r\n${lines}\r\n`, 'latin1')
}

/** One chunk of a chunked body. */
export function chunkOf(bytes: Buffer | string): Buffer {
  const data = Buffer.from(bytes)
  return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')])
}

/** The end of a chunked body, with trailers where given. */
export function lastChunk(trailers: readonly HeaderPair[] = []): Buffer {
  const lines = trailers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return Buffer.from(`0\r\n${lines}\r\n`, 'latin1')
}

function write(socket: Socket, bytes: Buffer | string): Promise<boolean> {
  return new Promise((resolve) => {
    socket.write(bytes, (error) => resolve(error === null || error === undefined))
  })
}
