/**
 * The embedded inference server: answers like vLLM (or SGLang, or OpenAI), without a model or a GPU. `rolltape demo` and
 * tests use it as upstream.
 *
 * It keeps a journal of what arrived and of the SHA-256 of every body byte it sent, so that others
 * can prove what passed between it and a client. What an answer says comes from `model.ts`, its
 * shape from `chat.ts` and `completions.ts`; this file owns the sockets, the pace and the faults.
 */
import { once } from 'node:events'
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

import { chatBody, chatEvents } from './chat.ts'
import { completionsBody, completionsEvents } from './completions.ts'
import { eventIn, wholeIn } from './dialect.ts'
import { sseEvent } from './encode.ts'
import { Journal, type JournalEntry } from './journal.ts'
import { generate } from './model.ts'
import {
  parseGenerationRequest,
  type EngineName,
  type GenerationRequest,
  type Scenario,
} from './scenario.ts'

/** How the server starts. */
export interface InferenceServerOptions {
  /** Default 127.0.0.1. */
  readonly host?: string
  /** Default 0: a free one. */
  readonly port?: number
  /** Wait between two events where the scenario gives none, ms. Default 0. */
  readonly paceMs?: number
  /** Models that `/v1/models` lists. Default `['demo']`; any model is answered. */
  readonly models?: readonly string[]
  /** Which engine it is like. Default `vllm`. */
  readonly engine?: EngineName
  /** Requests that the journal keeps, the oldest go first. Default 10 000. */
  readonly journalMax?: number
}

/** A running inference server. */
export interface InferenceServer {
  /** Without a path, e.g. `http://127.0.0.1:40123`. */
  readonly url: string
  readonly port: number
  /** Version of its weights; may be set. Default `0`. */
  weightVersion: string
  /** What arrived, oldest first. */
  readonly requests: readonly JournalEntry[]
  /** Waits until the `index`th request (from 0, ever) has arrived. */
  request(index: number): Promise<JournalEntry>
  /** Cuts what is open and stops listening. */
  close(): Promise<void>
}

/** Thrown inside an answer to end it: the scenario or the client wants no more. */
class Stop extends Error {}

/** Starts the server. Rejects when the port cannot be had. */
export async function startInferenceServer(
  options: InferenceServerOptions = {},
): Promise<InferenceServer> {
  const journal = new Journal(options.journalMax ?? 10_000)
  const engine = new Engine(options, journal)
  const server: Server = createServer((request, response) => void engine.serve(request, response))
  server.requestTimeout = 0
  server.keepAliveTimeout = 75_000
  server.listen(options.port ?? 0, options.host ?? '127.0.0.1')
  await once(server, 'listening')
  const { port, address, family } = server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    port,
    get weightVersion() {
      return engine.weightVersion
    },
    set weightVersion(version) {
      engine.weightVersion = version
    },
    requests: journal.entries,
    request: (index) => journal.request(index),
    async close() {
      engine.stopping.abort()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

class Engine {
  readonly stopping = new AbortController()
  weightVersion = '0'
  readonly #options: InferenceServerOptions
  readonly #journal: Journal
  /** How often each `fail_times` key has failed already. */
  readonly #failures = new Map<string, number>()

  constructor(options: InferenceServerOptions, journal: Journal) {
    this.#options = options
    this.#journal = journal
  }

  async serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const entry = this.#journal.begin(message, response)
    const answer = new Answer(response, entry, this.stopping.signal)
    try {
      for await (const bytes of message) entry.take(bytes as Buffer)
      await this.#route(entry, answer)
    } catch (error) {
      // A client that leaves while it sends is in the journal already.
      if (!(error instanceof Stop) && !response.destroyed) response.destroy()
    }
  }

  async #route(entry: JournalEntry, answer: Answer): Promise<void> {
    const path = entry.target.split('?', 1)[0]
    const route = `${entry.method} ${path}`
    if (route === 'GET /health') return answer.whole(200, '', 'text/plain')
    if (route === 'GET /v1/models') return answer.json(200, this.#models())
    if (route === 'GET /weight_info' || route === 'GET /get_weight_version') {
      return answer.json(200, { weight_version: this.weightVersion })
    }
    const legacy = path === '/v1/completions'
    if (!legacy && path !== '/v1/chat/completions') {
      return answer.json(404, { detail: 'Not Found' })
    }
    if (entry.method !== 'POST') return answer.json(405, { detail: 'Method Not Allowed' })
    const request = parseGenerationRequest(entry.body, legacy, this.#options.engine)
    if (typeof request === 'string') {
      return answer.json(400, errorBody(request, 'BadRequestError', 400))
    }
    if ('status' in request) {
      const { status, message, param } = request
      return answer.json(status, errorBody(message, 'invalid_request_error', status, param))
    }
    const { scenario } = request
    if (scenario.first_byte_ms !== undefined) await answer.wait(scenario.first_byte_ms)
    if (this.#fails(scenario, entry.body)) return fail(answer, scenario)
    return request.stream
      ? this.#stream(request, legacy, answer)
      : this.#unary(request, legacy, answer)
  }

  async #unary(request: GenerationRequest, legacy: boolean, answer: Answer): Promise<void> {
    const generation = generate(request)
    const vllm = legacy ? completionsBody(request, generation) : chatBody(request, generation)
    const told = { generation, weightVersion: this.weightVersion }
    const body = JSON.stringify(wholeIn(vllm, request, told))
    const { scenario } = request
    if (scenario.stall_after !== undefined) return answer.stall()
    if (scenario.cut_after === undefined) return answer.whole(200, body, 'application/json')
    const half = Buffer.from(body).subarray(0, Buffer.byteLength(body) >> 1)
    answer.head(200, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    })
    await answer.write(half)
    answer.cut()
  }

  async #stream(request: GenerationRequest, legacy: boolean, answer: Answer): Promise<void> {
    const generation = generate(request)
    const events = legacy ? completionsEvents(request, generation) : chatEvents(request, generation)
    const { scenario } = request
    const paceMs = scenario.pace_ms ?? this.#options.paceMs ?? 0
    answer.head(200, { 'content-type': 'text/event-stream; charset=utf-8' })
    answer.flush()
    let sent = 0
    const atFault = async () => {
      if (sent === scenario.stall_after) await answer.stall()
      if (sent === scenario.cut_after) answer.cut()
      return sent === scenario.error_after
    }
    for (const event of events) {
      if (await atFault()) break
      if (paceMs > 0 && sent > 0) await answer.wait(paceMs)
      await answer.pieces(sseEvent(eventIn(event, request)), scenario.write_bytes)
      sent += 1
    }
    if (await atFault()) {
      const error = errorBody('the engine core died', 'InternalServerError', 500)
      await answer.write(sseEvent(error))
    }
    if (scenario.no_mark !== true) await answer.write(sseEvent('[DONE]'))
    answer.end()
  }

  #fails(scenario: Scenario, body: Buffer): boolean {
    if (scenario.status === undefined) return false
    if (scenario.fail_times === undefined) return true
    const key = scenario.key ?? body.toString('latin1')
    const failed = this.#failures.get(key) ?? 0
    if (failed >= scenario.fail_times) return false
    this.#failures.set(key, failed + 1)
    return true
  }

  #models(): unknown {
    const models = this.#options.models ?? ['demo']
    return {
      object: 'list',
      data: models.map((id) => ({ id, object: 'model', created: 0, owned_by: 'rolltape' })),
    }
  }
}

