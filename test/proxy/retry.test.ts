// Retries: off unless asked for; then as configured, never after the first byte, all on record.
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { ScriptedExchange } from '../../src/inference/raw.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { rawRequest, post, valueOf } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const PATH = '/v1/chat/completions'

/** Answers the tries in turn; the last one answers all that follow. */
async function setUp(
  t: Test,
  tries: ((x: ScriptedExchange) => unknown)[],
  options: RolltapeOptions = {},
) {
  const upstream = await startScriptedUpstream((x) => {
    return tries[Math.min(x.index, tries.length - 1)]!(x)
  })
  t.teardown(() => upstream.close())
  return { upstream, recorder: await startRecorder(t, upstream.url, options) }
}

const status =
  (code: number, headers: [string, string][] = [['Retry-After', '0']]) =>
  (x: ScriptedExchange) =>
    x.send(responseHead(code, 'Try', [...headers, ['Content-Length', '3']]), `${code}`)

const ok = status(200, [])

t.test('R11: without configuration nothing is tried twice', async (t) => {
  const { upstream, recorder } = await setUp(t, [status(503), ok])
  const answer = await rawRequest(recorder.url, post(PATH, '{}'))
  t.strictSame([answer.status, answer.reason, answer.body.toString()], [503, 'Try', '503'])
  t.equal(upstream.exchanges.length, 1)
})

t.test('R11: a retryable status is tried again until it succeeds', async (t) => {
  const { upstream, recorder } = await setUp(t, [status(429), status(503), ok], {
    retryableStatusCodes: [429, 503],
  })
  const body = '{"model":"m"}'
  const answer = await rawRequest(recorder.url, post(PATH, body))
  t.equal(answer.status, 200)
  t.strictSame(
    upstream.exchanges.map((exchange) => exchange.body.toString()),
    [body, body, body],
  )
  const [record, ...rest] = await recorder.finish()
  t.strictSame(rest, [])
  t.strictSame(
    record?.attempts.map(({ status, error }) => [status, error]),
    [
      [429, null],
      [503, null],
      [200, null],
    ],
  )
})

t.test('R11: other statuses are not retried', async (t) => {
  const { upstream, recorder } = await setUp(t, [status(500), ok], { retryableStatusCodes: [429] })
  t.equal((await rawRequest(recorder.url, post(PATH, '{}'))).status, 500)
  t.equal(upstream.exchanges.length, 1)
})

t.test('R12: when the tries are used up the last answer passes unchanged', async (t) => {
  const { upstream, recorder } = await setUp(t, [status(429)], { maxAttempts: 3 })
  const answer = await rawRequest(recorder.url, post(PATH, '{}'))
  t.strictSame([answer.status, answer.body.toString()], [429, '429'])
  t.equal(valueOf(answer.headers, 'retry-after'), '0')
  t.equal(upstream.exchanges.length, 3)
  const [record] = await recorder.finish()
  t.match(record, { status: 'failure', error: 'upstream_status=429', outcome: 'complete' })
})

t.test('R11: a Retry-After longer than the deadline is not waited for', async (t) => {
  const { upstream, recorder } = await setUp(t, [status(429, [['Retry-After', '20']]), ok], {
    maxAttempts: 3,
    requestTimeout: 5,
  })
  const answer = await rawRequest(recorder.url, post(PATH, '{}'))
  t.equal(answer.status, 429)
  t.equal(upstream.exchanges.length, 1)
})

t.test('R11: one total deadline stands over all tries', async (t) => {
  const { recorder } = await setUp(t, [status(503), () => undefined], {
    maxAttempts: 3,
    // Longer than a thread stands still now and then: the first try must have its answer.
    requestTimeout: '3s',
  })
  const answer = await rawRequest(recorder.url, post(PATH, '{}'))
  t.equal(answer.status, 504)
  const [record] = await recorder.finish()
  t.match(record, { outcome: 'timeout', http_status: 504 })
  t.match(record?.attempts[0], { status: 503 })
})

t.test('R13: nothing is tried again once a byte has gone to the client', async (t) => {
  const { upstream, recorder } = await setUp(
    t,
    [
      (x) => {
        // In one write: the stall begins with the first byte.
        const head = responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']])
        return x.send(Buffer.concat([head, chunkOf('part')]))
      },
      ok,
    ],
    { maxAttempts: 3, stallTimeout: '60ms' },
  )
  const answer = await rawRequest(recorder.url, post(PATH, '{}'))
  t.strictSame([answer.body.toString(), answer.whole], ['part', false])
  t.equal(upstream.exchanges.length, 1)
})

t.test('R11: ttfb timeouts are retried only with retry_after_send', async (t) => {
  for (const [retryAfterSend, want] of [
    [false, 504],
    [true, 504],
  ] as const) {
    const { upstream, recorder } = await setUp(t, [() => undefined], {
      maxAttempts: 2,
      retryAfterSend,
      ttfbTimeout: '60ms',
      requestTimeout: 20,
    })
    t.equal((await rawRequest(recorder.url, post(PATH, '{}'))).status, want)
    const tries = retryAfterSend ? 2 : 1
    const [record] = await recorder.finish()
    t.equal(record?.attempts.length, tries)
    // One that is given up before its connection is there never arrives.
    t.ok(upstream.exchanges.length <= tries)
  }
})

t.test('R11: an idle socket that dies as it is reused is replaced, once, unseen', async (t) => {
  let resets = 0
  const { upstream, recorder } = await setUp(t, [
    (x) => {
      // The first request on a connection is answered; a second one meets a dead socket.
      const first = upstream.exchanges.findIndex((y) => y.connection === x.connection) === x.index
      if (!first) {
        resets++
        return x.reset()
      }
      return x.send(
        responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]),
        chunkOf('fine'),
        lastChunk(),
      )
    },
  ])
  for (let i = 0; i < 4; i++) {
    const answer = await rawRequest(recorder.url, post(PATH, `{"i":${i}}`))
    t.strictSame([answer.status, answer.body.toString()], [200, 'fine'], `request ${i}`)
  }
  t.ok(resets > 0, `${resets} dead sockets met`)
  const records = await recorder.finish()
  t.ok(records.every((record) => record.outcome === 'complete'))
  t.equal(records.length, 4)
})

t.test('R11: a fresh socket that is reset is not retried by itself', async (t) => {
  const { upstream, recorder } = await setUp(t, [(x) => x.reset(), ok])
  t.equal((await rawRequest(recorder.url, post(PATH, '{}'))).status, 502)
  t.equal(upstream.exchanges.length, 1)
})
