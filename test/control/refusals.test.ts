/**
 * Every status that the comment of a call promises is met, by real causes: the proto itself says
 * which those are, so a promise without a case fails here, and so does a case without a promise.
 */
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { status as STATUS } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import t from 'tap'
import type { Test } from 'tap'
import { ROOT } from '../../tools/tree.ts'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { GRPC_STATUS } from '../../src/errors.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import {
  EXPLAINED_AT_ONCE_MAX,
  FLUSHES_AT_ONCE_MAX,
  FREEZES_AT_ONCE_MAX,
  LOADS_AT_ONCE_MAX,
  PAUSES_MAX,
  RUNS_MAX,
  SESSION_OVERRIDES_MAX,
  WATCHERS_MAX,
} from '../../src/limits.ts'
import { IGNORE_NOTHING } from '../../src/replay/canonical.ts'
import { explainAside } from '../../src/supervisor/explain-aside.ts'
import { SessionLog } from '../../src/trajectory/session-log.ts'
import { ControlClient, encode } from '../support/control-client.ts'
import type { Sent } from '../support/control-client.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { writeLines } from '../support/record-lines.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'
import { startSteered } from '../support/steered.ts'

const PROTO = join(ROOT, 'proto/rolltape/control/v1/control.proto')
const STREAMING = new Set(['LoadTape', 'WatchExchanges'])
const TIMEOUT_MS = 280_000
t.setTimeout(TIMEOUT_MS)

/** `GetSession NOT_FOUND`, …: what the comments of the calls promise besides OK. */
function promised(): string[] {
  const service = readFileSync(PROTO, 'utf8').split('service ControlService {')[1]?.split('\n}')[0]
  const blocks = [...(service ?? '').matchAll(/((?: *\/\/[^\n]*\n)+) *rpc (\w+)/g)]
  return blocks.flatMap(([, comment = '', method = '']) =>
    [...comment.matchAll(/\/\/ - ([A-Z_]+):/g)].flatMap(([, name = '']) =>
      name === 'OK' ? [] : [`${method} ${name}`],
    ),
  )
}

/** Calls a method, to its end where it streams; the name of the status that it ends with. */
async function outcomeOf(
  client: ControlClient,
  method: string,
  request: Sent = {},
  deadlineMs?: number,
): Promise<string> {
  try {
    if (!STREAMING.has(method)) await client.call(method, request, deadlineMs)
    else for await (const _ of client.watch(request, method)) continue
    return 'OK'
  } catch (error) {
    return STATUS[(error as ServiceError).code]
  }
}

/**
 * Calls so often at once; all the outcomes there were. More often than is needed to be too many: those
 * that are read last may come when those that were read first are over.
 */
async function outcomesOf(times: number, call: (n: number) => Promise<string>): Promise<string[]> {
  return [...new Set(await Promise.all(Array.from({ length: times }, (_, n) => call(n))))].sort()
}

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const folder = makeFolder(t)
const TORN = join(folder, 'torn.jsonl')
writeFileSync(TORN, 'no record\nat all\n')
const MANY = join(folder, 'many.jsonl')
writeLines(MANY, 20_000)

/** Records one exchange of session a. */
async function startRecording(t: Test) {
  const configFile = join(makeFolder(t), 'rolltape.yaml')
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  writeFileSync(configFile, 'ttfb_timeout: 60s\n')
  const sessionOverride = Object.fromEntries(
    Array.from({ length: SESSION_OVERRIDES_MAX }, (_, n) => [`s${n}`, { mode: 'passthrough' }]),
  )
  const options = { proxyBaseUrl: upstream.url, configFile, recordingFile, sessionOverride }
  const steered = await startSteered(t, options as never)
  await rawRequest(steered.url, post(`/sessions/a${CHAT}`, bodyOf('go')))
  const client = new ControlClient(t, steered.address)
  await client.call('FlushRecording')
  return { ...steered, client, configFile, recordingFile }
}