/** One answer on its way: every body byte goes through here and into the journal's hash. */
class Answer {
  readonly #response: ServerResponse
  readonly #entry: JournalEntry
  readonly #gone: AbortSignal

  constructor(response: ServerResponse, entry: JournalEntry, stopping: AbortSignal) {
    const closed = new AbortController()
    response.on('close', () => closed.abort())
    this.#response = response
    this.#entry = entry
    this.#gone = AbortSignal.any([closed.signal, stopping])
  }

  head(status: number, headers: OutgoingHttpHeaders): void {
    this.#entry.status = status
    this.#response.writeHead(status, { server: 'uvicorn', ...headers })
  }

  /** Sends the head now, ahead of the first body byte. */
  flush(): void {
    this.#response.flushHeaders()
  }

  /** Writes and waits until the kernel has it. */
  async write(bytes: Buffer | string): Promise<void> {
    if (this.#gone.aborted) throw new Stop()
    const data = Buffer.from(bytes)
    this.#entry.sent(data)
    await new Promise<void>((resolve, reject) => {
      this.#response.write(data, (error) =>
        error === null || error === undefined ? resolve() : reject(new Stop()),
      )
    })
  }

  /** Writes in pieces of so many bytes. */
  async pieces(text: string, bytesMax = Infinity): Promise<void> {
    const bytes = Buffer.from(text)
    for (let at = 0; at < bytes.length; at += bytesMax) {
      await this.write(bytes.subarray(at, at + bytesMax))
    }
  }

  end(): void {
    this.#response.end()
  }

  /** Destroys the socket in the middle of the answer. */
  cut(): never {
    this.#entry.cut = true
    this.#response.destroy()
    throw new Stop()
  }

  /** Does nothing until the client leaves. */
  async stall(): Promise<never> {
    if (!this.#gone.aborted) await once(this.#gone, 'abort')
    throw new Stop()
  }

  async wait(ms: number): Promise<void> {
    try {
      await wait(ms, undefined, { signal: this.#gone })
    } catch {
      throw new Stop()
    }
  }

  whole(status: number, body: string, type: string, headers: OutgoingHttpHeaders = {}): void {
    const data = Buffer.from(body)
    this.head(status, { 'content-type': type, 'content-length': data.length, ...headers })
    this.#entry.sent(data)
    this.#response.end(data)
  }

  json(status: number, body: unknown, headers: OutgoingHttpHeaders = {}): void {
    this.whole(status, JSON.stringify(body), 'application/json', headers)
  }
}

function fail(answer: Answer, scenario: Scenario): void {
  const status = scenario.status ?? 500
  const retryAfter = scenario.retry_after ?? (status === 429 ? 1 : undefined)
  const headers = retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }
  const body =
    status === 429
      ? errorBody('too many requests', 'rate_limit_error', 'rate_limit_exceeded')
      : errorBody(`the scenario wants status ${status}`, 'InternalServerError', status)
  answer.json(status, body, headers)
}

function errorBody(
  message: string,
  type: string,
  code: string | number,
  param: string | null = null,
): unknown {
  return { error: { message, type, param, code } }
}
