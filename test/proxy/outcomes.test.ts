// However an exchange ends, there is one record of it that says so, with what had come by then.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { ScriptedExchange, ScriptedUpstream } from '../../src/inference/raw.ts'
import type { ExchangeRecord, RolltapeOptions } from '../../src/rolltape.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const PATH = '/v1/chat/completions'
const STREAM = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const delta = (content: string, finish: string | null = null): Buffer => {
  const choice = { index: 0, delta: { content }, finish_reason: finish }
  return chunkOf(`data: ${JSON.stringify({ id: 'c', choices: [choice] })}\n\n`)
}
const DONE = chunkOf('data: [DONE]\n\n')

interface Case {
  readonly name: string
  readonly script: (exchange: ScriptedExchange) => unknown
  /** What the client does once it has connected and sent; default: reads the answer. */
  readonly client?: (client: RawClient, exchange: () => Promise<ScriptedExchange>) => unknown
  readonly options?: RolltapeOptions
  readonly path?: string
  readonly expect: Partial<ExchangeRecord>
}

/** Runs cases one after the other on one rolltape; gives the records there are, by arrival. */
async function run(
  t: Test,
  cases: readonly Case[],
  options: RolltapeOptions = {},
): Promise<ExchangeRecord[]> {
  const upstream = await startScriptedUpstream((x) => cases[Number(x.header('x-case'))]!.script(x))
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, options)
  for (const [i, one] of cases.entries()) {
    const client = await RawClient.open(recorder.url)
    client.send(post(one.path ?? PATH, '{"model":"m","stream":true}', [`x-case: ${i}`]))
    if (one.client) await one.client(client, () => exchangeOf(upstream, i))
    else await client.answer()
    client.close()
  }
  return recorder.finish()
}

/** The upstream's side of a case; a dead socket met on the way may have made one more of another. */
async function exchangeOf(upstream: ScriptedUpstream, i: number): Promise<ScriptedExchange> {
  for (let at = 0; ; at++) {
    const exchange = await upstream.exchange(at)
    if (exchange.header('x-case') === String(i)) return exchange
  }
}

function json(status: number, body: string, headers: [string, string][] = []) {
  const length: [string, string] = ['Content-Length', String(Buffer.byteLength(body))]
  const head = responseHead(status, 'X', [['Content-Type', 'application/json'], length, ...headers])
  return (x: ScriptedExchange) => x.send(head, body)
}

/** The client waits until it has seen a text, then leaves. */
const leaveAfter = (text: string) => async (client: RawClient) => {
  await client.until((bytes) => bytes.includes(text))
  client.close()
}

