// A request's body on its way in: gathered while it is small, streamed when it is long, counted
// against its bound either way.
import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { readBody } from '../../src/lane/request-body.ts'
import type { BodyBounds, BodyOwner, BodyStream } from '../../src/lane/request-body.ts'
import { REQUEST_GATHER_BYTES_MAX } from '../../src/limits.ts'
import { RawClient } from '../support/raw-client.ts'

/** Notes what it is told, in order. */
class Owner implements BodyOwner {
  readonly told: [string, number][] = []
  readonly taken: Buffer[] = []
  stream: BodyStream | undefined
  readonly over = Promise.withResolvers<void>()
  #read: Promise<Buffer> | undefined

  onBody(body: Buffer): void {
    this.told.push(['body', body.length])
    this.taken.push(body)
    this.over.resolve()
  }

  onLongBody(first: Buffer, stream: BodyStream): void {
    this.told.push(['long', first.length])
    this.taken.push(first)
    this.stream = stream
    this.#read = readAll(stream)
    void this.#read.then(() => this.over.resolve())
  }

  onBodyPart(part: Buffer): undefined {
    this.taken.push(part)
  }

  onGathered(): boolean {
    return true
  }

  onBodyTooLong(bytes: number): void {
    this.told.push(['too long', bytes])
    this.over.resolve()
  }

  /** What the upstream would have read. */
  async streamed(): Promise<Buffer> {
    return (await this.#read) ?? Buffer.alloc(0)
  }
}

async function readAll(stream: BodyStream): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of stream) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

/** Sends a request of these parts, each once the one before has arrived, and reads its body. */
async function receive(
  t: Test,
  parts: readonly Buffer[],
  bounds: BodyBounds,
  framing: 'length' | 'chunked' = 'length',
): Promise<Owner> {
  const owner = new Owner()
  const arrived = Promise.withResolvers<IncomingMessage>()
  const server = createServer((req) => {
    const length = req.headers['content-length']
    readBody(req, length === undefined ? -1 : Number(length), bounds, owner)
    arrived.resolve(req)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = await RawClient.open(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  t.teardown(() => server.closeAllConnections())
  t.teardown(() => server.close())
  const bytes = parts.reduce((sum, part) => sum + part.length, 0)
  const head = framing === 'length' ? `Content-Length: ${bytes}` : 'Transfer-Encoding: chunked'
  client.send(`POST / HTTP/1.1\r\nHost: x\r\n${head}\r\n\r\n`)
  const req = await arrived.promise
  for (const part of parts) {
    const came = once(req, 'data')
    if (framing === 'length') client.send(part)
    else client.send(`${part.length.toString(16)}\r\n`, part, '\r\n')
    await Promise.race([came, owner.over.promise])
  }
  if (framing === 'chunked') client.send('0\r\n\r\n')
  await owner.over.promise
  client.close()
  return owner
}

const BOUNDS = { gatherBytesMax: 100, bytesMax: 1_000 }
const bytes = (length: number): Buffer => Buffer.alloc(length, 'abcdefghij')

t.test('R4: up to the bound a body is gathered and given in one piece', async (t) => {
  for (const framing of ['length', 'chunked'] as const) {
    for (const parts of [[bytes(1)], [bytes(100)], [bytes(40), bytes(59), bytes(1)]]) {
      const owner = await receive(t, parts, BOUNDS, framing)
      const whole = Buffer.concat(parts)
      t.strictSame(owner.told, [['body', whole.length]])
      t.ok(owner.taken[0]!.equals(whole))
    }
  }
})

t.test(
  'R4: a longer body is streamed from its first byte, and nothing of it is lost',
  async (t) => {
    const parts = [bytes(60), bytes(60), bytes(500), bytes(1)]
    const whole = Buffer.concat(parts)
    const known = await receive(t, parts, BOUNDS, 'length')
    t.strictSame(known.told, [['long', 0]], 'its length is known before it comes')
    const unknown = await receive(t, parts, BOUNDS, 'chunked')
    t.strictSame(unknown.told, [['long', 120]], 'its length is found out')
    for (const owner of [known, unknown]) {
      t.ok((await owner.streamed()).equals(whole), 'to the upstream')
      t.ok(Buffer.concat(owner.taken).equals(whole), 'to the tape')
    }
  },
)

t.test('the bound on all bodies ends gathering and streaming alike', async (t) => {
  const gathered = await receive(
    t,
    [bytes(600), bytes(600)],
    { gatherBytesMax: 2_000, bytesMax: 1_000 },
    'chunked',
  )
  t.strictSame(gathered.told, [['too long', 1_200]])
  const streamed = await receive(t, [bytes(600), bytes(400), bytes(1)], BOUNDS, 'chunked')
  t.strictSame(streamed.told, [
    ['long', 600],
    ['too long', 1_001],
  ])
  t.equal(Buffer.concat(streamed.taken).length, 1_000)
  const exact = await receive(t, [bytes(600), bytes(400)], BOUNDS, 'chunked')
  t.strictSame(exact.told, [['long', 600]])
})

t.test('the gathering bound of the lane is reached and passed', async (t) => {
  const bounds = { gatherBytesMax: REQUEST_GATHER_BYTES_MAX, bytesMax: 64 << 20 }
  const most = bytes(REQUEST_GATHER_BYTES_MAX)
  const gathered = await receive(t, [most], bounds)
  t.strictSame(gathered.told, [['body', most.length]])
  const more = bytes(REQUEST_GATHER_BYTES_MAX + 1)
  const streamed = await receive(t, [more], bounds)
  t.strictSame(streamed.told, [['long', 0]])
  t.ok((await streamed.streamed()).equals(more))
})

t.test('a client is read only as fast as the upstream takes it', async (t) => {
  const req = new FakeRequest()
  const owner = new Owner()
  owner.onLongBody = (_first, stream) => (owner.stream = stream)
  readBody(
    req as unknown as IncomingMessage,
    1 << 30,
    { gatherBytesMax: 1, bytesMax: 1 << 30 },
    owner,
  )
  const highWaterMark = owner.stream!.readableHighWaterMark
  for (let i = 0; i < 100 && !req.paused; i++) req.emit('data', bytes(16_384))
  t.ok(owner.stream!.readableLength >= highWaterMark)
  t.ok(owner.stream!.readableLength <= highWaterMark + 16_384)
  owner.stream!.read()
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(req.paused)
})

/** A request whose client sends whatever is taken. */
class FakeRequest extends EventEmitter {
  paused = false

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }
}
