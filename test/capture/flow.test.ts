/**
 * How captured answers travel: events leave when they come, answers in one piece once they are whole,
 * and what breaks off is no whole answer to anybody.
 */
import { gzipSync } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { Script } from '../../src/inference/raw.ts'
import { REQUEST_GATHER_BYTES_MAX } from '../../src/limits.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { RawClient, post, rawRequest, valueOf } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const STREAM = '{"model":"m","stream":true}'
const WHOLE = '{"prompt_token_ids":[1],"choices":[{"index":0,"logprobs":null,"token_ids":[2]}]}'
const SEEN = '{"choices":[{"index":0,"logprobs":null}]}'

const SSE = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const json = (length: number, more: [string, string][] = []): Buffer =>
  responseHead(200, 'OK', [
    ['X-A', '1'],
    ['Content-Length', String(length)],
    ['Content-Type', 'application/json'],
    ...more,
  ])

async function setUp(t: Test, script: Script, options: RolltapeOptions = {}) {
  const upstream = await startScriptedUpstream(script)
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { engine: 'vllm', ...options })
  return { upstream, recorder }
}

t.test('O17: an event goes on when it is whole, before anything else comes', async (t) => {
  const event = (text: string, id: number): string =>
    `data: {"choices":[{"index":0,"delta":{"content":"${text}"},"token_ids":[${id}]}]}\n\n`
  const seen = (text: string): string =>
    `data: {"choices":[{"index":0,"delta":{"content":"${text}"}}]}\n\n`
  const gates = Array.from({ length: 4 }, () => Promise.withResolvers<void>())
  const { recorder } = await setUp(t, (x) =>
    x.send(
      SSE,
      gates[0]!.promise,
      chunkOf(event('a', 1) + event('b', 2).slice(0, 30)),
      gates[1]!.promise,
      chunkOf(event('b', 2).slice(30)),
      gates[2]!.promise,
      chunkOf('data: [DONE]\n\n'),
      gates[3]!.promise,
      lastChunk(),
    ),
  )
  const client = await RawClient.open(recorder.url)
  client.send(post(CHAT, STREAM))
  const head = await client.until((bytes) => bytes.includes('\r\n\r\n'))
  t.notMatch(head.toString(), 'data:', 'the head is there before any event')
  const shown = async (text: string): Promise<string> =>
    (await client.until((bytes) => bytes.includes(text))).toString()
  gates[0]!.resolve()
  t.notMatch(await shown(seen('a')), /"b"|token_ids/)
  gates[1]!.resolve()
  await shown(seen('b'))
  gates[2]!.resolve()
  await shown('data: [DONE]\n\n')
  gates[3]!.resolve()
  const { body, whole } = await client.answer()
  t.strictSame([body.toString(), whole], [`${seen('a')}${seen('b')}data: [DONE]\n\n`, true])
  client.close()
  const [record] = await recorder.finish()
  t.match(record, { outcome: 'complete', tokens: [{ token_ids: [1, 2] }], timings: { chunks: 3 } })
})

t.test('O13: an answer in one piece has its length, and all its other headers', async (t) => {
  const cut = 30
  const { recorder } = await setUp(t, (x) =>
    x.index === 0
      ? x.send(json(WHOLE.length), WHOLE.slice(0, cut), () => undefined, WHOLE.slice(cut))
      : x.send(
          responseHead(200, 'OK', [
            ['Content-Type', 'application/json'],
            ['Transfer-Encoding', 'chunked'],
          ]),
          chunkOf(WHOLE.slice(0, cut)),
          chunkOf(WHOLE.slice(cut)),
          lastChunk([['X-T', 'end']]),
        ),
  )
  const sized = await rawRequest(recorder.url, post(CHAT, '{}'))
  t.strictSame([sized.body.toString(), sized.whole], [SEEN, true])
  t.strictSame(sized.headers.slice(0, 3), [
    ['X-A', '1'],
    ['Content-Length', String(SEEN.length)],
    ['Content-Type', 'application/json'],
  ])
  const chunked = await rawRequest(recorder.url, post(CHAT, '{}'))
  t.strictSame([chunked.body.toString(), chunked.trailers], [SEEN, [['X-T', 'end']]])
  const records = await recorder.finish()
  t.ok(records.every(({ outcome, partial }) => outcome === 'complete' && !partial))
})

