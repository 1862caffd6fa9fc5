/** SetMode: the process or one session is served in another mode once the call has answered. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { status } from '@grpc/grpc-js'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { rolltape } from '../cli/harness.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import { ask, refusal, startControlled, testWithBuf } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

/** A recording of one request, and a rolltape in front of the upstream that records another. */
async function setUp(t: Test, options: RolltapeOptions = {}) {
  const a = await startRecorder(t, upstream.url)
  await rawRequest(a.url, post(CHAT, bodyOf('taped')))
  await a.finish()
  const b = join(makeFolder(t), 'b.jsonl')
  const more = { recordingFile: b, match: 'pooled', onExhausted: 'repeat_last' } as const
  const controlled = await startControlled(t, { proxyBaseUrl: upstream.url, ...more, ...options })
  const { url, address, rolltape } = controlled
  /** Whether the request went to the upstream. */
  const goesLive = async (session = 's'): Promise<boolean> => {
    const before = rolltape.egressTotal
    await rawRequest(url, post(`/sessions/${session}${CHAT}`, bodyOf('taped')))
    return rolltape.egressTotal > before
  }
  return { a: a.file, b, url, address, goesLive }
}

for (const lanes of [1, 2]) {
  testWithBuf(`the process goes to replay and back, lanes ${lanes}`, async (t) => {
    const { a, address, goesLive } = await setUp(t, { lanes })
    t.strictSame(await ask(address, 'SetMode', { mode: 'MODE_REPLAY', replayFile: a }), {
      previousMode: 'MODE_RECORD',
      mode: 'MODE_REPLAY',
      generation: '2',
    })
    const told = await ask(address, 'GetStatus')
    t.match(told, { mode: 'MODE_REPLAY', generation: '2', replay: { file: a, records: '1' } })
    t.equal((told['lanes'] as unknown[]).length, lanes)
    const live = await Promise.all(Array.from({ length: 20 }, () => goesLive()))
    t.strictSame(new Set(live), new Set([false]), 'no connection to any lane asks the upstream')
    t.match(await ask(address, 'SetMode', { mode: 'MODE_RECORD', expectedGeneration: '2' }), {
      previousMode: 'MODE_REPLAY',
      generation: '3',
    })
    t.ok(await goesLive())
  })
}

testWithBuf('a session gets settings one after the other, and loses them all', async (t) => {
  const { a, address, goesLive } = await setUp(t)
  const client = new ControlClient(t, address)
  const first = await client.call('SetMode', { 1: 3, 2: 's1', 7: a })
  t.strictSame(
    [1, 2, 3].map((field) => numberOf(first, field)),
    [2, 3, 2],
    'record, now replay',
  )
  t.equal(numberOf(messageOf(first, 4), 1), 3)
  t.strictSame([await goesLive('s1'), await goesLive('s2')], [false, true])
  const second = await client.call('SetMode', { 2: 's1', 3: 'x4', 4: 2, 5: 0 })
  const own = messageOf(second, 4)!
  t.strictSame([numberOf(own, 1), textOf(own, 2), numberOf(own, 3)], [3, 'x4', 2])
  t.strictSame(own.get(4), [0], 'no turns is not the same as nothing said')
  const cleared = await client.call('SetMode', { 2: 's1', 6: 1 })
  t.strictSame(
    [1, 2, 3].map((field) => numberOf(cleared, field)),
    [3, 2, 4],
  )
  t.notOk(cleared.has(4))
  t.ok(await goesLive('s1'))
})

testWithBuf('another file is recorded to from the answer on', async (t) => {
  const { b, address, goesLive } = await setUp(t)
  await goesLive()
  const c = join(dirname(b), 'c.jsonl')
  await ask(address, 'SetMode', { mode: 'MODE_RECORD', recordingFile: c })
  await goesLive()
  await goesLive()
  t.match(await ask(address, 'FlushRecording'), { recording: { file: c } })
  const lines = [b, c].map((file) => readFileSync(file, 'utf8').split('\n').length - 1)
  t.strictSame(lines, [1, 2])
})

testWithBuf('what cannot be is refused, and changes nothing', async (t) => {
  const { a, b, address } = await setUp(t)
  const bad = 'invalid_argument'
  const cases: [object, string, RegExp][] = [
    [{}, bad, /^mode is unspecified/],
    [{ session: 's' }, bad, /^mode is unspecified/],
    [{ session: 's', pace: 'x2', replayFile: a }, bad, /^mode is unspecified/],
    [{ mode: 99 }, bad, /^mode is 99/],
    [{ mode: 'MODE_RECORD', pace: 'x2' }, bad, /^session is empty, and pace/],
    [{ clear: true }, bad, /^session is empty, and clear/],
    [{ session: 's', clear: true, mode: 'MODE_RECORD' }, bad, /^clear /],
    [{ session: 's', pace: 'soon' }, bad, /^pace is "soon"/],
    [{ session: 's', shape: 7 }, bad, /^shape is 7/],
    [{ session: 's', replayTurns: '-1' }, bad, /^replay_turns is -1/],
    [{ session: 'x'.repeat(300), pace: 'x2' }, bad, /^session: .* 300 bytes/],
    [{ mode: 'MODE_REPLAY' }, 'failed_precondition', /no recording is loaded/],
    [{ mode: 'MODE_REPLAY', replayFile: b }, 'failed_precondition', /is recorded to/],
    [{ mode: 'MODE_REPLAY', replayFile: `${a}.gone` }, 'not_found', /gone/],
    [
      { mode: 'MODE_PASSTHROUGH', expectedGeneration: '7' },
      'aborted',
      /^generation 7 is expected, and it is 1/,
    ],
    [
      { mode: 'MODE_RECORD', recordingFile: join(b, 'c.jsonl') },
      'failed_precondition',
      /cannot record to/,
    ],
  ]
  for (const [request, code, message] of cases) {
    t.match(await refusal(address, 'SetMode', request), [code, message], JSON.stringify(request))
  }
  t.match(await ask(address, 'GetStatus'), { mode: 'MODE_RECORD', generation: '1' })
  const client = new ControlClient(t, address)
  await t.rejects(client.call('SetMode', { 1: 2, 9: 0 }), { code: status.ABORTED })
})

testWithBuf('ctl mode, for people and as JSON', async (t) => {
  const { a, address } = await setUp(t)
  const ctl = (...argv: string[]) => rolltape(['ctl', 'mode', ...argv, '--control', address])
  t.match(await ctl('replay', '--session', 's1', '--pace', 'x4', '--replay-file', a), {
    code: 0,
    stdout:
      /^mode +replay, before record, generation 2\nsession +s1\nits own +mode replay, pace x4\n$/,
  })
  t.match(JSON.parse((await ctl('--session', 's1', '--shape', 'single', '--json')).stdout), {
    mode: 'MODE_REPLAY',
    settings: { pace: 'x4', shape: 'SHAPE_SINGLE' },
  })
  t.match(await ctl('--session', 's1', '--clear'), { stdout: /^mode +record, before replay/ })
  t.match(await ctl('recrod'), { code: 2, stderr: /'recrod' is not one of passthrough, record/ })
  t.match(await ctl('--session', 's', '--replay-turns', 'x'), { code: 2, stderr: /--replay-turns/ })
  t.match(await ctl('record', '--expected-generation', '1'), { code: 5, stderr: /\[ABORTED\]/ })
})
