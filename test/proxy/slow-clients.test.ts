// Clients that stop in the middle of a request, or dribble it: ended by a deadline that counts their
// silence and nobody else's.
import t from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const OK = responseHead(200, 'OK', [['Content-Length', '2']])
/** Longer than a thread stands still now and then: who is not late must never be taken for it. */
const LATE = { clientHeaderTimeout: '1500ms', clientBodyTimeout: '1500ms' }

async function setUp(t: Parameters<typeof startRecorder>[0], options: RolltapeOptions = LATE) {
  const upstream = await startScriptedUpstream((x) => x.send(OK, '{}'))
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, options)
  return { upstream, recorder, url: recorder.url }
}

/** Asks as another client, until this is over; all are answered. */
async function served<T>(t: Parameters<typeof startRecorder>[0], url: string, over: Promise<T>) {
  let isOver = false
  const told = over.finally(() => (isOver = true))
  for (let i = 0; !isOver || i === 0; i++) {
    const { status } = await rawRequest(url, post(CHAT, '{}'))
    if (status !== 200) t.fail(`the neighbour got ${status}`)
  }
  return told
}

t.test('heads that never end are ended: 408, no exchange, others are served', async (t) => {
  const { upstream, recorder, url } = await setUp(t)
  const heads = ['', 'POST /v1/x HTTP/1.1\r\n', 'POST /v1/x HTTP/1.1\r\nHost: x\r\nX-A: b']
  const clients = await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const client = await RawClient.open(url)
      client.send(heads[i % heads.length] ?? '')
      return client
    }),
  )
  await served(t, url, Promise.all(clients.map(({ closed }) => closed)))
  for (const { bytes } of clients.slice(1, 3)) t.match(bytes.toString(), /^HTTP\/1\.1 408 /)
  const records = await recorder.finish()
  t.equal(records.length, upstream.exchanges.length, 'only the neighbour has records')
})

t.test('a head that dribbles on is ended all the same', async (t) => {
  const { url } = await setUp(t)
  const client = await RawClient.open(url)
  client.send('GET /v1/x HTTP/1.1\r\nHost: x\r\nX-A: ')
  // After the poll: whoever was told 408 meanwhile has read it, and a reset takes nothing away.
  const dribble = setInterval(() => setImmediate(() => client.send('b')), 10)
  await client.closed
  clearInterval(dribble)
  t.match(client.bytes.toString(), /^HTTP\/1\.1 408 /)
})

const LENGTHS = [
  ['that is gathered', '{"model":', 'Content-Length: 100'],
  ['of no known length', chunkOf('{"model":'), 'Transfer-Encoding: chunked'],
  ['that is streamed', Buffer.alloc(3 << 20, 'x'), `Content-Length: ${8 << 20}`],
] as const

t.test('a body that stops coming gets 408, and its upstream is let go', async (t) => {
  const { upstream, recorder, url } = await setUp(t)
  const all = LENGTHS.map(async ([name, part, header]) => {
    const client = await RawClient.open(url)
    client.send(`POST ${CHAT} HTTP/1.1\r\nHost: x\r\nX-Session-Id: slow\r\n${header}\r\n\r\n`, part)
    const { status, body } = await client.answer()
    const { error } = JSON.parse(body.toString())
    t.strictSame([status, error.code], [408, 'request_stalled'], name)
    t.match(error.message, /client_body_timeout \(1500 ms\)/)
    client.close()
  })
  await served(t, url, Promise.all(all))
  const begun = upstream.exchanges.filter((x) => x.header('x-session-id') === 'slow')
  t.equal(begun.length, 1, 'only what is streamed has gone to the upstream')
  await Promise.all(begun.map(({ connection }) => connection.closed))
  const records = (await recorder.finish()).filter(({ session }) => session === 'slow')
  t.strictSame(
    records.map(({ status, http_status, error }) => [status, http_status, error?.split(':')[0]]),
    LENGTHS.map(() => ['failure', 408, 'request_stalled']),
  )
})

t.test('a body that comes bit by bit has the time it needs', async (t) => {
  const { url, upstream } = await setUp(t)
  const client = await RawClient.open(url)
  const body = 'x'.repeat(12)
  client.send(`POST ${CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`)
  const startMs = performance.now()
  for (const letter of body) {
    client.send(letter)
    // As many pauses as come to several deadlines; each is well within one.
    await new Promise((resolve) => setTimeout(resolve, 150))
  }
  t.ok(performance.now() - startMs > 1_500)
  t.equal((await client.answer()).status, 200)
  t.equal(upstream.exchanges[0]?.body.toString(), body)
  client.close()
})

t.test('an upstream that takes its time is not its client’s silence', async (t) => {
  const upstream = await startScriptedUpstream(
    async (x) => {
      x.connection.socket.pause()
      await new Promise((resolve) => setTimeout(resolve, 3_500))
      x.connection.socket.resume()
      await x.whole
      await x.send(OK, '{}')
    },
    { at: 'head' },
  )
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, LATE)
  const body = Buffer.alloc(24 << 20, 'x')
  t.equal((await rawRequest(recorder.url, post(CHAT, body))).status, 200)
  t.equal(upstream.exchanges[0]?.body.length, body.length)
  await recorder.finish()
})
