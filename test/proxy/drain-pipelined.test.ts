// A request that comes on an open connection while rolltape drains is refused, and does not hold the
// end. A review found that it did, for the drain's and the commit's time-outs.
import t from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'

t.test('the drain ends with the exchange that ran', async (t) => {
  const gate = Promise.withResolvers<void>()
  const upstream = await startScriptedUpstream(async (x) => {
    await gate.promise
    return x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
  })
  t.teardown(() => upstream.close())
  const rolltape = await startRolltape({
    port: 0,
    proxyBaseUrl: upstream.url,
    logLevel: 'silent',
    drainTimeout: 60,
  })
  const client = await RawClient.open(rolltape.url)
  client.send(post('/v1/chat/completions', '{}'))
  while (upstream.exchanges.length < 1) await new Promise((resolve) => setImmediate(resolve))
  const startMs = performance.now()
  const closing = rolltape.close()
  // Not by fetch: refused connections of its pool now and then keep Node 26 from ending the process.
  const ready = 'GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n'
  while ((await rawRequest(rolltape.url, ready, 'GET').catch(() => undefined))?.status === 200);
  client.send(post('/v1/chat/completions', '{}'))
  gate.resolve()
  t.equal((await client.answer()).status, 200)
  t.equal((await client.answer()).status, 503)
  t.match(await closing, { cut: 0, trouble: null })
  t.ok(performance.now() - startMs < 20_000)
})
