/** Every call, by a client that learns the service from the server: what it answers, what it refuses. */
import { join } from 'node:path'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { OPTION_KEYS, names } from '../../src/options/definitions.ts'
import {
  ask,
  askUntil,
  bufCurl,
  refusal,
  SERVICE,
  startControlled,
  testWithBuf,
} from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const CHAT = '/v1/chat/completions'
const BODY = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'Hi' }] })

testWithBuf('reflection names the services, health says that it serves', async (t) => {
  const { address } = await startControlled(t, { proxyBaseUrl: upstream.url })
  for (const service of ['', SERVICE]) {
    const health = await ask(address, 'grpc.health.v1.Health/Check', { service })
    t.strictSame(health, { status: 'SERVING' }, service)
  }
  const unknown = await refusal(address, 'grpc.health.v1.Health/Check', { service: 'no.such' })
  t.equal(unknown[0], 'not_found')
  const [status, message] = await refusal(address, `${SERVICE}/NoSuch`)
  t.match(`${status} ${message}`, /NoSuch/)
})

testWithBuf('GetStatus tells of lanes, recording and counters while recording', async (t) => {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const options = { proxyBaseUrl: upstream.url, recordingFile, lanes: 1 }
  const { address, url } = await startControlled(t, options)
  for (let i = 0; i < 3; i++) await rawRequest(url, post(CHAT, BODY))
  await ask(address, 'FlushRecording')
  const status = await askUntil(address, 'GetStatus', ({ lanes, recording }) => {
    const [lane] = lanes as { responsive?: boolean }[]
    return lane?.responsive === true && 'records' in (recording as object)
  })
  t.match(status, {
    version: /^\d+\.\d+\.\d+/,
    startTime: /^20\d\d-/,
    uptime: /^[\d.]+s$/,
    state: 'STATE_SERVING',
    mode: 'MODE_RECORD',
    generation: '1',
    url,
    pid: String(process.pid),
    lanes: [{ responsive: true }],
    recording: {
      file: recordingFile,
      tapeFolder: recordingFile.replace('.jsonl', '.tape'),
      segments: ['0-000001.tape'],
      records: '3',
      writable: true,
    },
    counters: { exchanges: '3', egress: '3' },
  })
  const recording = status['recording'] as Record<string, string>
  t.notOk('lagExchanges' in recording, 'nothing is behind after a flush')
  t.ok(Number(recording['tapeBytes']) > 1_000)
  t.ok(Number(recording['recordBytes']) > 1_000)
  t.notOk('replay' in status)
})

testWithBuf('GetStatus and ExplainRequest tell of a replay', async (t) => {
  const recorder = await startRecorder(t, upstream.url)
  await rawRequest(recorder.url, post(`/sessions/s1${CHAT}`, BODY))
  const [record] = await recorder.finish()
  const { address, url } = await startControlled(t, { replayFile: recorder.file })
  await rawRequest(url, post(CHAT, BODY))
  await rawRequest(url, post(CHAT, '{"model":"other"}'))
  const status = await ask(address, 'GetStatus')
  t.match(status, {
    mode: 'MODE_REPLAY',
    replay: {
      file: recorder.file,
      records: '1',
      sessions: '1',
      verdict: { servedExact: '1', missed: '1' },
    },
  })
  t.notOk('egress' in (status['replay'] as object), 'no request went out')
  t.notOk('recording' in status)

  const body = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64')
  const asked = JSON.parse(BODY) as object
  t.match(await ask(address, 'ExplainRequest', { body: body(asked) }), {
    found: true,
    key: /^[0-9a-f]{32}$/,
    nearest: { id: record!.id, session: 's1', turn: '1' },
    text: /^recorded as /,
  })
  t.match(await ask(address, 'ExplainRequest', { body: body({ ...asked, seed: 7 }) }), {
    nearest: { id: record!.id },
    differences: [{ pointer: '/seed', asked: 7 }],
    ignore: ['/seed'],
    text: /--ignore '\/seed'/,
  })
  const elsewhere = await ask(address, 'ExplainRequest', { path: '/v1/embeddings', body: body({}) })
  t.notOk('nearest' in elsewhere)
  t.match(elsewhere, { text: /nothing is recorded for this method and path/ })

  const bad = Buffer.from('no json').toString('base64')
  t.match(await refusal(address, 'ExplainRequest', { body: bad }), ['invalid_argument', /^body /])
  t.match(await refusal(address, 'ExplainRequest', { path: 'v1' }), [
    'invalid_argument',
    /^path is "v1"/,
  ])
  t.match(await refusal(address, 'ListUpstreams'), ['failed_precondition', /^in mode replay/])
  t.match(await refusal(address, 'FlushRecording'), [
    'failed_precondition',
    /^mode is replay, and nothing is recorded \(start rolltape with --recording-file\)/,
  ])
})

