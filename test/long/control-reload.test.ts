/** ReloadConfig: what may change holds for requests from then on, all of it or nothing. */
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { startRolltape } from '../../src/rolltape.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { rolltape } from '../cli/harness.ts'
import { ControlClient, messageOf, numberOf } from '../support/control-client.ts'
import { ask, refusal, testWithBuf } from '../support/control.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const OK = (body: string) => [responseHead(200, 'OK', [['Content-Length', `${body.length}`]]), body]

/** A rolltape that is configured by a file which the test writes anew. */
async function setUp(t: Test, lines: Record<string, unknown>, options: RolltapeOptions = {}) {
  const folder = makeFolder(t)
  const configFile = join(folder, 'rolltape.yaml')
  const write = (more: Record<string, unknown>): void => {
    const all = Object.entries({ ...lines, ...more }).filter(([, value]) => value !== undefined)
    writeFileSync(configFile, all.map(([key, v]) => `${key}: ${JSON.stringify(v)}\n`).join(''))
  }
  write({})
  const own = { port: 0, control: '127.0.0.1:0', logLevel: 'silent' } as const
  const running = await startRolltape({ ...own, configFile, ...options })
  t.teardown(() => running.close())
  const address = running.controlAddress ?? ''
  const client = new ControlClient(t, address)
  const { url } = running
  const reload = async (more: Record<string, unknown>): Promise<string[]> => {
    write(more)
    const reply = await client.call('ReloadConfig')
    return (reply.get(1) ?? []).map(String)
  }
  const send = async (content = 'x', headers: string[] = []) => {
    const answer = await rawRequest(url, post(CHAT, bodyOf(content), headers))
    return { ...answer, text: answer.body.toString() }
  }
  return { folder, configFile, write, running, address, client, url, reload, send }
}

/** An upstream that says who it is and what key it got; `slow` waits until the gate is open. */
async function startUpstream(t: Test, name = 'up') {
  const gate = Promise.withResolvers<void>()
  const begin = Promise.withResolvers<void>()
  let asked = 0
  const upstream = await startScriptedUpstream(async (x) => {
    asked++
    if (x.body.includes('never')) await gate.promise
    if (x.body.includes('later')) await begin.promise
    if (/halting|later/.test(x.body.toString())) {
      const head = responseHead(200, 'OK', [
        ['Content-Type', 'text/event-stream'],
        ['Transfer-Encoding', 'chunked'],
      ])
      await x.send(head, chunkOf('data: {}\n\n'), gate.promise, chunkOf('data: [DONE]\n\n'))
      return x.send(lastChunk())
    }
    if (x.body.includes('failing')) {
      const again = [['Retry-After', '0'] as const, ['Content-Length', '0'] as const]
      return x.send(
        responseHead(
          503,
          'No',
          again.map(([key, value]) => [key, value]),
        ),
      )
    }
    return x.send(...OK(`${name} ${x.header('authorization') ?? '-'}`))
  })
  t.teardown(() => upstream.close())
  t.teardown(() => gate.resolve())
  return { url: upstream.url, gate, begin, asked: () => asked }
}

testWithBuf(
  'timeouts and the heartbeat: of requests from then on, not of those before',
  async (t) => {
    const { url: proxy_base_url, asked, gate, begin } = await startUpstream(t)
    const { reload, send, url, client } = await setUp(t, { proxy_base_url }, { lanes: 2 })
    const before = await RawClient.open(url)
    before.send(post(CHAT, bodyOf('later')))
    while (asked() < 1) await new Promise((resolve) => setImmediate(resolve))
    t.strictSame(await reload({ request_timeout: '150ms' }), ['request_timeout'])
    t.match(await send('never'), { status: 504, text: /upstream_timeout_total/ })
    t.strictSame(await reload({ ttfb_timeout: '100ms' }), ['request_timeout', 'ttfb_timeout'])
    t.match(await send('never'), { status: 504, text: /upstream_timeout_ttfb/ })
    await reload({ stall_timeout: '100ms' })
    begin.resolve()
    await before.until((bytes) => bytes.includes('data:'))
    t.match(await send('halting'), { status: 200, whole: false })
    await reload({ heartbeat: '50ms' })
    const stream = await RawClient.open(url)
    stream.send(post(CHAT, bodyOf('halting')))
    await stream.until((bytes) => bytes.includes(': heartbeat'))
    stream.close()
    gate.resolve()
    const answer = await before.answer()
    before.close()
    t.match(answer, { status: 200, whole: true }, 'it came without timeouts, and has none')
    t.notMatch(answer.body.toString(), /heartbeat/)
    const told = await client.call('GetStatus')
    t.equal(numberOf(told, 6), 5, 'each reload is a generation')
  },
)