/** Replays it; session b is bound to a. */
async function startReplaying(t: Test) {
  const recorder = await startRecorder(t, upstream.url)
  await rawRequest(recorder.url, post(`/sessions/a${CHAT}`, bodyOf('go')))
  await recorder.finish()
  const steered = await startSteered(t, { replayFile: recorder.file })
  await rawRequest(steered.url, post(`/sessions/b${CHAT}`, bodyOf('go')))
  return { ...steered, client: new ControlClient(t, steered.address), file: recorder.file }
}

/** What is met by asking alone, in this order, and answered alike to whoever asks. */
type Plain = readonly [method: string, name: keyof typeof STATUS, request?: Sent]

const LONG = 'x'.repeat(2_000)

const RECORDING: readonly Plain[] = [
  ['ListSessions', 'INVALID_ARGUMENT', { 1: -1 }],
  ['GetSession', 'INVALID_ARGUMENT'],
  ['GetSession', 'NOT_FOUND', { 1: 'none' }],
  ['CloseSession', 'INVALID_ARGUMENT'],
  ['CloseSession', 'NOT_FOUND', { 1: 'none' }],
  ['CloseSession', 'NOT_FOUND', { 1: 'none', 2: 1 }],
  ['AnnotateSession', 'INVALID_ARGUMENT', { 1: 'a' }],
  ['AnnotateSession', 'NOT_FOUND', { 1: 'none', 5: 'well done' }],
  ['ListCursors', 'FAILED_PRECONDITION'],
  ['GetCursor', 'FAILED_PRECONDITION', { 2: 'a' }],
  ['SeekCursor', 'FAILED_PRECONDITION', { 2: 'a' }],
  ['ResetCursors', 'FAILED_PRECONDITION'],
  ['ForkCursor', 'FAILED_PRECONDITION', { 2: 'a', 3: 'r' }],
  ['SetMode', 'INVALID_ARGUMENT'],
  ['SetMode', 'NOT_FOUND', { 1: 3, 7: join(folder, 'none.jsonl') }],
  ['SetMode', 'FAILED_PRECONDITION', { 1: 3 }],
  ['SetMode', 'ABORTED', { 1: 1, 9: 99 }],
  ['SetMode', 'RESOURCE_EXHAUSTED', { 1: 1, 2: 'one more' }],
  ['SetMode', 'DATA_LOSS', { 1: 3, 7: TORN }],
  ['LoadTape', 'INVALID_ARGUMENT'],
  ['LoadTape', 'NOT_FOUND', { 1: join(folder, 'none.jsonl') }],
  ['LoadTape', 'DATA_LOSS', { 1: TORN }],
  ['UnloadTape', 'FAILED_PRECONDITION'],
  ['PauseAdmission', 'INVALID_ARGUMENT'],
  ['PauseAdmission', 'NOT_FOUND', { 1: 1, 2: encode({ 1: 'http://none' }) }],
  ['ResumeAdmission', 'INVALID_ARGUMENT', { 1: encode({ 2: LONG }) }],
  ['ResumeAdmission', 'NOT_FOUND', { 1: encode({ 2: 'm' }) }],
  ['SetPolicyVersion', 'INVALID_ARGUMENT', { 1: LONG }],
  ['ListUpstreams', 'INVALID_ARGUMENT', { 1: -1 }],
  ['ExplainRequest', 'FAILED_PRECONDITION'],
  ['WatchExchanges', 'INVALID_ARGUMENT', { 4: 'no token' }],
  ['Shutdown', 'INVALID_ARGUMENT', { 1: encode({ 1: -1 }) }],
]

const REPLAYING: readonly Plain[] = [
  ['CloseSession', 'FAILED_PRECONDITION', { 1: 'b', 2: 1 }],
  ['AnnotateSession', 'FAILED_PRECONDITION', { 1: 'a', 5: 'well done' }],
  ['ListCursors', 'INVALID_ARGUMENT', { 2: -1 }],
  ['GetCursor', 'INVALID_ARGUMENT'],
  ['GetCursor', 'NOT_FOUND', { 2: 'none' }],
  ['SeekCursor', 'INVALID_ARGUMENT', { 2: 'a', 3: -1 }],
  ['SeekCursor', 'NOT_FOUND', { 1: 'none', 2: 'a' }],
  ['SeekCursor', 'ABORTED', { 2: 'a', 3: 0, 4: 7 }],
  ['ResetCursors', 'NOT_FOUND', { 1: 'none' }],
  ['ForkCursor', 'INVALID_ARGUMENT', { 2: 'a', 3: 'default' }],
  ['ForkCursor', 'NOT_FOUND', { 1: 'none', 2: 'a', 3: 'r' }],
  ['RotateRecording', 'FAILED_PRECONDITION'],
  ['FlushRecording', 'FAILED_PRECONDITION'],
  ['ListUpstreams', 'FAILED_PRECONDITION'],
  ['ExplainRequest', 'INVALID_ARGUMENT', { 3: 'no json' }],
  ['WatchExchanges', 'FAILED_PRECONDITION', { 3: 'a model' }],
]

