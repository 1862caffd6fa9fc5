/** Which version of the policy answered: at dispatch, at the first byte, at the end. */
import { writeFileSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { POLICY_ANSWER_BYTES_MAX } from '../../src/limits.ts'
import { resolveOptions } from '../../src/options.ts'
import { PolicyPoll, policyUrlOf } from '../../src/supervisor/policy-poll.ts'
import { ControlClient } from '../support/control-client.ts'
import { startControlled } from '../support/control.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { startSteered } from '../support/steered.ts'

const SSE = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const CHAT = '/v1/chat/completions'

t.test('the versions that an answer was made with, and whether they are mixed', async (t) => {
  const gates = Array.from({ length: 2 }, () => Promise.withResolvers<void>())
  const upstream = await startScriptedUpstream((x) =>
    x.send(
      gates[0]!.promise,
      SSE,
      chunkOf('data: {}\n\n'),
      gates[1]!.promise,
      chunkOf('data: [DONE]\n\n'),
      lastChunk(),
    ),
  )
  t.teardown(() => upstream.close())
  const recordingFile = `${makeFolder(t)}/a.jsonl`
  const { supervisor, url } = await startSteered(t, { proxyBaseUrl: upstream.url, recordingFile })
  await supervisor.setPolicyVersion('1')
  const client = await RawClient.open(url)
  client.send(post(CHAT, '{}'))
  await (
    await upstream.exchange(0)
  ).whole
  await supervisor.setPolicyVersion('2')
  gates[0]!.resolve()
  await client.until((bytes) => bytes.includes('data: {}'))
  await supervisor.setPolicyVersion('3')
  gates[1]!.resolve()
  await client.answer()
  client.send(post(CHAT, '{}'))
  await client.answer()
  client.close()
  await supervisor.close(1_000)
  const policies = (await recordsOf(recordingFile)).map(({ policy }) => policy)
  t.strictSame(policies, [
    { dispatch: '1', first_byte: '2', end: '3', engine: null, mixed: true },
    { dispatch: '3', first_byte: '3', end: '3', engine: null, mixed: false },
  ])
})

t.test('a responder is not asked for its version, a server beside it is', async (t) => {
  const bases: [string | undefined, object][] = [
    [undefined, { proxyBaseUrl: 'responder:' }],
    [
      'http://127.0.0.1:9/v',
      { proxyRules: { a: 'responder:', default: 'http://127.0.0.1:9/x/v1' } },
    ],
  ]
  for (const [expected, upstreams] of bases) {
    const options = { ...upstreams, control: '127.0.0.1:0', policyPollPath: '/v' }
    t.equal(policyUrlOf(resolveOptions({ options })), expected)
  }
  // What was thrown here ended the process.
  const { address } = await startControlled(t, { proxyBaseUrl: 'responder:', policyPollPath: '/v' })
  t.ok((await new ControlClient(t, address).call('GetStatus')).has(1))
})

t.test('polled from the engine, requests are stamped with what it says', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  upstream.weightVersion = 'w-7'
  const options = { policyPollPath: '/weight_info', policyPollInterval: 0.005 }
  const recorder = await startRecorder(t, `${upstream.url}/v1`, options)
  const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'x' }] })
  const ask = async (): Promise<void> => {
    // Two answers later the one that was asked for first has been stamped.
    const asked = upstream.requests.length
    await upstream.request(asked + 2)
    await fetch(`${recorder.url}${CHAT}`, { method: 'POST', body })
  }
  await ask()
  upstream.weightVersion = 'w-8'
  await ask()
  const records = await recorder.finish()
  t.strictSame(
    records.map(({ policy }) => policy.dispatch),
    ['w-7', 'w-8'],
  )
  t.ok(upstream.requests.some(({ target }) => target === '/weight_info'))
})

/** An upstream that tells its version at `/v`, once `when` is there. */
async function startVersioned(t: Test, version: string, when?: Promise<void>) {
  const upstream = await startScriptedUpstream(async (x) => {
    const isPoll = x.head.target === '/v'
    if (isPoll) await when
    const body = isPoll ? `{"version":"${version}"}` : '{}'
    const length: [string, string] = ['Content-Length', String(body.length)]
    await x.send(responseHead(200, 'OK', [length, ['Content-Type', 'application/json']]), body)
  })
  t.teardown(() => upstream.close())
  /** Two answers later the one that was asked for first has been stamped. */
  const stamped = async (): Promise<void> => {
    const asked = upstream.exchanges.length
    await (
      await upstream.exchange(asked + 2)
    ).whole
  }
  const polls = () => upstream.exchanges.filter(({ head }) => head.target === '/v')
  return { upstream, url: upstream.url, stamped, polls }
}