const CASES: Case[] = [
  {
    name: 'R18: a whole stream is complete',
    script: (x) => x.send(STREAM, delta('Hi'), delta('', 'stop'), DONE, lastChunk()),
    expect: { outcome: 'complete', status: 'success', partial: false, finish_reasons: ['stop'] },
  },
  ...['length', 'content_filter'].map((finish) => ({
    name: `R20: finish reason ${finish} is an ordinary end`,
    script: (x: ScriptedExchange) => x.send(STREAM, delta('Hi', finish), DONE, lastChunk()),
    expect: { outcome: 'complete', status: 'success', finish_reasons: [finish] } as const,
  })),
  ...[400, 429, 500].map((status) => ({
    name: `R8 R18: an upstream's ${status} passes and is a failure that came whole`,
    script: json(status, '{"error":{"message":"no"}}'),
    expect: {
      outcome: 'complete',
      status: 'failure',
      http_status: status,
      error: `upstream_status=${status}`,
      partial: false,
    } as const,
  })),
  {
    name: 'M35: nothing before ttfb_timeout is 504 upstream_timeout_ttfb',
    script: () => undefined,
    options: { ttfbTimeout: '60ms' },
    expect: { outcome: 'timeout', status: 'failure', http_status: 504 },
  },
  {
    name: 'M36: a stream that stalls is cut, its beginning kept',
    // In one write: what came of it late would be cut off.
    script: (x) => x.send(Buffer.concat([STREAM, delta('Hi')])),
    options: { stallTimeout: '60ms' },
    client: async (client) => void (await client.closed),
    expect: { outcome: 'timeout', status: 'failure', http_status: 200, partial: true },
  },
  {
    name: 'M44: request_timeout bounds the whole exchange',
    script: (x) => x.send(STREAM, delta('Hi')),
    // Longer than a thread stands still now and then: its beginning must come.
    options: { requestTimeout: '3s' },
    client: async (client) => void (await client.closed),
    expect: { outcome: 'timeout', status: 'failure', partial: true },
  },
  {
    name: 'R14: a reset before the head is 502 upstream_reset',
    script: (x) => x.reset(),
    expect: { outcome: 'upstream_error', status: 'failure', http_status: 502 },
  },
  {
    name: 'R15: a reset in the middle destroys the client socket, the beginning is kept',
    script: (x) => x.send(STREAM, delta('Hel'), delta('lo')),
    client: async (client, exchange) => {
      await client.until((bytes) => bytes.includes('lo'))
      ;(await exchange()).reset()
      await client.closed
    },
    expect: { outcome: 'upstream_error', status: 'failure', http_status: 200, partial: true },
  },
  {
    name: 'R15: EOF without the terminal mark is truncated',
    script: (x) => x.send(STREAM, delta('Hel'), lastChunk()),
    expect: { outcome: 'truncated', status: 'failure', partial: true, http_status: 200 },
  },
  {
    name: 'M38 M39: a client that leaves before the head',
    script: () => undefined,
    client: async (client, exchange) => {
      const { connection } = await exchange()
      client.close()
      await connection.closed
    },
    expect: { outcome: 'client_gone', status: 'failure', http_status: null, partial: true },
  },
  {
    name: 'M38 M39: a client that leaves in the middle',
    script: (x) => x.send(STREAM, delta('Hel')),
    client: async (client, exchange) => {
      await leaveAfter('Hel')(client)
      await (
        await exchange()
      ).connection.closed
    },
    expect: { outcome: 'client_gone', status: 'failure', http_status: 200, partial: true },
  },
  {
    name: 'R18: a client that closes right after the terminal mark has a complete answer',
    script: (x) => x.send(STREAM, delta('Hi', 'stop'), DONE),
    client: leaveAfter('[DONE]'),
    expect: { outcome: 'complete', status: 'success', partial: false },
  },
  {
    name: 'R18: the same on a Responses stream, whose terminal event is long',
    path: '/v1/responses',
    script: (x) => {
      const response = { id: 'r', output: [], text: 'y'.repeat(50_000) }
      const event = JSON.stringify({ type: 'response.completed', response })
      const text = `event: response.completed\ndata: ${event}\n\n`
      return x.send(STREAM, chunkOf(text.slice(0, 9)), chunkOf(text.slice(9)))
    },
    client: leaveAfter('"}}\n\n'),
    expect: { outcome: 'complete', status: 'success', protocol: 'openai.responses' },
  },
  {
    name: 'R18: an error event inside a 200 stream',
    script: (x) => {
      const error = chunkOf('data: {"error":{"message":"out of memory","code":500}}\n\n')
      return x.send(STREAM, delta('Hel'), error, DONE, lastChunk())
    },
    expect: { outcome: 'upstream_error', status: 'failure', http_status: 200 },
  },
  {
    name: 'R18: one malformed event does not take the rest of the answer along',
    script: (x) =>
      x.send(STREAM, delta('Hel'), chunkOf('data: {"cho\n\n'), delta('lo'), DONE, lastChunk()),
    expect: {
      status: 'failure',
      response: { choices: [{ message: { content: 'Hello' } }] },
    },
  },
  {
    name: 'R18: a body that is no JSON where JSON is due',
    script: json(200, '{"choices": [oops'),
    expect: { status: 'failure', response: null, http_status: 200 },
  },
  {
    name: 'R18: gzip that is none',
    script: json(200, 'not gzip', [['Content-Encoding', 'gzip']]),
    expect: { status: 'failure', response: null, http_status: 200 },
  },
  {
    name: 'R18: a 204 is a success without a response',
    path: '/v1/files/1',
    script: (x) => x.send(responseHead(204, 'No Content', [])),
    expect: { status: 'success', outcome: 'complete', response: null, protocol: 'raw' },
  },
  {
    name: 'R18: audio is a success without a response',
    path: '/v1/audio/speech',
    script: (x) => {
      const audio = gzipSync(Buffer.alloc(100))
      const head: [string, string][] = [
        ['Content-Type', 'audio/mpeg'],
        ['Content-Length', String(audio.length)],
      ]
      return x.send(responseHead(200, 'OK', head), audio)
    },
    expect: { status: 'success', outcome: 'complete', response: null, protocol: 'raw' },
  },
]

function check(t: Test, one: Case, record: ExchangeRecord): void {
  t.match(record, one.expect)
  if (record.partial && record.timings.chunks > 0) {
    t.match(JSON.stringify(record.response), /Hel|Hi/, 'the beginning is kept')
  }
}

t.test('M39: every way to end has its outcome, and one record', async (t) => {
  const cases = CASES.filter((one) => one.options === undefined)
  const records = await run(t, cases)
  t.equal(records.length, cases.length, 'exactly one record each')
  for (const [i, one] of cases.entries()) {
    await t.test(one.name, async (t) => check(t, one, records[i]!))
  }
})

for (const one of CASES) {
  if (one.options === undefined) continue
  t.test(one.name, async (t) => {
    const [record, ...rest] = await run(t, [one], one.options)
    t.strictSame(rest, [], 'exactly one record')
    check(t, one, record!)
  })
}

t.test('R14: an upstream that refuses connections is 502 upstream_unreachable', async (t) => {
  // A port that is taken, and that nobody listens on: the near end of a connection.
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const holder = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(holder, 'connect')
  t.teardown(() => holder.destroy())
  t.teardown(() => server.close())
  const recorder = await startRecorder(t, `http://127.0.0.1:${holder.localPort}`)
  const response = await fetch(recorder.url + PATH, { method: 'POST', body: '{}' })
  t.equal(response.status, 502)
  t.match(await response.json(), { error: { code: 'upstream_unreachable' }, detail: String })
  const [record, ...rest] = await recorder.finish()
  t.strictSame(rest, [])
  t.match(record, { outcome: 'upstream_error', status: 'failure', http_status: 502 })
})
