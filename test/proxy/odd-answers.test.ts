// Answers that are odd but allowed, and one that breaks off before its turn.
import t from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const LENGTH_2: [string, string][] = [['Content-Length', '2']]

t.test('R8: a reason phrase beyond ASCII passes byte for byte when it is UTF-8', async (t) => {
  const reason = Buffer.from('Très bien 😀').toString('latin1')
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(200, reason, LENGTH_2), '{}'),
  )
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  const answer = await rawRequest(recorder.url, post('/v1/x', '{}'))
  t.strictSame([answer.status, answer.reason], [200, reason])
  const [record] = await recorder.finish()
  t.equal(recorder.taped(record!).head?.reason, reason)
})

t.test(
  'R15: a pipelined answer that breaks off before its turn closes the connection',
  async (t) => {
    const gate = Promise.withResolvers<void>()
    const upstream = await startScriptedUpstream(async (x) => {
      if (x.head.target === '/slow') {
        return x.send(gate.promise, responseHead(200, 'OK', LENGTH_2), '{}')
      }
      await x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('abc'))
      return x.reset()
    })
    t.teardown(() => upstream.close())
    const recorder = await startRecorder(t, upstream.url)
    const client = await RawClient.open(recorder.url)
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`
    client.send(get('/slow') + get('/broken'))
    await client.closed
    // A request that comes after the cut is answered after rolltape is done with it.
    await fetch(`${recorder.url}/health`)
    gate.resolve()
    t.notMatch(client.bytes.toString(), /abc/)
    const outcomes = (await recorder.finish()).map((record) => record.outcome)
    t.strictSame(outcomes.sort(), ['client_gone', 'upstream_error'])
  },
)

t.test(
  'R15: an answer that ends with its connection, and was reset, is none that came whole',
  async (t) => {
    for (const ending of ['reset', 'destroy'] as const) {
      const upstream = await startScriptedUpstream(async (x) => {
        await x.send(responseHead(200, 'OK', []), 'half of it')
        x[ending]()
      })
      t.teardown(() => upstream.close())
      const recorder = await startRecorder(t, upstream.url)
      const { body, whole } = await rawRequest(recorder.url, post('/v1/x', '{}'))
      const isWhole = ending === 'destroy'
      t.strictSame([body.toString(), whole], ['half of it', isWhole], ending)
      const [record] = await recorder.finish()
      const outcome = isWhole ? 'complete' : 'upstream_error'
      t.strictSame([record?.outcome, record?.partial], [outcome, !isWhole], ending)
    }
  },
)

t.test('R11: the try on a dead idle socket stands among the attempts', async (t) => {
  const upstream = await startScriptedUpstream((x) => {
    const first = upstream.exchanges.findIndex((y) => y.connection === x.connection) === x.index
    if (!first) return x.reset()
    const head = responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']])
    return x.send(head, chunkOf('fine'), lastChunk())
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  for (let i = 0; i < 2; i++) await rawRequest(recorder.url, post('/v1/x', '{}'))
  const [, second] = await recorder.finish()
  t.strictSame(
    second?.attempts.map(({ status, error }) => [status, error]),
    [
      [null, 'upstream_reset'],
      [200, null],
    ],
  )
})
