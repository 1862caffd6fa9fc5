// A client that leaves takes its request to the upstream along, at once, and leaves nothing behind.
import t from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { HeldDisk, startLane } from '../support/lane.ts'
import { collectGarbage } from '../support/memory.ts'
import { recordsOf, startRecorder } from '../support/recorder.ts'

const PATH = '/v1/chat/completions'
const STREAM = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const TRIES = 25

for (const when of ['before the head', 'in the middle of a stream'] as const) {
  t.test(`M38 M39: a client gone ${when} closes the upstream within 20 ms`, async (t) => {
    const upstream = await startScriptedUpstream((x) => {
      return when === 'before the head' ? undefined : x.send(STREAM, chunkOf('data: {}\n\n'))
    })
    t.teardown(() => upstream.close())
    const recorder = await startRecorder(t, upstream.url)
    const delaysMs = { end: [] as number[], reset: [] as number[] }
    for (let i = 0; i < TRIES; i++) {
      const how = i % 2 === 0 ? 'end' : 'reset'
      const client = await RawClient.open(recorder.url)
      client.send(post(PATH, '{}'))
      const { connection } = await upstream.exchange(i)
      if (when !== 'before the head') await client.until((bytes) => bytes.includes('data:'))
      const leftMs = performance.now()
      client.close(how)
      delaysMs[how].push((await connection.closed).atMs - leftMs)
    }
    // What a busy machine adds is not rolltape's; a wait of its own would be in each of them.
    for (const [how, delays] of Object.entries(delaysMs)) {
      const least = Math.min(...delays)
      t.ok(least < 20, `${how}: ${least.toFixed(1)} ms at least`)
    }
    const records = await recorder.finish()
    t.equal(records.length, TRIES)
    t.ok(records.every((record) => record.outcome === 'client_gone'))
  })
}

t.test('M38 M39: on_client_gone finish records the answer to its end', async (t) => {
  const gate = Promise.withResolvers<void>()
  const upstream = await startScriptedUpstream((x) => {
    const first = chunkOf('data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
    return x.send(STREAM, first, gate.promise, chunkOf('data: [DONE]\n\n'), '0\r\n\r\n')
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { onClientGone: 'finish' })
  const client = await RawClient.open(recorder.url)
  client.send(post(PATH, '{}'))
  await client.until((bytes) => bytes.includes('data:'))
  client.close()
  // A request that comes after the client's FIN is answered after rolltape has seen that.
  await fetch(`${recorder.url}/health`)
  gate.resolve()
  const [record] = await recorder.finish()
  t.equal(record?.outcome, 'client_gone')
  const bytes = Buffer.concat(recorder.taped(record!).chunks.map((chunk) => chunk.bytes))
  t.match(bytes.toString(), /\[DONE\]/)
})

t.test('500 abandoned streams leave no socket and one record each', async (t) => {
  const upstream = await startScriptedUpstream((x) => x.send(STREAM, chunkOf('data: {}\n\n')))
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  const rounds = 10
  for (let round = 0; round < rounds; round++) {
    const clients = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const client = await RawClient.open(recorder.url)
        client.send(post(PATH, '{}'))
        await client.until((bytes) => bytes.includes('data:'))
        return client
      }),
    )
    for (const client of clients) client.close()
    await Promise.all(upstream.connections.map((connection) => connection.closed))
    t.equal(upstream.open, 0, `round ${round}`)
  }
  const records = await recorder.finish()
  t.equal(records.length, rounds * 50)
  t.equal(new Set(records.map((record) => record.id)).size, rounds * 50)
})

t.test('500 abandoned streams leave no timer, no exchange and no memory', async (t) => {
  const upstream = await startScriptedUpstream((x) => {
    return x.send(STREAM, chunkOf(`data: ${'x'.repeat(3_000)}\n\n`))
  })
  t.teardown(() => upstream.close())
  const lane = await startLane(t, upstream.url, new HeldDisk())
  const abandon = async (count: number): Promise<void> => {
    const clients = await Promise.all(Array.from({ length: count }, () => RawClient.open(lane.url)))
    for (const client of clients) client.send(post(PATH, '{}'))
    await Promise.all(clients.map((client) => client.until((bytes) => bytes.includes('data:'))))
    for (const client of clients) client.close()
    while (lane.lane.inFlight > 0) await fetch(`${lane.url}/health`)
    // The scripted upstream remembers all it saw; that is not rolltape's memory.
    upstream.exchanges.length = 0
    upstream.connections.length = 0
  }
  await abandon(100)
  t.equal(lane.lane.wheel.size, 0, 'no deadline is left')
  collectGarbage()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 5; i++) await abandon(100)
  t.equal(lane.lane.wheel.size, 0)
  collectGarbage()
  const grownKiB = (process.memoryUsage().heapUsed - before) / 1024 / 500
  t.ok(grownKiB < 4, `${grownKiB.toFixed(1)} KiB of heap per abandoned stream`)
  await lane.finish()
  t.equal((await recordsOf(lane.file)).length, 600)
})
