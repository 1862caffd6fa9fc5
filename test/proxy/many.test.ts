// Many at once: 200 concurrent streams over 50 sessions, and long streams that need patience.
import t from 'tap'
import OpenAI from 'openai'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const SESSIONS = 50
const PER_SESSION = 4

t.test('O28: 200 concurrent streams of 50 sessions: each recorded once, turns right', async (t) => {
  const server = await startInferenceServer({ paceMs: 2 })
  t.teardown(() => server.close())
  const recorder = await startRecorder(t, `${server.url}/v1`)
  const texts = new Map<string, string>()
  await Promise.all(
    Array.from({ length: SESSIONS * PER_SESSION }, async (_, i) => {
      const session = `s${i % SESSIONS}`
      const client = new OpenAI({ apiKey: 'x', baseURL: `${recorder.url}/sessions/${session}/v1` })
      const stream = await client.chat.completions.create({
        model: 'demo',
        stream: true,
        messages: [{ role: 'user', content: `call ${i} of ${session}` }],
      })
      let text = ''
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
      texts.set(`call ${i} of ${session}`, text)
    }),
  )
  const records = await recorder.finish()
  t.strictSame(
    records.map((record) => record.seq),
    Array.from({ length: SESSIONS * PER_SESSION }, (_, i) => i + 1),
  )
  for (let s = 0; s < SESSIONS; s++) {
    const mine = records.filter((record) => record.session === `s${s}`)
    t.strictSame(
      mine.map((record) => record.turn),
      [1, 2, 3, 4],
      `turns of s${s} by arrival`,
    )
  }
  t.ok(records.every((record) => record.outcome === 'complete'))
  type Chat = { messages: { content: string }[] }
  type Answer = { choices: { message: { content: string } }[] }
  const told = records.map((record) => [
    (record.request as Chat).messages[0]!.content,
    (record.response as Answer).choices[0]!.message.content,
  ])
  t.strictSame(new Map(told.sort() as [string, string][]), new Map([...texts].sort()))
})

t.test('a client that reads slowly slows its upstream, not rolltape’s memory', async (t) => {
  const total = 64 << 20
  const piece = Buffer.alloc(256 << 10, 'z')
  let sent = 0
  const upstream = await startScriptedUpstream(async (x) => {
    await x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]))
    while (sent < total && (await x.send(chunkOf(piece)))) sent += piece.length
    await x.send(lastChunk())
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  const client = await RawClient.open(recorder.url)
  client.socket.pause()
  client.send(post('/v1/files', '{}'))
  // The upstream is at a standstill when two looks, many turns of the loop apart, see the same.
  let before = -1
  while (before !== sent || sent === 0) {
    before = sent
    for (let i = 0; i < 50; i++) await fetch(`${recorder.url}/health`)
  }
  t.ok(sent < total / 2, `${sent >> 20} MiB sent while the client read nothing`)
  let got = 0
  client.socket.removeAllListeners('data')
  client.socket.on('data', (bytes: Buffer) => (got += bytes.length))
  client.socket.resume()
  while (got < total) await new Promise((resolve) => client.socket.once('data', resolve))
  client.close()
  const [record] = await recorder.finish()
  t.equal(record?.outcome, 'complete')
})

t.test('M37: heartbeats fill silence between events, and no record has them', async (t) => {
  const gate = Promise.withResolvers<void>()
  const head = responseHead(200, 'OK', [
    ['Content-Type', 'text/event-stream'],
    ['Transfer-Encoding', 'chunked'],
  ])
  const first = 'data: {"choices":[{"index":0,"delta":{"content":"a'
  const upstream = await startScriptedUpstream((x) =>
    x.send(
      head,
      gate.promise,
      chunkOf(first),
      halves.promise,
      chunkOf('b"}}]}\n\ndata: [DONE]\n\n'),
      lastChunk(),
    ),
  )
  const halves = Promise.withResolvers<void>()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, `${upstream.url}/v1`, { heartbeat: '40ms' })
  const client = await RawClient.open(recorder.url)
  client.send(post('/v1/chat/completions', '{}'))
  await client.until((bytes) => bytes.toString().split(': heartbeat').length > 2)
  gate.resolve()
  await client.until((bytes) => bytes.includes('"a'))
  // An event is open: silence now must stay silence. The next beat would come within 40 ms.
  const beats = (bytes: Buffer): number => bytes.toString().split(': heartbeat').length
  const until = performance.now() + 120
  while (performance.now() < until) await fetch(`${recorder.url}/health`)
  const have = beats(client.bytes)
  halves.resolve()
  const answer = await client.answer()
  const inside = answer.body.subarray(0, answer.body.indexOf('content":"ab"'))
  t.equal(beats(inside), have, 'no beat inside an event')
  t.match(answer.body.toString(), /content":"ab"/)
  const [record] = await recorder.finish()
  const taped = Buffer.concat(recorder.taped(record!).chunks.map((chunk) => chunk.bytes))
  t.notMatch(taped.toString(), /heartbeat/)
  t.equal(record?.outcome, 'complete')
})