/** Lanes have ended, and only the control API is still there. */
const RECORDING_DOWN: readonly Plain[] = [
  ['ListSessions', 'UNAVAILABLE'],
  ['GetSession', 'UNAVAILABLE', { 1: 'a' }],
  ['CloseSession', 'UNAVAILABLE', { 1: 'a' }],
  ['AnnotateSession', 'UNAVAILABLE', { 1: 'a', 5: 'well done' }],
  ['ReloadConfig', 'UNAVAILABLE'],
  ['SetMode', 'UNAVAILABLE', { 1: 1 }],
  ['LoadTape', 'UNAVAILABLE', { 1: MANY }],
  ['UnloadTape', 'UNAVAILABLE'],
  ['RotateRecording', 'UNAVAILABLE'],
  ['FlushRecording', 'UNAVAILABLE'],
  ['PauseAdmission', 'UNAVAILABLE', { 1: 1 }],
  ['ResumeAdmission', 'UNAVAILABLE'],
  ['SetPolicyVersion', 'UNAVAILABLE', { 1: 'v2' }],
]

const REPLAYING_DOWN: readonly Plain[] = [
  ['ListCursors', 'UNAVAILABLE'],
  ['GetCursor', 'UNAVAILABLE', { 2: 'a' }],
  ['SeekCursor', 'UNAVAILABLE', { 2: 'a' }],
  ['ResetCursors', 'UNAVAILABLE', { 2: 'a' }],
]

/** What needs more than asking; see the tests below. */
const STAGED = [
  'CloseSession RESOURCE_EXHAUSTED',
  'AnnotateSession RESOURCE_EXHAUSTED',
  'ForkCursor RESOURCE_EXHAUSTED',
  'ReloadConfig INVALID_ARGUMENT',
  'ReloadConfig FAILED_PRECONDITION',
  'LoadTape FAILED_PRECONDITION',
  'LoadTape RESOURCE_EXHAUSTED',
  'FlushRecording RESOURCE_EXHAUSTED',
  'PauseAdmission DEADLINE_EXCEEDED',
  'PauseAdmission RESOURCE_EXHAUSTED',
  'ExplainRequest DATA_LOSS',
  'ExplainRequest RESOURCE_EXHAUSTED',
  'ExplainRequest UNAVAILABLE',
  'WatchExchanges RESOURCE_EXHAUSTED',
]

const nameOf = ([method, name]: Plain): string => `${method} ${name}`

t.test('each promise of a comment has a case, and each case a promise', async (t) => {
  const plain = [...RECORDING, ...REPLAYING, ...RECORDING_DOWN, ...REPLAYING_DOWN].map(nameOf)
  t.strictSame([...new Set([...plain, ...STAGED])].sort(), promised().sort())
})

/** By a client that has no word of ours: grpcio, for which the bytes of the requests are enough. */
const SCRIPT = `
import json, sys, grpc
address, cases = json.load(sys.stdin)
same = lambda message: message
with grpc.insecure_channel(address) as channel:
    for method, streams, request in cases:
        make = channel.unary_stream if streams else channel.unary_unary
        call = make("/rolltape.control.v1.ControlService/" + method, same, same)
        try:
            answer = call(bytes.fromhex(request), timeout=120)
            if streams: list(answer)
            print(method, "OK")
        except grpc.RpcError as error:
            print(method, error.code().name)
`
/** Debian's, which has Debian's grpcio. */
const PYTHON = '/usr/bin/python3'
const hasPython = spawnSync(PYTHON, ['-I', '-c', 'import grpc']).status === 0