testWithBuf('retries, their statuses, and a try after the request was sent', async (t) => {
  const { url: proxy_base_url, asked } = await startUpstream(t)
  const { reload, send } = await setUp(t, { proxy_base_url })
  t.equal((await send('failing')).status, 503)
  t.equal(asked(), 1)
  t.strictSame(await reload({ max_attempts: 3, retryable_status_codes: [503] }), [
    'retryable_status_codes',
    'max_attempts',
    'retry_after_send',
  ])
  t.equal((await send('failing')).status, 503)
  t.equal(asked(), 4)
  await reload({ max_attempts: 3, retryable_status_codes: [429] })
  await send('failing')
  t.equal(asked(), 5, '503 is none of them any more')
})

testWithBuf('where requests go, with which key, and how large they may be', async (t) => {
  const [a, b] = [await startUpstream(t, 'a'), await startUpstream(t, 'b')]
  const folder = makeFolder(t)
  const key = join(folder, 'key')
  writeFileSync(key, 'sk-one')
  const lines = { proxy_base_url: a.url, upstream_api_key: `file:${key}` }
  const { reload, send, address } = await setUp(t, lines)
  t.equal((await send()).text, 'a Bearer sk-one')
  writeFileSync(key, 'sk-two')
  t.strictSame(await reload({}), ['upstream_api_key'], 'the reference is the same')
  t.equal((await send()).text, 'a Bearer sk-two')
  await reload({ proxy_base_url: b.url })
  t.equal((await send()).text, 'b Bearer sk-two')
  t.match(await ask(address, 'ListUpstreams'), { upstreams: { length: 2 } })
  const rules = { default: a.url }
  t.strictSame(await reload({ proxy_base_url: undefined, proxy_rules: rules }), [
    'proxy_base_url',
    'proxy_rules',
  ])
  t.equal((await send()).text, 'a Bearer sk-two')
  await reload({ request_body_bytes_max: 200 })
  t.strictSame([(await send()).status, (await send('x'.repeat(200))).status], [200, 413])
})

testWithBuf('labels, sessions from the body, and what becomes of a client that left', async (t) => {
  const { url: proxy_base_url, asked, gate } = await startUpstream(t)
  const file = join(makeFolder(t), 'a.jsonl')
  const lines = { proxy_base_url, recording_file: file }
  const { reload, url, send, running, client: control } = await setUp(t, lines)
  await send('one')
  await reload({
    tag: { run: '17' },
    session_sources: ['body'],
    session_body_field: 'model',
    on_client_gone: 'finish',
  })
  await send('two')
  const client = await RawClient.open(url)
  client.send(post(CHAT, bodyOf('never')))
  while (asked() < 3) await new Promise((resolve) => setImmediate(resolve))
  client.close()
  const gone = async (): Promise<number> => {
    return numberOf(messageOf(await control.call('GetStatus'), 12), 5)
  }
  while ((await gone()) === 0) continue
  gate.resolve()
  await running.close()
  const records = await recordsOf(file)
  t.strictSame(
    records.map(({ tags, session }) => [tags, session]),
    [
      [{}, 'default'],
      [{ run: '17' }, 'qwen3'],
      [{ run: '17' }, 'qwen3'],
    ],
  )
  t.match(records[2], { outcome: 'client_gone' })
  t.ok((records[2]?.timings.chunks ?? 0) > 0, 'the upstream was let finish')
})

