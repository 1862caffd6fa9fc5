// Admission is paused around weight updates: what comes is held or rejected, what is in flight is
// kept, waited for, or cancelled.
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }

/** Asked with `slow` it answers only once the gate is open. */
async function setUp(t: Test, options: RolltapeOptions = {}) {
  const gate = Promise.withResolvers<void>()
  let asked = 0
  const upstream = await startScriptedUpstream(async (x) => {
    asked++
    if (x.body.includes('slow')) await gate.promise
    return x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
  })
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const config = resolveOptions({
    options: {
      port: 0,
      proxyBaseUrl: upstream.url,
      recordingFile: file,
      lanes: 2,
      requestTimeout: '20s',
      ...options,
    },
  })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const url = `http://127.0.0.1:${supervisor.port}`
  const ask = async (content: string, more: object = {}) => {
    const { status, headers, body } = await rawRequest(url, post(CHAT, bodyOf(content, more)))
    const retryAfter = headers.find(([name]) => name.toLowerCase() === 'retry-after')?.[1]
    const { error } = JSON.parse(body.toString()) as { error?: { code: string } }
    return { status, retryAfter, code: error?.code }
  }
  const inFlight = async (count: number): Promise<void> => {
    while (asked < count) await new Promise((resolve) => setImmediate(resolve))
  }
  return { supervisor, ask, url, file, upstream, gate, asked: () => asked, inFlight }
}

t.test('hold: requests wait, and go on in the new policy version', async (t) => {
  const { supervisor, ask, asked, file } = await setUp(t)
  await supervisor.setPolicyVersion('step-1')
  await ask('before')
  await supervisor.pause({ policy: 'hold' }, false)
  const held = Array.from({ length: 20 }, (_, i) => ask(`held ${i}`))
  while (supervisor.counter('inFlight') < 20) await new Promise((resolve) => setImmediate(resolve))
  t.equal(asked(), 1)
  await supervisor.setPolicyVersion('step-2')
  await supervisor.resume()
  t.strictSame(new Set((await Promise.all(held)).map(({ status }) => status)), new Set([200]))
  await supervisor.close()
  const versions = (await recordsOf(file)).map(({ policy }) => policy.dispatch)
  t.strictSame(versions.toSorted(), ['step-1', ...Array.from({ length: 20 }, () => 'step-2')])
})

t.test('reject: 429 with Retry-After, recorded as refused', async (t) => {
  const { supervisor, ask, asked, file } = await setUp(t)
  await supervisor.pause({ policy: 'reject' }, false)
  t.strictSame(await ask('no'), { status: 429, retryAfter: '1', code: 'admission_paused' })
  await supervisor.resume()
  t.equal((await ask('yes')).status, 200)
  t.equal(asked(), 1)
  await supervisor.close()
  const records = await recordsOf(file)
  t.strictSame(
    records.map(({ outcome, http_status }) => [outcome, http_status]),
    [
      ['refused', 429],
      ['complete', 200],
    ],
  )
})

t.test('drain: what is in flight is waited for, and nothing new goes', async (t) => {
  const { supervisor, ask, gate, asked, inFlight } = await setUp(t)
  const slow = [ask('slow 1'), ask('slow 2')]
  await inFlight(2)
  await supervisor.pause({ policy: 'hold' }, false)
  let isQuiet = false
  const quiet = supervisor.quiet({ policy: 'hold' }).then(() => (isQuiet = true))
  const held = ask('later')
  while (supervisor.counter('inFlight') < 3) await new Promise((resolve) => setImmediate(resolve))
  t.notOk(isQuiet)
  gate.resolve()
  await quiet
  t.equal(asked(), 2)
  t.strictSame(
    (await Promise.all(slow)).map(({ status }) => status),
    [200, 200],
  )
  await supervisor.resume()
  t.equal((await held).status, 200)
})

t.test('abort: what is in flight is cancelled, told so, and recorded so', async (t) => {
  const { supervisor, ask, file, inFlight, upstream } = await setUp(t)
  const slow = [ask('slow 1'), ask('slow 2')]
  await inFlight(2)
  const closed = upstream.connections.map((connection) => connection.closed)
  t.equal(await supervisor.pause({ policy: 'hold' }, true), 2)
  for (const answer of await Promise.all(slow)) {
    t.match(answer, { status: 503, code: 'aborted', retryAfter: '1' })
  }
  await Promise.all(closed)
  await supervisor.close()
  t.strictSame(
    (await recordsOf(file)).map(({ outcome }) => outcome),
    ['cancelled', 'cancelled'],
  )
})

t.test('a pause may be of one upstream or one model', async (t) => {
  const { supervisor, ask, upstream } = await setUp(t)
  await supervisor.pause({ policy: 'reject', model: 'big' }, false)
  t.equal((await ask('x', { model: 'big' })).status, 429)
  t.equal((await ask('x', { model: 'small' })).status, 200)
  await supervisor.pause({ policy: 'reject', upstream: 'http://127.0.0.1:9' }, false)
  t.equal((await ask('x', { model: 'small' })).status, 200)
  await supervisor.pause({ policy: 'reject', upstream: upstream.url }, false)
  t.equal((await ask('x', { model: 'small' })).status, 429)
  await supervisor.resume({ upstream: upstream.url })
  t.equal((await ask('x', { model: 'small' })).status, 200)
  await t.rejects(supervisor.resume({ model: 'none' }), { code: 'not_found' })
  t.equal(supervisor.pauses.length, 2)
})

t.test('a long body that is held goes on to the last byte', async (t) => {
  const { supervisor, url, upstream, file } = await setUp(t)
  await supervisor.pause({ policy: 'hold' }, false)
  const body = JSON.stringify({ model: 'q', text: 'x'.repeat(5_000_000) })
  const answer = rawRequest(url, post(CHAT, body))
  while (supervisor.counter('inFlight') < 1) await new Promise((resolve) => setImmediate(resolve))
  await supervisor.resume()
  t.equal((await answer).status, 200)
  await supervisor.close()
  const [record] = await recordsOf(file)
  t.strictSame(
    [(record!.request as { text: string }).text.length, record!.outcome],
    [5_000_000, 'complete'],
  )
  t.equal(upstream.exchanges[0]?.body.length, body.length)
})

t.test('who is held may leave, or run out of time', async (t) => {
  // Longer than a thread stands still now and then: who leaves leaves, and who goes is answered.
  const setting = await setUp(t, { requestTimeout: '2s' })
  const { supervisor, ask, url, file } = setting
  await supervisor.pause({ policy: 'hold' }, false)
  const client = await RawClient.open(url)
  client.send(post(CHAT, bodyOf('leaves')))
  while (supervisor.counter('inFlight') < 1) await new Promise((resolve) => setImmediate(resolve))
  client.close()
  t.match(await ask('waits'), { status: 504, code: 'upstream_timeout_total' })
  await supervisor.resume()
  t.equal((await ask('goes')).status, 200)
  t.equal(setting.asked(), 1, 'those that were given up never go')
  await supervisor.close()
  const records = await recordsOf(file)
  const sent = records.map(({ request }) => {
    return (request as { messages: { content: string }[] } | null)?.messages[0]?.content ?? ''
  })
  t.strictSame(sent.toSorted(), ['goes', 'leaves', 'waits'], 'their requests are recorded')
  const outcomes = records.map(({ outcome }) => outcome).toSorted()
  t.strictSame(outcomes, ['client_gone', 'complete', 'timeout'])
})