async function checkPlain(t: Test, client: ControlClient, cases: readonly Plain[]): Promise<void> {
  const met: string[] = []
  for (const [method, , request] of cases) {
    met.push(`${method} ${await outcomeOf(client, method, request)}`)
  }
  t.strictSame(met, cases.map(nameOf))
}

/** All at once, as each waits a while for lanes that do not come. */
async function checkDown(t: Test, client: ControlClient, cases: readonly Plain[]): Promise<void> {
  const met = cases.map(async ([method, , request]) => {
    return `${method} ${await outcomeOf(client, method, request)}`
  })
  t.strictSame(await Promise.all(met), cases.map(nameOf))
}

async function checkByPython(t: Test, address: string, cases: readonly Plain[]): Promise<void> {
  if (!hasPython) return t.comment('python3-grpcio is not there, so it does not ask as well')
  const asked = cases.map(([method, , request = {}]) => {
    return [method, STREAMING.has(method), encode(request).toString('hex')]
  })
  const input = JSON.stringify([address, asked])
  const told = await new Promise<string>((resolve, reject) => {
    const child = execFile(PYTHON, ['-I', '-c', SCRIPT], (error, stdout) => {
      if (error === null) resolve(stdout)
      else reject(error)
    })
    child.stdin?.end(input)
  })
  t.strictSame(told.trim().split('\n'), cases.map(nameOf), 'by grpcio')
}

t.test('of a rolltape that records', async (t) => {
  const { address, client, supervisor } = await startRecording(t)
  await checkPlain(t, client, RECORDING)
  await checkByPython(t, address, RECORDING)
  t.equal(await outcomeOf(client, 'LoadTape', { 1: MANY }), 'OK')
  mkdirSync(supervisor.recording!.annotationsFile)
  await supervisor.close(0)
  await checkDown(t, client, RECORDING_DOWN)
})

t.test('of one that replays', async (t) => {
  const { address, client, supervisor } = await startReplaying(t)
  await checkPlain(t, client, REPLAYING)
  await checkByPython(t, address, REPLAYING)
  await supervisor.close(0)
  await checkDown(t, client, REPLAYING_DOWN)
})

t.test('of one that has too much of something', async (t) => {
  const { client } = await startReplaying(t)
  const fork = (n: number): Promise<string> =>
    outcomeOf(client, 'ForkCursor', { 2: 'a', 3: `r${n}` })
  for (let n = 1; n < RUNS_MAX; n++) await fork(n)
  t.equal(await fork(RUNS_MAX), 'RESOURCE_EXHAUSTED')
  const explained = await outcomesOf(4 * EXPLAINED_AT_ONCE_MAX, () =>
    outcomeOf(client, 'ExplainRequest', { 3: bodyOf('go') }),
  )
  t.strictSame(explained, ['OK', 'RESOURCE_EXHAUSTED'], 'explained')
  const watches = Array.from({ length: WATCHERS_MAX }, () => client.watch())
  const refused = Promise.withResolvers<string>()
  for (const watch of watches) watch.on('error', () => undefined)
  const last = client.watch()
  last.on('error', ({ code }: ServiceError) => refused.resolve(STATUS[code]))
  t.equal(await refused.promise, 'RESOURCE_EXHAUSTED')
  for (const watch of watches) watch.cancel()
})