/** A recording of two answers to one request, of a stream, and of one that was cut. */
async function recording(t: Test): Promise<string> {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  for (const content of ['twice', 'twice']) {
    await rawRequest(recorder.url, post(CHAT, bodyOf(content)))
  }
  await rawRequest(recorder.url, post(CHAT, bodyOf('stream', { stream: true })))
  const leaving = await RawClient.open(recorder.url)
  leaving.send(post(CHAT, bodyOf('partial', { stream: true, scenario: { stall_after: 1 } })))
  await leaving.until((bytes) => bytes.includes('data:'))
  leaving.close()
  await recorder.finish()
  return recorder.file
}

testWithBuf('replay: pace, shape, and what is answered when it runs out or was cut', async (t) => {
  const replay_file = await recording(t)
  const { reload, send, url } = await setUp(t, { replay_file }, { lanes: 2 })
  t.strictSame([(await send('twice')).status, (await send('twice')).status], [200, 200])
  t.equal((await send('twice')).status, 404)
  t.strictSame(await reload({ on_exhausted: 'repeat_last' }), ['on_exhausted'])
  t.equal((await send('twice')).status, 200)

  const streamed = post(CHAT, bodyOf('stream', { stream: true }))
  const chunks = async (): Promise<number> => {
    const { body } = await rawRequest(url, streamed)
    return body.toString().split('data: ').length - 1
  }
  t.ok((await chunks()) > 3)
  const all = { on_exhausted: 'repeat_last', shape: 'single' }
  t.strictSame(await reload(all), ['shape'])
  t.equal(await chunks(), 2, 'one chunk and the mark')
  t.strictSame(await reload({ ...all, pace: 'ttft=300,tps=1000' }), ['pace'])
  const sinceMs = performance.now()
  t.equal(await chunks(), 2)
  t.ok(performance.now() - sinceMs > 290)

  const partial = post(CHAT, bodyOf('partial', { stream: true, scenario: { stall_after: 1 } }))
  t.not((await rawRequest(url, partial)).status, 200)
  t.strictSame(await reload({ ...all, replay_partial: true }), ['pace', 'replay_partial'])
  t.equal((await rawRequest(url, partial)).status, 200)
})

testWithBuf('replay: an answer whose client leaves is used, or free again', async (t) => {
  const replay_file = await recording(t)
  const { reload, send, url, running } = await setUp(t, { replay_file, pace: 'ttft=20000,tps=1' })
  const leave = async (aborted: number): Promise<void> => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, bodyOf('twice'), []))
    while ((running.verdict?.servedExact ?? 0) < aborted) {
      await new Promise((resolve) => setImmediate(resolve))
    }
    client.close()
    while ((running.verdict?.aborted ?? 0) < aborted) {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  await leave(1)
  t.strictSame(await reload({ on_abort: 'consume', pace: 'ttft=20000,tps=2' }), [
    'pace',
    'on_abort',
  ])
  await leave(2)
  await reload({ pace: 'instant', on_abort: 'consume' })
  t.strictSame(
    [(await send('twice')).status, (await send('twice')).status],
    [200, 404],
    'the first was given back, the second was not',
  )
})

testWithBuf('rotation, what fails a run, and how long a drain takes', async (t) => {
  const { url: proxy_base_url, asked } = await startUpstream(t)
  const folder = makeFolder(t)
  const lines = { proxy_base_url, recording_file: join(folder, 'a.jsonl') }
  const { reload, send, running, client } = await setUp(t, lines)
  await send()
  const more = { rotate_bytes: 100, fail_on: ['miss'], drain_timeout: '1ms' }
  t.strictSame(await reload(more), ['rotate_bytes', 'fail_on', 'drain_timeout'])
  const part = async (): Promise<number> => {
    return numberOf(messageOf(await client.call('GetStatus'), 10), 11)
  }
  while ((await part()) === 1) continue
  t.ok(readdirSync(folder).includes('a.000001.jsonl'))
  t.strictSame(running.config.failOn, ['miss'])
  const cut = send('never').catch(() => undefined)
  while (asked() < 2) await new Promise((resolve) => setImmediate(resolve))
  t.match(await running.close(), { cut: 1 })
  await cut
})

