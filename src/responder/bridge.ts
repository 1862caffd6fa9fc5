/**
 * The HTTP side: lanes forward here as to any upstream, over a unix socket in a folder that only its
 * owner may enter. Each request becomes one of the queue, and its answer comes from a responder.
 */
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RolltapeError, errorText } from '../errors.ts'
import {
  REQUEST_HEADERS_MAX,
  REQUEST_HEAD_BYTES_MAX,
  RESPONDER_ANSWER_BYTES_HIGH,
  RESPONDER_BACKLOG,
} from '../limits.ts'
import { errorAnswer } from '../lane/own-answer.ts'
import type { Redaction } from '../lane/redaction.ts'
import { answerHeaders, withoutCredentials } from './answer-headers.ts'
import { parseHop } from './hop.ts'
import type { Hop } from './hop.ts'
import type { Queue } from './queue.ts'

/** Room in a head for what lanes add to it: ids of 256 bytes, percent-encoded. */
const HOP_BYTES_MAX = 4_096
/** Longer than lanes keep a connection, so that it is never closed as they use it again. */
const KEEP_ALIVE_MS = 75_000

/** A request as a responder is given it. */
export interface Asked extends Hop {
  readonly id: number
  readonly method: string
  /** Path and query without credentials. */
  readonly path: string
  /** Name and value in turn, without credentials. */
  readonly flat: readonly string[]
  readonly body: Buffer
  /** Epoch ms; Infinity when there is no bound. */
  readonly deadlineMs: number
}

/** What a bridge tells of answers on their way. */
export interface BridgeOwner {
  /** The answer has gone out whole. */
  onSent(id: number): void
  /** Its client reads slowly: true. It has caught up: false. */
  onSlow(id: number, isSlow: boolean): void
}

interface Open {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly hop: ReturnType<typeof parseHop>
  readonly deadlineMs: number
  parts: Buffer[]
  slow: boolean
}

/** The server that stands before responders. */
export class Bridge {
  readonly #owner: BridgeOwner
  readonly #queue: Queue
  readonly #server: Server
  readonly #redaction: () => Redaction
  readonly #open = new Map<number, Open>()
  #folder: string | undefined

  constructor(owner: BridgeOwner, queue: Queue, redaction: () => Redaction) {
    this.#redaction = redaction
    this.#owner = owner
    this.#queue = queue
    this.#server = createServer(
      { maxHeaderSize: REQUEST_HEAD_BYTES_MAX + HOP_BYTES_MAX, keepAliveTimeout: KEEP_ALIVE_MS },
      (req, res) => this.#onRequest(req, res),
    )
    this.#server.requestTimeout = 0
    this.#server.headersTimeout = 0
    this.#server.maxHeadersCount = REQUEST_HEADERS_MAX
  }

  /**
   * Listens; the path of its socket.
   * @throws RolltapeError `listen_failed`.
   */
  async start(): Promise<string> {
    try {
      this.#folder = mkdtempSync(join(tmpdir(), 'rolltape-'))
      const path = join(this.#folder, 'r.sock')
      this.#server.listen({ path, backlog: RESPONDER_BACKLOG })
      await once(this.#server, 'listening')
      chmodSync(path, 0o600)
      return path
    } catch (cause) {
      const message = `cannot listen before responders: ${errorText(cause)}`
      throw new RolltapeError('listen_failed', message, {
        cause,
        hint: 'give a TMPDIR with a short path that this user may write to',
      })
    }
  }

  /** A request, to be given to a responder. */
  asked(id: number): Asked {
    const open = this.#get(id)
    if (open.parts.length > 1) open.parts = [Buffer.concat(open.parts)]
    const { req, hop, deadlineMs } = open
    const [body = Buffer.alloc(0)] = open.parts
    const { method = 'GET', url = '/' } = req
    const redaction = this.#redaction()
    const flat = withoutCredentials(hop.flat, redaction)
    return { ...hop, flat, id, method, path: redaction.target(url), body, deadlineMs }
  }

  /**
   * An answer begins; with `bodyBytes` all of it comes at once, else in chunks.
   * @throws RolltapeError `responder_failed` when it cannot be passed on.
   */
  head(id: number, status: number, flat: readonly string[], bodyBytes?: number): void {
    const open = this.#get(id)
    if (status < 200 || status > 599) throw unsound(`its status is ${status}`)
    const isBare = status === 204 || status === 304
    try {
      open.res.writeHead(status, isBare ? [...flat] : answerHeaders(flat, bodyBytes))
    } catch (cause) {
      throw unsound(errorText(cause), cause)
    }
    open.parts = []
    if (bodyBytes === undefined) open.res.flushHeaders()
  }

  /** More of an answer. */
  data(id: number, bytes: Uint8Array): void {
    const open = this.#get(id)
    if (bytes.length > 0) open.res.write(bytes)
    if (open.slow || open.res.writableLength < RESPONDER_ANSWER_BYTES_HIGH) return
    open.slow = true
    this.#owner.onSlow(id, true)
  }

  /** Bytes of an answer that wait for its client. */
  waitingBytes(id: number): number {
    return this.#open.get(id)?.res.writableLength ?? 0
  }

  /** All of an answer is there, with this behind it. */
  end(id: number, bytes: Uint8Array = Buffer.alloc(0)): void {
    this.#get(id).res.end(bytes)
  }

  /** No answer comes but this error. */
  refuse(id: number, error: RolltapeError): void {
    const { req, res } = this.#get(id)
    this.#open.delete(id)
    const { status, reason, flat, body } = errorAnswer(error, req.url ?? '/', false)
    res.writeHead(status, reason, flat).end(body)
    req.resume()
  }

  /** An answer has begun and cannot go on. */
  cut(id: number): void {
    const { res } = this.#get(id)
    this.#open.delete(id)
    res.destroy()
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    if (this.#server.listening) {
      const closed = once(this.#server, 'close')
      this.#server.close()
      this.#server.closeAllConnections()
      await closed
    }
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true })
  }

  #onRequest(req: IncomingMessage, res: ServerResponse): void {
    const hop = parseHop(req.rawHeaders)
    const id = this.#queue.arrive(hop)
    const deadlineMs = Date.now() + hop.leftMs
    this.#open.set(id, { req, res, hop, deadlineMs, parts: [], slow: false })
    res.sendDate = false
    res.on('drain', () => this.#onDrain(id))
    res.on('close', () => this.#onClose(id, res.writableFinished))
    req.on('data', (part: Buffer) => {
      this.#open.get(id)?.parts.push(part)
      this.#queue.grow(id, part.length)
    })
    req.on('end', () => this.#queue.submit(id, performance.now()))
  }

  #onDrain(id: number): void {
    const open = this.#open.get(id)
    if (open?.slow !== true) return
    open.slow = false
    this.#owner.onSlow(id, false)
  }

  #onClose(id: number, isSent: boolean): void {
    if (!this.#open.delete(id)) return
    if (isSent) this.#owner.onSent(id)
    else this.#queue.cancel(id)
  }

  #get(id: number): Open {
    const open = this.#open.get(id)
    if (open === undefined) throw new TypeError(`request ${id} is not open`)
    return open
  }
}

function unsound(why: string, cause?: unknown): RolltapeError {
  const message = `the responder's answer cannot be passed on: ${why}`
  return new RolltapeError('responder_failed', message, { cause })
}