t.test('after a reload the engine in force is asked, with the key in force', async (t) => {
  const gate = Promise.withResolvers<void>()
  const [before, after] = [
    await startVersioned(t, 'before'),
    await startVersioned(t, 'after', gate.promise),
  ]
  const folder = makeFolder(t)
  const [configFile, recordingFile] = [`${folder}/rolltape.yaml`, `${folder}/a.jsonl`]
  const write = (url: string, key: string): void => {
    writeFileSync(`${folder}/key`, key)
    const poll = 'policy_poll_path: /v\npolicy_poll_interval: 5ms'
    writeFileSync(
      configFile,
      `proxy_base_url: ${url}\n${poll}\nupstream_api_key: file:${folder}/key\n`,
    )
  }
  write(before.url, 'first')
  const options = { configFile, recordingFile }
  const { rolltape, url, address } = await startControlled(t, options as never)
  const control = new ControlClient(t, address)
  await before.stamped()
  await rawRequest(url, post(CHAT, '{}'))
  write(after.url, 'second')
  await control.call('ReloadConfig')
  await rawRequest(url, post(CHAT, '{}'))
  gate.resolve()
  await after.stamped()
  await rawRequest(url, post(CHAT, '{}'))
  await rolltape.close()
  const records = await recordsOf(recordingFile)
  t.strictSame(
    records.map(({ upstream, policy }) => [upstream, policy.dispatch]),
    [
      [before.url, 'before'],
      [after.url, null],
      [after.url, 'after'],
    ],
  )
  const keysOf = ({ polls }: typeof before) => [
    ...new Set(polls().map((asked) => asked.header('authorization'))),
  ]
  t.strictSame(
    [keysOf(before), keysOf(after)],
    [['Bearer first'], ['Bearer second']],
    'each is asked with its key',
  )
})

const quiet = { debug: () => undefined, warn: () => undefined, error: () => undefined }

t.test('what an engine says once another is in force is not stamped', async (t) => {
  const [before, after] = [await startVersioned(t, 'before'), await startVersioned(t, 'after')]
  const configOf = (url: string) =>
    resolveOptions({ options: { proxyBaseUrl: url, policyPollPath: '/v', policyPollInterval: 60 } })
  let config = configOf(before.url)
  const [told, done] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const reloaded = Promise.withResolvers<void>()
  const versions: string[] = []
  const poll = new PolicyPoll({
    config: () => config,
    log: quiet,
    forwards: () => true,
    onVersion: async (version) => {
      if (version === 'before') {
        told.resolve()
        await reloaded.promise
      }
      versions.push(version)
      if (versions.length === 3) done.resolve()
    },
  })
  t.teardown(() => poll.stop())
  poll.start()
  await told.promise
  config = configOf(after.url)
  reloaded.resolve()
  await new Promise(setImmediate)
  poll.again()
  await done.promise
  t.strictSame(versions, ['before', '', 'after'])
  poll.stop()
  poll.again()
  t.strictSame([before.polls().length, after.polls().length], [1, 1])
})

/** What a poll tells of an upstream that answers these bodies, one after the other. */
async function polled(t: Test, bodies: readonly string[], forwards = true) {
  const upstream = await startScriptedUpstream(async (x) => {
    const body = bodies[x.index] ?? '{"version":"last"}'
    const status = body === 'down' ? 503 : 200
    const length = String(Buffer.byteLength(body))
    await x.send(responseHead(status, 'X', [['Content-Length', length]]), body)
  })
  t.teardown(() => upstream.close())
  const done = Promise.withResolvers<void>()
  const versions: string[] = []
  const warned: string[] = []
  const config = resolveOptions({
    options: { proxyBaseUrl: upstream.url, policyPollPath: '/v', policyPollInterval: 0.001 },
  })
  const poll = new PolicyPoll({
    config: () => config,
    log: {
      debug: () => undefined,
      error: () => undefined,
      warn: ({ err }: { err?: string }) => warned.push(String(err)),
    },
    forwards: () => {
      if (!forwards) done.resolve()
      return forwards
    },
    onVersion: async (version) => {
      versions.push(version)
      if (version === 'last') done.resolve()
    },
  })
  poll.start()
  await done.promise
  poll.stop()
  return { versions, warned, asked: upstream.exchanges.length }
}

t.test('only changes are told; trouble is told once', async (t) => {
  const { versions, warned } = await polled(t, [
    '{"weight_version":"a"}',
    '{"weight_version":"a"}',
    'down',
    'down',
    '{"metadata":{"weight_version":7}}',
    '{"other":1}',
    `{"version":"${'x'.repeat(POLICY_ANSWER_BYTES_MAX)}"}`,
    '{"version":"a\\u0001"}',
    '{"version":"a"}',
    'x',
  ])
  t.strictSame(versions, ['a', '7', 'a', 'last'])
  t.match(warned, [/503/, /no version/, /no version/])
  t.equal(warned.length, 3)
})

t.test('while nothing is forwarded, nothing is asked', async (t) => {
  t.equal((await polled(t, [], false)).asked, 0)
})
