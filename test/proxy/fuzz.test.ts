/**
 * Whatever bytes come in on a socket: what goes to the upstream is sound HTTP, what comes back is
 * HTTP or nothing, every exchange has one record, and those who come after are served.
 *
 * `LONG=1` sends 100,000 inputs instead of 1,500. The seed is told; `SEED=<n>` repeats a run.
 */
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import { RawClient, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'
import { seeded } from '../../src/inference/seeded.ts'

const INPUTS = process.env['LONG'] === undefined ? 1_500 : 100_000
const AT_ONCE = 16
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
/** An input that has no end is given up on after this long. */
const ANSWER_MS_MAX = 20_000

const SOUND = [
  'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"model":"m"}',
  'POST /v1/x?a=b&c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;ext=1\r\nabc\r\n0\r\nX-T: 1\r\n\r\n',
  'GET /sessions/s1/v1/models HTTP/1.1\r\nHost: x\r\nX-Rolltape-Run: r\r\n\r\n',
  'PUT /v1/files/1 HTTP/1.0\r\nContent-Length: 4\r\n\r\nabcd',
  'HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close, x-a\r\nX-A: 1\r\n\r\n',
  'POST /v1/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nokPOST /v1/b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n',
  'POST http://other/v1/a HTTP/1.1\r\nHost: y\r\nContent-Length: 1\r\n\r\nz',
]
const PIECES = [
  ['\r\n', '\r', '\n', '\0', ' ', '\t', ':', ',', ';', '0', '\r\n\r\n', '\xff', '%00', '..'],
  ['Content-Length: 5\r\n', 'Transfer-Encoding: chunked\r\n', 'Transfer-Encoding: gzip\r\n'],
  ['x-session-id: \xc3\xa9\r\n', 'x-session-id: \r\n', 'x-rolltape-tags: a=b,=,c\r\n'],
  ['x-rolltape-pace: x\r\n', 'Connection: content-length\r\n', 'Host: z\r\n', 'FFFFFFFF\r\n'],
  ['/runs/a/sessions/%zz/', 'HTTP/1.1', 'x'.repeat(5_000), '\u007f', 'Cookie: a\r\n'],
].flat()

const random = seeded(SEED)
const below = (max: number): number => Math.floor(random() * max)
const oneOf = (list: readonly string[]): string => list[below(list.length)] ?? ''

/** A sound request with some things done to it, in Latin-1. */
function mutated(): string {
  let text = oneOf(SOUND)
  for (let left = below(5); left > 0; left--) {
    const at = below(text.length + 1)
    const to = Math.min(text.length, at + below(12))
    const what = below(6)
    if (what === 0) text = text.slice(0, at) + text.slice(to)
    else if (what === 1) text = text.slice(0, at) + oneOf(PIECES) + text.slice(at)
    else if (what === 2) text = text.slice(0, at) + oneOf(PIECES) + text.slice(to)
    else if (what === 3) text = text.slice(0, to) + text.slice(at)
    else if (what === 4)
      text = text.slice(0, at) + String.fromCharCode(below(256)) + text.slice(at + 1)
    else text += oneOf(SOUND)
  }
  return text
}

/** Sends bytes in one or two writes, ends, and gives what came until the other side was done. */
async function sent(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  const parts: Buffer[] = []
  socket.on('data', (bytes: Buffer) => parts.push(bytes))
  socket.on('error', () => undefined)
  const bytes = Buffer.from(text, 'latin1')
  const cut = below(bytes.length + 1)
  socket.write(bytes.subarray(0, cut))
  socket.end(bytes.subarray(cut))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const timer = setTimeout(() => socket.destroy(new Error('no end')), ANSWER_MS_MAX)
  await closed
  clearTimeout(timer)
  if (socket.errored?.message === 'no end') throw new Error(`no end: ${JSON.stringify(text)}`)
  return Buffer.concat(parts).toString('latin1')
}

t.setTimeout(INPUTS > 10_000 ? 1_800_000 : 280_000)

t.test(`${INPUTS} inputs, seed ${SEED}`, async (t) => {
  const unsound: string[] = []
  const server = createServer((req, res) => {
    req.resume()
    req.on('end', () => res.end('ok'))
  })
  // What its client has broken off is broken off here too, at any moment; a head never is.
  const brokenOff = ['ECONNRESET', 'EPIPE', 'HPE_INVALID_EOF_STATE']
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (!brokenOff.includes(error.code ?? '')) {
      unsound.push(`${error.code}: ${error.message}`)
    }
    socket.destroy()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const upstream = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const recorder = await startRecorder(t, upstream, {
    durability: 'memory',
    requestTimeout: 5,
    // The client of before and after says nothing meanwhile, however long that takes.
    clientHeaderTimeout: 0,
  })
  const port = Number(new URL(recorder.url).port)
  const client = await RawClient.open(recorder.url)
  const wrong: string[] = []
  let left = INPUTS
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      const text = mutated()
      const answer = await sent(port, text)
      const isHttp = answer === '' || /^HTTP\/1\.1 [1-5]\d\d /.test(answer)
      if (!isHttp) wrong.push(`${JSON.stringify(text)} → ${JSON.stringify(answer.slice(0, 80))}`)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  client.send(post('/v1/chat/completions', '{"model":"m"}', ['x-session-id: after']))
  t.equal((await client.answer()).status, 200, 'who comes after is served, on the lane of before')
  client.close()
  t.strictSame(wrong.slice(0, 3), [])
  t.strictSame(unsound.slice(0, 3), [], 'what goes on is sound')
  const records = await recorder.finish()
  t.equal(new Set(records.map(({ id }) => id)).size, records.length, 'one record each')
  t.ok(records.some(({ outcome }) => outcome === 'complete'))
  t.match(records.at(-1), { session: 'after', outcome: 'complete' })
  server.closeAllConnections()
})
