/**
 * Requests that two readers could take for different ones: what is ambiguous is refused before the
 * upstream is asked, what is odd but sound arrives as one request, and nothing that stands in a body
 * is ever a request of its own. What the upstream sees is looked at byte by byte.
 */
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import { RawClient } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

/** Reads one request by its Content-Length or chunks, and keeps all bytes that ever came. */
class Sink {
  /** Per connection. */
  readonly seen: Buffer[] = []
  readonly #server = createServer((socket) => this.#accept(socket))

  async open(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.close()
  }

  get text(): string {
    return Buffer.concat(this.seen).toString('latin1')
  }

  #accept(socket: Socket): void {
    const n = this.seen.push(Buffer.alloc(0)) - 1
    socket.on('error', () => undefined)
    socket.on('data', (bytes: Buffer) => {
      const all = Buffer.concat([this.seen[n] ?? Buffer.alloc(0), bytes])
      this.seen[n] = all
      if (!isWhole(all.toString('latin1'))) return
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok')
    })
  }
}

function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return false
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end))?.[1]
  if (length !== undefined) return text.length >= end + 4 + Number(length)
  return !/\r\ntransfer-encoding:/i.test(text.slice(0, end)) || text.endsWith('0\r\n\r\n')
}

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
const POST = 'POST /v1/x HTTP/1.1\r\nHost: x\r\n'
const CHUNKED_THEN = `0\r\n\r\n${SMUGGLED}`

/** Two readers could disagree about these: 400, and no byte of them goes further. */
const AMBIGUOUS: Record<string, string> = {
  'CL.TE': `${POST}Content-Length: ${CHUNKED_THEN.length}\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKED_THEN}`,
  'TE.CL': `${POST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2c\r\n${SMUGGLED}\r\n0\r\n\r\n`,
  'TE that is not chunked': `${POST}Transfer-Encoding: xchunked\r\n\r\n${CHUNKED_THEN}`,
  'TE that ends in another coding': `${POST}Transfer-Encoding: chunked, identity\r\n\r\n${CHUNKED_THEN}`,
  'TE twice, one of them odd': `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n${CHUNKED_THEN}`,
  'a space before the colon': `${POST}Transfer-Encoding : chunked\r\n\r\n${CHUNKED_THEN}`,
  'a space before a header': `POST /v1/x HTTP/1.1\r\n Transfer-Encoding: chunked\r\n\r\n${CHUNKED_THEN}`,
  'a folded header': `${POST}X-A: a\r\n Transfer-Encoding: chunked\r\n\r\n${CHUNKED_THEN}`,
  'two lengths': `${POST}Content-Length: 0\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
  'two lengths in one header': `${POST}Content-Length: 0, ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
  'a length with a sign': `${POST}Content-Length: +${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
  'a negative length': `${POST}Content-Length: -1\r\n\r\n${SMUGGLED}`,
  'a length in hex': `${POST}Content-Length: 0x10\r\n\r\n${SMUGGLED}`,
  'a length beyond all numbers': `${POST}Content-Length: 99999999999999999999\r\n\r\n${SMUGGLED}`,
  'a bare LF between headers': `${POST}X-A: a\nTransfer-Encoding: chunked\r\n\r\n${CHUNKED_THEN}`,
  'a bare CR in a value': `${POST}X-A: a\rTransfer-Encoding: chunked\r\n\r\n${CHUNKED_THEN}`,
  'a NUL in a value': `${POST}X-A: a\0b\r\nContent-Length: 0\r\n\r\n${SMUGGLED}`,
  'a bare LF behind a chunk size': `${POST}Transfer-Encoding: chunked\r\n\r\n0\n\r\n${SMUGGLED}`,
  'a chunk size with a sign': `${POST}Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n${SMUGGLED}`,
  'a chunk size beyond all numbers': `${POST}Transfer-Encoding: chunked\r\n\r\n1${'0'.repeat(17)}\r\n${SMUGGLED}`,
  'a chunk that is longer than its size': `${POST}Transfer-Encoding: chunked\r\n\r\n1\r\nab0\r\n\r\n${SMUGGLED}`,
  'a line feed in a chunk extension': `${POST}Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n${SMUGGLED}`,
}

/** These have one meaning: they arrive as one request to the configured upstream. */
const SOUND: Record<string, { bytes: string; line: string; has?: string; body?: string }> = {
  'a request in a body': {
    bytes: `${POST}Content-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
    line: 'POST /v1/x HTTP/1.1',
    body: SMUGGLED,
  },
  'a request in a chunk, its size in capitals and with an extension': {
    bytes: `${POST}Transfer-Encoding:\tChunked\r\n\r\n${SMUGGLED.length.toString(16).toUpperCase()};a=b\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    line: 'POST /v1/x HTTP/1.1',
    body: SMUGGLED,
  },
  'a target with another host': {
    bytes: `POST http://10.0.0.1:1/v1/x HTTP/1.1\r\nHost: 10.0.0.1:1\r\nContent-Length: 0\r\n\r\n`,
    line: 'POST /v1/x HTTP/1.1',
  },
  'headers that name another host': {
    bytes: `POST /v1/x HTTP/1.1\r\nHost: 10.0.0.1\r\nX-Forwarded-Host: 10.0.0.1\r\nForwarded: host=10.0.0.1\r\nContent-Length: 0\r\n\r\n`,
    line: 'POST /v1/x HTTP/1.1',
  },
  'Connection that names what it may not': {
    bytes: `${POST}Connection: content-length, authorization, host\r\nAuthorization: Bearer a\r\nContent-Length: 2\r\n\r\n{}`,
    line: 'POST /v1/x HTTP/1.1',
    has: 'Authorization: Bearer a',
    body: '{}',
  },
  'no length at all': { bytes: `${POST}\r\n`, line: 'POST /v1/x HTTP/1.1', body: '' },
}

t.test('what two readers could take for different requests is refused', async (t) => {
  const sink = new Sink()
  const recorder = await startRecorder(t, await sink.open())
  t.teardown(() => sink.close())
  for (const [name, bytes] of Object.entries(AMBIGUOUS)) {
    const client = await RawClient.open(recorder.url)
    client.send(bytes)
    await client.closed
    const answers = client.bytes.toString('latin1').match(/^HTTP\/1\.1 \d+/gm) ?? []
    t.strictSame(answers, ['HTTP/1.1 400'], name)
    t.notMatch(sink.text, 'smuggled', name)
  }
})

for (const [name, { bytes, line, has, body }] of Object.entries(SOUND)) {
  t.test(`${name}: one request, to the upstream that is configured`, async (t) => {
    const sink = new Sink()
    const base = await sink.open()
    const recorder = await startRecorder(t, base)
    t.teardown(() => sink.close())
    const client = await RawClient.open(recorder.url)
    client.send(bytes)
    t.equal((await client.answer()).status, 200)
    client.close()
    t.equal(sink.seen.length, 1, 'one connection')
    const [head = '', ...rest] = sink.text.split('\r\n\r\n')
    const sent = rest.join('\r\n\r\n')
    const headers = head.split('\r\n')
    t.equal(headers[0], line)
    t.match(head, new RegExp(`^host: ${base.slice('http://'.length)}$`, 'im'))
    if (has !== undefined) t.ok(headers.includes(has))
    if (body !== undefined) t.ok(sent.includes(body), 'its body is whole')
    t.equal((head.match(/^(?:GET|POST) /gm) ?? []).length, 1)
    const [record] = await recorder.finish()
    t.equal(record?.http_status, 200)
  })
}