t.test('O13: what breaks off gives its client no whole answer', async (t) => {
  const part = 'data: {"choices":[{"index":0,"delta":{},"token'
  const { recorder } = await setUp(t, async (x) => {
    const isStream = x.body.includes('stream')
    await (isStream
      ? x.send(SSE, chunkOf(`: hi\n\n${part}`))
      : x.send(json(99), WHOLE.slice(0, 40)))
    x.destroy()
  })
  await t.rejects(rawRequest(recorder.url, post(CHAT, '{}')), /no head/)
  const stream = await rawRequest(recorder.url, post(CHAT, STREAM))
  t.strictSame([stream.body.toString(), stream.whole], [': hi\n\n', false])
  const records = await recorder.finish()
  t.strictSame(
    records.map(({ outcome, partial }) => [outcome, partial]),
    [
      ['upstream_error', true],
      ['upstream_error', true],
    ],
  )
})

t.test('a client that leaves while its answer is held ends the upstream’s too', async (t) => {
  const { upstream, recorder } = await setUp(t, (x) =>
    x.send(json(WHOLE.length), WHOLE.slice(0, 9)),
  )
  const client = await RawClient.open(recorder.url)
  client.send(post(CHAT, '{}'))
  await (
    await upstream.exchange(0)
  ).whole
  client.close()
  await upstream.connections[0]!.closed
  const [record] = await recorder.finish()
  t.match(record, { outcome: 'client_gone', response: null })
})

t.test('on_client_gone finish: the tokens are there although nobody got them', async (t) => {
  const gate = Promise.withResolvers<void>()
  const script: Script = (x) =>
    x.index === 0
      ? x.send(json(WHOLE.length), WHOLE.slice(0, 9), gate.promise, WHOLE.slice(9))
      : x.send(json(2), '{}')
  const { upstream, recorder } = await setUp(t, script, { onClientGone: 'finish' })
  const client = await RawClient.open(recorder.url)
  client.send(post(CHAT, '{}'))
  await (
    await upstream.exchange(0)
  ).whole
  const { rolltape } = recorder
  client.close()
  await client.closed
  // Once it answers somebody else it has seen the first one go.
  await rawRequest(recorder.url, post(CHAT, '{}'))
  gate.resolve()
  const [record] = await recorder.finish()
  t.match(record, { outcome: 'client_gone', tokens: [{ prompt_token_ids: [1], token_ids: [2] }] })
  t.equal(rolltape.egressTotal, 2)
})

t.test('O10: long bodies are changed too, and over the bound they are refused', async (t) => {
  const { upstream, recorder } = await setUp(t, (x) => x.send(json(2), '{}'), {
    requestBodyBytesMax: 4 * REQUEST_GATHER_BYTES_MAX,
  })
  const long = `{"x":"${'a'.repeat(2 * REQUEST_GATHER_BYTES_MAX)}"}`
  t.equal((await rawRequest(recorder.url, post(CHAT, long))).status, 200)
  const [asked] = upstream.exchanges
  t.equal(asked!.header('content-length'), String(asked!.body.length))
  t.match(asked!.body.subarray(-60).toString(), /a","logprobs":true,"top_logprobs":5,.*\}$/)
  const over = `{"x":"${'a'.repeat(4 * REQUEST_GATHER_BYTES_MAX)}"}`
  t.equal((await rawRequest(recorder.url, post(CHAT, over))).status, 413)
  await recorder.finish()
})

t.test(
  'O13: an answer that is encoded all the same passes as it is, and that is said',
  async (t) => {
    const encoded = gzipSync(WHOLE)
    const { recorder } = await setUp(t, (x) =>
      x.send(json(encoded.length, [['Content-Encoding', 'gzip']]), encoded),
    )
    const { body, headers } = await rawRequest(recorder.url, post(CHAT, '{}'))
    t.strictSame([body, valueOf(headers, 'content-length')], [encoded, String(encoded.length)])
    const [record] = await recorder.finish()
    t.strictSame(record!.transforms?.at(-1), {
      name: 'strip',
      version: 2,
      skipped: 'content-encoding gzip',
    })
    t.match(record!.tokens, [{ token_ids: [2] }])
  },
)

t.test('O13: what strip cannot read passes as it is, and that is said', async (t) => {
  const bodies = [`\ufeff${WHOLE}`, `[${WHOLE}]`, WHOLE.slice(0, -1)]
  const { recorder } = await setUp(t, (x) =>
    x.send(json(Buffer.byteLength(bodies[x.index]!)), bodies[x.index]!),
  )
  const seen: string[] = []
  for (const _ of bodies) {
    seen.push((await rawRequest(recorder.url, post(CHAT, '{}'))).body.toString())
  }
  t.strictSame(seen, [`\ufeff${SEEN}`, ...bodies.slice(1)])
  const records = await recorder.finish()
  const skipped = 'the answer is no JSON object'
  t.match(
    records.map(({ transforms }) => transforms?.at(-1)),
    [{ name: 'strip', removed: Array }, { skipped }, { skipped }],
  )
  t.ok(records.slice(1).every(({ transforms }) => transforms?.at(-1)?.removed === undefined))
  t.match(records[0]!.tokens, [{ token_ids: [2] }])
})
