// A disk that takes nothing for a while: upstreams are read no further than memory allows, the lane
// beats on, and once the disk is back nothing is missing. LONG=1 for half a minute of it.
import t from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import {
  REQUEST_SMALL_BYTES_MAX,
  TAPE_PENDING_BYTES_FULL,
  TAPE_PENDING_BYTES_MAX,
} from '../../src/limits.ts'
import { HeldDisk, startLane } from '../support/lane.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { recordsOf } from '../support/recorder.ts'

const isLong = process.env['LONG'] === '1'
const STALL_S = isLong ? 30 : 2
const CLIENTS = 24
t.setTimeout(isLong ? 300_000 : 120_000)
const PIECES = 128
const MiB = 1 << 20
const CHAT = '/v1/chat/completions'
const STREAM = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const PIECE = chunkOf(`data: ${JSON.stringify({ pad: 'p'.repeat(65_536) })}\n\n`)
const MARK = 'data: [DONE]\n\n'

/** An upstream whose answers have 8 MiB each; how much of them it has sent. */
async function setUp(t: Parameters<typeof startLane>[0]) {
  const sent = { bytes: 0 }
  const upstream = await startScriptedUpstream(async (x) => {
    await x.send(STREAM)
    for (let i = 0; i < PIECES && (await x.send(PIECE)); i++) sent.bytes += PIECE.length
    await x.send(chunkOf(MARK), lastChunk())
  })
  t.teardown(() => upstream.close())
  return { sent, upstream }
}

t.test(`a disk that stalls ${STALL_S} s slows answers down and loses nothing`, async (t) => {
  const { sent, upstream } = await setUp(t)
  const held = new HeldDisk()
  const { lane, url, file, finish } = await startLane(t, upstream.url, held, { commitTimeout: 120 })
  held.hold()
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => RawClient.open(url)))
  let got = 0
  for (const { socket } of clients) {
    socket.removeAllListeners('data')
    socket.on('data', (bytes: Buffer) => (got += bytes.length))
  }
  for (const client of clients) client.send(post(CHAT, '{}'))
  const beats = lane.counters.get('beats')
  let health = 0
  while (lane.counters.get('beats') < beats + STALL_S) {
    if ((await fetch(`${url}/health`)).status === 200) health++
  }
  t.ok(health > 0, `/health was answered ${health} times meanwhile`)
  const all = CLIENTS * PIECES * PIECE.length
  const most = TAPE_PENDING_BYTES_MAX + CLIENTS * 2 * MiB
  t.ok(all > 1.2 * most, 'there is more to send than may wait')
  t.ok(sent.bytes < most, `${Math.round(sent.bytes / MiB)} MiB were taken of ${all >> 20}`)
  t.equal(lane.inFlight, CLIENTS, 'none has ended, none was cut')
  held.release()
  while (lane.inFlight > 0) await fetch(`${url}/health`)
  // The last of it is with the kernel; each client gets all of its answer.
  while (got <= all) await fetch(`${url}/health`)
  for (const client of clients) client.close()
  await finish()
  const records = await recordsOf(file)
  t.equal(records.length, CLIENTS)
  t.ok(records.every(({ outcome, partial }) => outcome === 'complete' && !partial))
})

