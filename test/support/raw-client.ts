/**
 * A client that decides every byte it sends and sees every byte it gets: raw TCP, no HTTP library.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { HeaderPair } from '../../src/tape/exchange.ts'
import { reset } from '../../src/reset.ts'

/** An answer as it stood on the wire. */
export interface RawAnswer {
  readonly version: string
  readonly status: number
  readonly reason: string
  readonly headers: HeaderPair[]
  /** Decoded from its chunked framing, if it had one. */
  readonly body: Buffer
  readonly trailers: HeaderPair[]
  /** False when the connection ended before the answer did. */
  readonly whole: boolean
}

/** One connection. */
export class RawClient {
  readonly socket: Socket
  /** Fulfilled when the connection is closed; the code of its error, or null. */
  readonly closed: Promise<string | null>
  #bytes = Buffer.alloc(0)
  #ended = false
  #changed = Promise.withResolvers<void>()

  private constructor(socket: Socket) {
    this.socket = socket
    let code: string | null = null
    socket.on('data', (bytes: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes])
      this.#notify()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => (code = error.code ?? error.message))
    socket.on('end', () => this.#end())
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#end()
        resolve(code)
      })
    })
  }

  static async open(url: string): Promise<RawClient> {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    await once(socket, 'connect')
    return new RawClient(socket)
  }

  send(...parts: (string | Buffer)[]): void {
    for (const part of parts) this.socket.write(part)
  }

  /** Bytes that have come and that no answer has taken yet. */
  get bytes(): Buffer {
    return this.#bytes
  }

  /** Waits until the bytes that have come satisfy the test, or the connection has ended. */
  async until(test: (bytes: Buffer) => boolean): Promise<Buffer> {
    while (!test(this.#bytes) && !this.#ended) await this.#changed.promise
    return this.#bytes
  }

  /** Reads one answer, interim ones not counted (see `interim`). */
  async answer(method = 'POST'): Promise<RawAnswer & { interim: RawAnswer[] }> {
    const interim: RawAnswer[] = []
    for (;;) {
      await this.until((bytes) => bytes.includes('\r\n\r\n'))
      const head = parseHead(this.#bytes)
      if (head === undefined) throw new Error(`no head: ${this.#bytes.toString('latin1')}`)
      this.#bytes = this.#bytes.subarray(head.bytes)
      if (head.status < 200) {
        interim.push({ ...head, body: Buffer.alloc(0), trailers: [], whole: true })
        continue
      }
      return { ...head, ...(await this.#body(method, head)), interim }
    }
  }

  /** Leaves with FIN, or with RST. */
  close(how: 'end' | 'reset' = 'end'): void {
    if (how === 'end') this.socket.destroy()
    else reset(this.socket)
  }

  async #body(method: string, head: Head): Promise<Pick<RawAnswer, 'body' | 'trailers' | 'whole'>> {
    const empty = { body: Buffer.alloc(0), trailers: [], whole: true }
    if (method === 'HEAD' || head.status === 204 || head.status === 304) return empty
    const length = valueOf(head.headers, 'content-length')
    if (valueOf(head.headers, 'transfer-encoding')?.toLowerCase() === 'chunked') {
      return this.#chunked()
    }
    if (length === undefined) {
      await this.until(() => false)
      return { body: this.#take(this.#bytes.length), trailers: [], whole: true }
    }
    const bytes = Number(length)
    await this.until((have) => have.length >= bytes)
    const whole = this.#bytes.length >= bytes
    return { body: this.#take(Math.min(bytes, this.#bytes.length)), trailers: [], whole }
  }

  async #chunked(): Promise<Pick<RawAnswer, 'body' | 'trailers' | 'whole'>> {
    const parts: Buffer[] = []
    for (;;) {
      await this.until((bytes) => bytes.includes('\r\n'))
      const lineEnd = this.#bytes.indexOf('\r\n')
      if (lineEnd < 0) return { body: Buffer.concat(parts), trailers: [], whole: false }
      const size = Number.parseInt(this.#bytes.toString('latin1', 0, lineEnd), 16)
      if (size === 0) {
        const trailers = await this.#trailers(lineEnd + 2)
        const body = Buffer.concat(parts)
        return { body, trailers: trailers ?? [], whole: trailers !== undefined }
      }
      const end = lineEnd + 2 + size
      await this.until((bytes) => bytes.length >= end + 2)
      const whole = this.#bytes.length >= end + 2
      parts.push(Buffer.from(this.#bytes.subarray(lineEnd + 2, end)))
      this.#bytes = this.#bytes.subarray(Math.min(end + 2, this.#bytes.length))
      if (!whole) return { body: Buffer.concat(parts), trailers: [], whole: false }
    }
  }

  async #trailers(from: number): Promise<HeaderPair[] | undefined> {
    const done = (bytes: Buffer): boolean =>
      bytes.toString('latin1', from, from + 2) === '\r\n' || bytes.includes('\r\n\r\n', from)
    await this.until(done)
    if (!done(this.#bytes)) return undefined
    const bare = this.#bytes.toString('latin1', from, from + 2) === '\r\n'
    const end = bare ? from + 2 : this.#bytes.indexOf('\r\n\r\n', from) + 4
    const lines = this.#bytes.toString('latin1', from, end)
    this.#bytes = this.#bytes.subarray(end)
    return parsePairs(lines)
  }

  #take(bytes: number): Buffer {
    const taken = Buffer.from(this.#bytes.subarray(0, bytes))
    this.#bytes = this.#bytes.subarray(bytes)
    return taken
  }

  #end(): void {
    this.#ended = true
    this.#notify()
  }

  #notify(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }
}

/** One request on a connection of its own, and its answer. */
export async function rawRequest(
  url: string,
  request: string | Buffer,
  method = 'POST',
): Promise<RawAnswer & { interim: RawAnswer[] }> {
  const client = await RawClient.open(url)
  client.send(request)
  const answer = await client.answer(method)
  client.close()
  return answer
}

/** A POST as text; `headers` go before the length. */
export function post(path: string, body: string | Buffer, headers: string[] = []): Buffer {
  const bytes = Buffer.from(body)
  const lines = ['Host: rolltape.test', ...headers, `Content-Length: ${bytes.length}`]
  return Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'),
    bytes,
  ])
}

/** The value of the first header of this name. */
export function valueOf(headers: readonly HeaderPair[], name: string): string | undefined {
  return headers.find(([key]) => key.toLowerCase() === name)?.[1]
}

interface Head {
  readonly version: string
  readonly status: number
  readonly reason: string
  readonly headers: HeaderPair[]
  readonly bytes: number
}

function parseHead(bytes: Buffer): Head | undefined {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const text = bytes.toString('latin1', 0, end + 2)
  const cut = text.indexOf('\r\n')
  const match = /^HTTP\/(\d\.\d) (\d{3}) ?(.*)$/.exec(text.slice(0, cut))
  if (match === null) throw new Error(`no status line: ${text.slice(0, cut)}`)
  const [, version = '', status = '', reason = ''] = match
  const headers = parsePairs(text.slice(cut + 2))
  return { version, status: Number(status), reason, headers, bytes: end + 4 }
}

function parsePairs(lines: string): HeaderPair[] {
  return lines
    .split('\r\n')
    .filter((line) => line !== '')
    .map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as const
    })
}