testWithBuf('R31: what cannot be is refused whole, and nothing of it holds', async (t) => {
  const { url: proxy_base_url } = await startUpstream(t)
  const folder = makeFolder(t)
  const recording_file = join(folder, 'a.jsonl')
  const own = await setUp(t, { proxy_base_url, recording_file })
  const { address, write, configFile, client } = own
  const replay = { replay_file: join(folder, 'b.jsonl') }
  const cases: [Record<string, unknown>, string, RegExp][] = [
    [
      { tag: { a: '1' }, lanes: 3, durability: 'synced' },
      'failed_precondition',
      /^durability, lanes c/,
    ],
    [{ tag: { a: '1' }, mode: 'passthrough' }, 'failed_precondition', /^mode cannot change/],
    [
      { tag: { a: '1' }, request_timeout: 'soon' },
      'invalid_argument',
      /^request_timeout in .*soon/,
    ],
    [{ tag: { a: '1' }, reqest_timeout: '3s' }, 'invalid_argument', /did you mean request_timeout/],
    [{ tag: { a: '1' }, ...replay }, 'failed_precondition', /^recording_file .* and replay_file/],
    [
      { tag: { a: '1' }, mode: 'hybrid', replay_file: recording_file },
      'failed_precondition',
      /is the recording that replay_file/,
    ],
  ]
  for (const [more, code, message] of cases) {
    write(more)
    t.match(await refusal(address, 'ReloadConfig'), [code, message], JSON.stringify(more))
  }
  writeFileSync(configFile, ': : [')
  t.match(await refusal(address, 'ReloadConfig'), ['invalid_argument', /cannot be read/])
  t.equal(numberOf(await client.call('GetStatus'), 6), 1)
  t.strictSame(own.running.config.tags, {})
  write({})
  t.strictSame(await ask(address, 'ReloadConfig'), { generation: '1' }, 'nothing has changed')
})

testWithBuf(
  'modes and sessions keep what they were given; GetConfig shows what holds',
  async (t) => {
    const { url: proxy_base_url, asked } = await startUpstream(t)
    const replay_file = await recording(t)
    const { reload, address, send, running, write } = await setUp(t, {
      proxy_base_url,
      replay_file,
    })
    const live = { mode: 'MODE_PASSTHROUGH', session: 's1' }
    await ask(address, 'SetMode', live)
    await ask(address, 'SetPolicyVersion', { policyVersion: 'v1' })
    t.strictSame(await reload({ tag: { a: '1' }, shape: 'single' }), ['tag', 'shape'])
    t.equal((await send('x', ['x-session-id: s1'])).status, 200)
    t.equal(asked(), 1)
    t.equal((await send('twice')).status, 200)
    t.equal(asked(), 1)
    t.match(await ask(address, 'GetStatus'), { generation: '3', policyVersion: 'v1' })
    const { entries } = (await ask(address, 'GetConfig')) as {
      entries: { key: string; value: unknown; origin: string }[]
    }
    t.match(
      entries.find(({ key }) => key === 'shape'),
      { value: 'single', origin: 'ORIGIN_FILE' },
    )
    t.equal(running.config.shape, 'single')
    write({ shape: 'recorded' })
    t.match(await rolltape(['ctl', 'reload', '--control', address]), {
      code: 0,
      stdout: /^changed +tag, shape\ngeneration +4\n$/,
    })
    write({ proxy_base_url: undefined })
    t.match(
      await refusal(address, 'ReloadConfig'),
      ['failed_precondition', /^mode passthrough cannot be had: no upstream is configured/],
      'a session would lack its upstream',
    )
  },
)