t.test('requests are read no faster than a disk that is behind takes them', async (t) => {
  const upstream = await startScriptedUpstream((x) => {
    const length = `${x.body.length}`
    return x.send(responseHead(200, 'OK', [['Content-Length', `${length.length}`]]), length)
  })
  t.teardown(() => upstream.close())
  const held = new HeldDisk()
  const options = { commitTimeout: 120 }
  const { lane, url, file, finish } = await startLane(t, upstream.url, held, options)
  held.hold()
  // Bodies of up to 1 MiB are gathered, longer ones are streamed.
  const bodies = [
    ...Array.from({ length: 120 }, () => MiB),
    ...Array.from({ length: 6 }, () => 16 * MiB),
  ]
  const bytes = Buffer.alloc(16 * MiB, 'x')
  const asked = bodies.map(async (length) => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, bytes.subarray(0, length)))
    const answer = await client.answer()
    client.close()
    return [answer.status, Number(answer.body)]
  })
  const taken = (): number => upstream.exchanges.reduce((sum, { body }) => sum + body.length, 0)
  for (let before = -1; before !== taken() || before === 0;) {
    before = taken()
    for (let i = 0; i < 100; i++) await fetch(`${url}/health`)
  }
  t.ok(taken() < TAPE_PENDING_BYTES_MAX, `${taken() >> 20} MiB have gone on`)
  t.strictSame([lane.inFlight, lane.counters.get('untaped')], [bodies.length, 0])
  const exchanges = upstream.exchanges.length
  const small = RawClient.open(url).then(async (client) => {
    client.send(post(CHAT, 'small'))
    return client.answer()
  })
  const body = await (await upstream.exchange(exchanges)).whole
  t.equal(body.toString(), 'small', 'a small one passes those that wait')
  held.release()
  t.equal((await small).status, 200)
  const answers = await Promise.all(asked)
  t.strictSame(
    answers,
    bodies.map((length) => [200, length]),
  )
  t.equal(lane.counters.get('untaped'), 0)
  await finish()
  const records = await recordsOf(file)
  t.equal(records.length, bodies.length + 1)
  t.ok(records.every(({ outcome, partial }) => outcome === 'complete' && !partial))
})

t.test('small requests go on for longer, and no longer than they fit', async (t) => {
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
  )
  t.teardown(() => upstream.close())
  const held = new HeldDisk()
  const { lane, url, file, finish } = await startLane(t, upstream.url, held, { commitTimeout: 120 })
  held.hold()
  const body = Buffer.alloc(REQUEST_SMALL_BYTES_MAX, 'x')
  const count = Math.ceil((1.1 * TAPE_PENDING_BYTES_MAX) / body.length)
  const clients = await Promise.all(Array.from({ length: count }, () => RawClient.open(url)))
  for (const client of clients) client.send(post(CHAT, body))
  const least = TAPE_PENDING_BYTES_FULL / (body.length + 1_024)
  await upstream.exchange(Math.floor(least))
  for (let before = -1; before !== upstream.exchanges.length;) {
    before = upstream.exchanges.length
    for (let i = 0; i < 50; i++) await fetch(`${url}/health`)
  }
  t.ok(upstream.exchanges.length < count, `${upstream.exchanges.length} of ${count} have gone on`)
  t.equal(lane.counters.get('untaped'), 0)
  held.release()
  const answers = await Promise.all(clients.map((client) => client.answer()))
  t.ok(answers.every(({ status }) => status === 200))
  for (const client of clients) client.close()
  await finish()
  const records = await recordsOf(file)
  t.equal(records.filter(({ outcome }) => outcome === 'complete').length, count)
})

t.test('passthrough: after commit_timeout answers go on, and are on the tape later', async (t) => {
  const upstream = await startScriptedUpstream((x) => x.send(STREAM, chunkOf(MARK), lastChunk()))
  t.teardown(() => upstream.close())
  const held = new HeldDisk()
  const options = { commitTimeout: '200ms', onTapeFailure: 'passthrough' } as const
  const { url, file, finish } = await startLane(t, upstream.url, held, options)
  held.hold()
  const texts = await Promise.all(
    Array.from({ length: 10 }, async () => (await fetch(url + CHAT, { method: 'POST' })).text()),
  )
  t.strictSame(new Set(texts), new Set([MARK]), 'nobody waits for the disk for ever')
  held.release()
  await finish()
  const records = await recordsOf(file)
  t.strictSame(
    records.map(({ outcome }) => outcome),
    texts.map(() => 'complete'),
  )
})
