/** LoadTape and UnloadTape: the recording to answer from is changed while rolltape runs. */
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { rolltape } from '../cli/harness.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import type { Fields } from '../support/control-client.ts'
import { ask, bufCurl, refusal, startControlled, testWithBuf } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }
const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

/** A recording of so many requests. */
async function record(t: Test, count: number): Promise<string> {
  const recorder = await startRecorder(t, upstream.url)
  for (let i = 0; i < count; i++) await rawRequest(recorder.url, post(CHAT, bodyOf('taped')))
  await recorder.finish()
  return recorder.file
}

async function setUp(t: Test, options: RolltapeOptions = {}) {
  const b = join(makeFolder(t), 'b.jsonl')
  const all = { proxyBaseUrl: upstream.url, recordingFile: b, lanes: 2, ...options }
  const controlled = await startControlled(t, all)
  const send = async (): Promise<number> =>
    (await rawRequest(controlled.url, post(CHAT, bodyOf('taped')))).status
  return { b, send, ...controlled }
}

testWithBuf('progress, then what was reached; requests are answered from it', async (t) => {
  const { address, send, rolltape: running } = await setUp(t)
  const file = await record(t, 2)
  const { code, messages } = await bufCurl(address, 'LoadTape', { file })
  t.equal(code, 0)
  const last = messages.at(-1)
  t.match(messages[0], { progress: { doneBytes: /^\d+$/, totalBytes: /^\d+$/ } })
  t.match(last, {
    loaded: { replay: { file, records: '2' }, mode: 'MODE_RECORD', generation: '2' },
  })
  t.equal(await send(), 200)
  t.equal(running.egressTotal, 1, 'the mode is as it was')
  await ask(address, 'SetMode', { mode: 'MODE_REPLAY' })
  t.strictSame([await send(), await send(), await send()], [200, 200, 404])
  t.equal(running.egressTotal, 1)
  t.match(await ask(address, 'GetStatus'), { replay: { verdict: { servedExact: '2' } } })
  await bufCurl(address, 'LoadTape', { file })
  t.strictSame([await send(), await send(), await send()], [200, 200, 404], 'it is read anew')
  const verdict = { servedExact: '2', exhausted: '1' }
  t.match(await ask(address, 'GetStatus'), { replay: { verdict } }, 'a verdict is of one source')
})

testWithBuf('unload: refused while somebody needs it, then all of it is gone', async (t) => {
  const { address, send } = await setUp(t)
  t.match(await refusal(address, 'UnloadTape'), ['failed_precondition', /nothing is replayed/])
  const file = await record(t, 1)
  await bufCurl(address, 'LoadTape', { file })
  await ask(address, 'SetMode', { mode: 'MODE_REPLAY' })
  const needed = ['failed_precondition', /^mode replay is in force and answers from .*a\.jsonl/]
  t.match(await refusal(address, 'UnloadTape'), needed)
  t.equal(await send(), 200)
  await ask(address, 'SetMode', { mode: 'MODE_RECORD' })
  await ask(address, 'SetMode', { mode: 'MODE_REPLAY', session: 's' })
  t.match(await refusal(address, 'UnloadTape'), needed, 'a session needs it')
  await ask(address, 'SetMode', { session: 's', clear: true })
  t.strictSame(await ask(address, 'UnloadTape'), { file, mode: 'MODE_RECORD', generation: '7' })
  t.notOk('replay' in (await ask(address, 'GetStatus')))
  t.match(await refusal(address, 'SetMode', { mode: 'MODE_REPLAY' }), [
    'failed_precondition',
    /no recording is loaded/,
  ])
  t.match(await refusal(address, 'ExplainRequest'), ['failed_precondition', /nothing is replayed/])
  t.equal(await send(), 200)
})

testWithBuf('calls at once come one after the other', async (t) => {
  const { address } = await setUp(t)
  const files = await Promise.all([1, 2, 3].map((count) => record(t, count)))
  const client = new ControlClient(t, address)
  const generations = await Promise.all(
    files.map(async (file) => {
      let loaded: Fields | undefined
      for await (const message of client.watch({ 1: file }, 'LoadTape')) {
        loaded = messageOf(message as Fields, 2)
      }
      t.equal(textOf(messageOf(loaded!, 1)!, 1), file, 'each is told of its own')
      return numberOf(loaded, 3)
    }),
  )
  t.strictSame(generations, [2, 3, 4])
  t.match(await ask(address, 'GetStatus'), { replay: { file: files[2], records: '3' } })
})

testWithBuf('what cannot be loaded leaves what is', async (t) => {
  const { b, address } = await setUp(t)
  const file = await record(t, 1)
  const broken = join(dirname(file), 'broken.jsonl')
  writeFileSync(broken, '{"model": \n{}\n')
  await bufCurl(address, 'LoadTape', { file })
  for (const [request, code, message] of [
    [{}, 'invalid_argument', /^file is empty/],
    [{ file: `${file}.gone` }, 'not_found', /gone/],
    [{ file: dirname(file) }, 'not_found', /no tape in the folder/],
    [{ file: b }, 'failed_precondition', /is recorded to/],
    [{ file: broken }, 'data_loss', /broken\.jsonl/],
  ] as const) {
    t.match(await refusal(address, 'LoadTape', request), [code, message], JSON.stringify(request))
  }
  t.match(await ask(address, 'GetStatus'), { generation: '2', replay: { file } })
})

t.test('a load that nobody waits for is dropped, and keeps no switch waiting', async (t) => {
  const [first, second] = [await record(t, 1), await record(t, 2)]
  const config = resolveOptions({
    options: { port: 0, proxyBaseUrl: upstream.url, replayFile: first, mode: 'hybrid' },
  })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const leaving = new AbortController()
  const leave = { onProgress: () => leaving.abort(), signal: leaving.signal }
  const dropped = supervisor.switch({ replayFile: second }, leave)
  const queued = supervisor.switch({ replayFile: second }, leave)
  await t.rejects(dropped, { code: 'deadline_passed', message: /stays/ })
  await t.rejects(queued, { code: 'deadline_passed' })
  t.equal(supervisor.replay?.file, first)
  const order: string[] = []
  let switched: Promise<unknown> | undefined
  const waits = {
    signal: new AbortController().signal,
    onProgress: () => {
      switched ??= supervisor.switch({ mode: 'passthrough' }).then(() => order.push('switch'))
    },
  }
  await supervisor.switch({ replayFile: second }, waits).then(() => order.push('load'))
  await switched
  t.strictSame(order, ['switch', 'load'])
  t.match(supervisor.modes, { mode: 'passthrough', generation: 3 })
  t.equal(supervisor.replay?.file, second)
})

testWithBuf('ctl load and ctl unload', async (t) => {
  const { address } = await setUp(t)
  const file = await record(t, 1)
  const ctl = (...argv: string[]) => rolltape(['ctl', ...argv, '--control', address])
  t.match(await ctl('load', file), {
    code: 0,
    stdout: /^replay +\S+a\.jsonl: 1 records, 1 sessions\nmode +record, generation 2\n$/,
    stderr: '',
  })
  t.match(await ctl('unload'), { code: 0, stdout: /^left +\S+a\.jsonl\nmode +record, gen/ })
  t.match(await ctl('load', `${file}.gone`), { code: 6, stderr: /\[NOT_FOUND\]/ })
  const { stdout } = await ctl('load', file, '--json')
  t.match(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''), { loaded: { generation: 4 } })
})