testWithBuf(
  'GetConfig has every option, its origin, and of a secret no more than where it is',
  async (t) => {
    const folder = t.testdir({ key: 'sk-secret-value\n' })
    const { address } = await startControlled(t, {
      proxyBaseUrl: upstream.url,
      upstreamApiKey: `file:${folder}/key`,
      requestTimeout: '90s',
      tag: { run: 17 },
    })
    const { stderr, messages } = await bufCurl(address, 'GetConfig')
    const { entries } = messages[0] as {
      entries: { key: string; value: unknown; origin: string }[]
    }
    t.strictSame(
      entries.map(({ key }) => key),
      OPTION_KEYS.map((key) => names(key).yaml),
    )
    const given = Object.fromEntries(
      entries.map(({ key, value, origin }) => [key, [value, origin]]),
    )
    t.match(given, {
      proxy_base_url: [[upstream.url], 'ORIGIN_OPTION'],
      upstream_api_key: [`file:${folder}/key`, 'ORIGIN_OPTION'],
      request_timeout: ['90s', 'ORIGIN_OPTION'],
      connect_timeout: ['30s', 'ORIGIN_DEFAULT'],
      tag: [{ run: '17' }, 'ORIGIN_OPTION'],
      recording_file: [null, 'ORIGIN_DEFAULT'],
    })
    t.notMatch(JSON.stringify(messages) + stderr, 'sk-secret-value')
  },
)

testWithBuf('ListUpstreams pages, counts tries, and has the last failure', async (t) => {
  const dead = 'http://127.0.0.1:9'
  const { address, url } = await startControlled(t, {
    proxyRules: { demo: upstream.url, gone: dead },
  })
  await rawRequest(url, post(CHAT, BODY))
  await rawRequest(url, post(CHAT, BODY.replace('demo', 'gone')))
  type Listed = { upstreams: { baseUrl: string; requests?: string }[] }
  const { upstreams } = (await askUntil(address, 'ListUpstreams', (answer) =>
    (answer as Listed).upstreams.every(({ requests }) => requests !== undefined),
  )) as Listed
  t.equal(upstreams.length, 2)
  t.match(
    upstreams.find(({ baseUrl }) => baseUrl === dead),
    {
      requests: '1',
      failures: '1',
      lastError: { code: 'upstream_unreachable', message: /cannot reach/, time: /^20\d\d-/ },
    },
  )
  const alive = upstreams.find(({ baseUrl }) => baseUrl === upstream.url)
  t.strictSame(alive, { baseUrl: upstream.url, requests: '1' }, 'nothing is in flight any more')

  const seen: string[] = []
  let pageToken = ''
  do {
    const page = await ask(address, 'ListUpstreams', { pageSize: 1, pageToken })
    const entries = page['upstreams'] as { baseUrl: string }[]
    t.equal(entries.length, 1)
    seen.push(...entries.map(({ baseUrl }) => baseUrl))
    pageToken = (page['nextPageToken'] as string | undefined) ?? ''
  } while (pageToken !== '')
  t.strictSame(seen, [dead, upstream.url].sort())

  for (const [request, message] of [
    [{ pageSize: -1 }, /^page_size is -1/],
    [{ pageToken: 'x' }, /^page_token /],
  ] as const) {
    t.match(await refusal(address, 'ListUpstreams', request), ['invalid_argument', message])
  }
})

testWithBuf(
  'FlushRecording, ExplainRequest and a filter by outcome need what they tell of',
  async (t) => {
    const { address } = await startControlled(t, { proxyBaseUrl: upstream.url })
    t.match(await refusal(address, 'FlushRecording'), [
      'failed_precondition',
      /nothing is recorded/,
    ])
    t.match(await refusal(address, 'ExplainRequest'), ['failed_precondition', /--replay-file/])
    t.match(await refusal(address, 'WatchExchanges', { models: ['demo'] }), [
      'failed_precondition',
      /nothing is recorded/,
    ])
  },
)

testWithBuf('Shutdown answers, and then everything is down', async (t) => {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { address, url, rolltape } = await startControlled(t, {
    proxyBaseUrl: upstream.url,
    recordingFile,
  })
  t.match(await refusal(address, 'Shutdown', { drainTimeout: '-1s' }), [
    'invalid_argument',
    /^drain_timeout is -1 s/,
  ])
  t.match(await refusal(address, 'Shutdown', { drainTimeout: '9999999s' }), [
    'invalid_argument',
    /24 days/,
  ])
  await rawRequest(url, post(CHAT, BODY))
  const asked = Date.now()
  const reply = await ask(address, 'Shutdown', { drainTimeout: '3.5s' })
  t.match(reply, { state: 'STATE_DRAINING' })
  const deadlineMs = Date.parse(String(reply['deadline'])) - asked
  t.ok(deadlineMs > 3_000 && deadlineMs < 60_000, `in ${deadlineMs} ms`)
  t.match(await rolltape.closed, { cut: 0, records: 1, trouble: null })
  t.equal((await recordsOf(recordingFile)).length, 1)
  await t.rejects(fetch(`${url}/readyz`))
  t.not((await bufCurl(address, 'GetStatus')).code, 0, 'nobody answers any more')
})