t.test('of one that records, and has too much of something', async (t) => {
  // Who asked the appender's thread once had a listener each: a burst of flushes was warned of.
  const warned: string[] = []
  const onWarning = ({ name }: Error): unknown => warned.push(name)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  const { client, configFile, recordingFile } = await startRecording(t)
  t.equal(await outcomeOf(client, 'LoadTape', { 1: recordingFile }), 'FAILED_PRECONDITION')
  const loaded = await outcomesOf(2 * LOADS_AT_ONCE_MAX, () =>
    outcomeOf(client, 'LoadTape', { 1: MANY }),
  )
  t.strictSame(loaded, ['OK', 'RESOURCE_EXHAUSTED'], 'loaded')
  const flushed = await outcomesOf(4 * FLUSHES_AT_ONCE_MAX, () =>
    outcomeOf(client, 'FlushRecording'),
  )
  t.strictSame(flushed, ['OK', 'RESOURCE_EXHAUSTED'], 'flushed')
  t.strictSame(warned, [])
  const pause = (n: number): Promise<string> =>
    outcomeOf(client, 'PauseAdmission', { 1: 1, 2: encode({ 2: `m${n}` }) })
  t.strictSame(await outcomesOf(PAUSES_MAX, pause), ['OK'])
  t.equal(await pause(PAUSES_MAX), 'RESOURCE_EXHAUSTED')
  writeFileSync(configFile, 'ttfb_timeout: [')
  t.equal(await outcomeOf(client, 'ReloadConfig'), 'INVALID_ARGUMENT')
  writeFileSync(configFile, 'host: 127.0.0.2\n')
  t.equal(await outcomeOf(client, 'ReloadConfig'), 'FAILED_PRECONDITION')
})

t.test('of one whose exchange in flight does not end', async (t) => {
  const slow = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('part')),
  )
  t.teardown(() => slow.close())
  const { address, url } = await startSteered(t, { proxyBaseUrl: slow.url })
  const open = await RawClient.open(url)
  open.send(post(CHAT, '{}'))
  await open.until((bytes) => bytes.includes('part'))
  const client = new ControlClient(t, address)
  t.equal(await outcomeOf(client, 'PauseAdmission', { 1: 3 }, 300), 'DEADLINE_EXCEEDED')
  open.close()
})

t.test('of one in which more freezes wait than may, or more sessions have finished', async (t) => {
  const gate = Promise.withResolvers<void>()
  const slow = await startScriptedUpstream(async (x) => {
    await x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('part'))
    await gate.promise
    await x.send('0\r\n\r\n')
  })
  t.teardown(() => slow.close())
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { address, url } = await startSteered(t, { proxyBaseUrl: slow.url, recordingFile })
  const client = new ControlClient(t, address)
  const running = Array.from({ length: FREEZES_AT_ONCE_MAX + 1 }, async (_, n) => {
    const one = await RawClient.open(url)
    one.send(post(`/sessions/s${n}${CHAT}`, bodyOf('go')))
    await one.until((bytes) => bytes.includes('part'))
    return one
  })
  const open = await Promise.all(running)
  const met = await outcomesOf(open.length, async (n) => {
    const outcome = await outcomeOf(client, 'CloseSession', { 1: `s${n}`, 2: 1 }, 25_000)
    // Whoever is told first is the one too many: the others wait for the calls in flight.
    gate.resolve()
    return outcome
  })
  t.strictSame(met, ['OK', 'RESOURCE_EXHAUSTED'])
  for (const one of open) one.close()

  const path = join(makeFolder(t), 'a.annotations.jsonl')
  const log = await SessionLog.open({ path, synced: false, finishedMax: 2 })
  const done = (session: string) => () =>
    log.annotate({ session, done: true }, { turns: 1, seq: 1 })
  for (const session of ['a', 'b', 'a']) t.doesNotThrow(done(session))
  t.throws(done('c'), { code: 'over_capacity' })
  t.equal(GRPC_STATUS.over_capacity, 'RESOURCE_EXHAUSTED')
  t.doesNotThrow(() => log.annotate({ session: 'c', note: 'x' }, { turns: 1, seq: 1 }))
})

t.test('of one whose recording is damaged, or that stops meanwhile', async (t) => {
  const { client, file } = await startReplaying(t)
  writeFileSync(file, 'no record\n')
  t.equal(await outcomeOf(client, 'ExplainRequest'), 'DATA_LOSS')
  // Whoever still hears of it then has lost the connection, which grpc-js calls the same.
  const asked = { file: MANY, head: 'POST /', body: {}, ignore: IGNORE_NOTHING }
  const stopping = new AbortController()
  const explained = t.rejects(explainAside(asked, stopping.signal), { code: 'draining' })
  stopping.abort()
  await explained
  t.equal(GRPC_STATUS.draining, 'UNAVAILABLE')
})
