/** PauseAdmission and ResumeAdmission: what waits, what is cancelled, and what a deadline leaves. */
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { rolltape } from '../cli/harness.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import { ask, refusal, startControlled, testWithBuf } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

/** Two lanes in front of an upstream that answers `slow` only once the gate is open. */
async function setUp(t: Test) {
  const gate = Promise.withResolvers<void>()
  let asked = 0
  const upstream = await startScriptedUpstream(async (x) => {
    asked++
    if (x.body.includes('slow')) await gate.promise
    return x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
  })
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const options = { proxyBaseUrl: upstream.url, recordingFile: file, lanes: 2 }
  const { address, url, rolltape } = await startControlled(t, options)
  t.teardown(() => gate.resolve())
  const send = async (content: string, model = 'm'): Promise<number> =>
    (await rawRequest(url, post(CHAT, bodyOf(content, { model })))).status
  const reached = async (count: number): Promise<void> => {
    while (asked < count) await new Promise((resolve) => setImmediate(resolve))
  }
  /** Waits until so many requests are held, by what the lanes say. */
  const held = async (count: number): Promise<Record<string, unknown>> => {
    for (;;) {
      const told = await ask(address, 'GetStatus')
      const lanes = told['lanes'] as { held?: string }[]
      if (lanes.reduce((sum, lane) => sum + Number(lane.held ?? 0), 0) === count) return told
    }
  }
  return { address, file, rolltape, base: upstream.url, gate, send, reached, held }
}

testWithBuf('hold and resume: what is in flight and what waits is told', async (t) => {
  const { address, send, reached, held, gate } = await setUp(t)
  const slow = send('slow')
  await reached(1)
  t.strictSame(await ask(address, 'PauseAdmission', { policy: 'ADMISSION_POLICY_HOLD' }), {
    pauses: [{ policy: 'ADMISSION_POLICY_HOLD', scope: {} }],
    inFlight: '1',
  })
  const waiting = Array.from({ length: 10 }, (_, i) => send(`${i}`))
  t.match(await held(10), {
    lanes: [{ lane: undefined }, { lane: 1 }],
    pauses: [{ policy: 'ADMISSION_POLICY_HOLD' }],
  })
  const again = await ask(address, 'PauseAdmission', {
    policy: 'ADMISSION_POLICY_HOLD',
    scope: { model: 'other' },
  })
  t.match(again, { held: '10' })
  t.notOk('inFlight' in again, 'nothing is in flight for that model')
  const scope = { scope: { model: 'other' } }
  t.match(await ask(address, 'ResumeAdmission', scope), { pauses: { length: 1 }, held: '10' })
  const resumed = await ask(address, 'ResumeAdmission')
  t.notOk('pauses' in resumed)
  t.strictSame(new Set(await Promise.all(waiting)), new Set([200]))
  gate.resolve()
  t.equal(await slow, 200)
})

testWithBuf('reject: of one model only, and only until it is resumed', async (t) => {
  const { address, send } = await setUp(t)
  const scope = { model: 'big' }
  await ask(address, 'PauseAdmission', { policy: 'ADMISSION_POLICY_REJECT', scope })
  t.strictSame([await send('x', 'big'), await send('x', 'small')], [429, 200])
  await ask(address, 'ResumeAdmission', { scope })
  t.equal(await send('x', 'big'), 200)
})

testWithBuf('drain: the answer comes when what was in flight has ended', async (t) => {
  const { address, send, reached, gate } = await setUp(t)
  const slow = [send('slow'), send('slow')]
  await reached(2)
  const client = new ControlClient(t, address)
  const drained = client.call('PauseAdmission', { 1: 3 })
  const later = (async () => {
    for (;;) {
      const pauses = (await client.call('GetStatus')).get(13)
      if (pauses !== undefined) return gate.resolve()
    }
  })()
  const reply = await drained
  await later
  t.strictSame(await Promise.all(slow), [200, 200])
  t.strictSame(
    [2, 3, 4].map((field) => numberOf(reply, field)),
    [0, 0, 0],
  )
  t.equal(numberOf(messageOf(reply, 1), 1), 1, 'from now on it holds')
})

testWithBuf('drain: a deadline that passes leaves the pause, and the error says so', async (t) => {
  const { address, send, reached, held, gate } = await setUp(t)
  const slow = send('slow')
  await reached(1)
  const client = new ControlClient(t, address)
  await t.rejects(client.call('PauseAdmission', { 1: 3 }, 1_000), {
    code: status.DEADLINE_EXCEEDED,
    details: /^1 exchanges are still in flight; the pause stays/,
  })
  const ctl = ['ctl', 'pause', '--drain', '--timeout', '1', '--control', address]
  t.match(await rolltape(ctl), { code: 7, stderr: /1 exchanges are still in flight/ })
  const waits = send('waits')
  t.match(await held(1), { pauses: [{ policy: 'ADMISSION_POLICY_HOLD' }] })
  gate.resolve()
  await client.call('ResumeAdmission')
  t.strictSame(await Promise.all([slow, waits]), [200, 200])
})

testWithBuf(
  'abort: what is in flight is cancelled, told so, recorded so, and counted',
  async (t) => {
    const { address, send, reached, base, file, rolltape } = await setUp(t)
    const slow = [send('slow'), send('slow'), send('slow')]
    await reached(3)
    const request = { policy: 'ADMISSION_POLICY_ABORT', scope: { upstream: `${base}/` } }
    t.strictSame(await ask(address, 'PauseAdmission', request), {
      pauses: [{ policy: 'ADMISSION_POLICY_HOLD', scope: { upstream: base } }],
      aborted: '3',
    })
    t.strictSame(await Promise.all(slow), [503, 503, 503])
    await rolltape.close()
    t.strictSame(
      (await recordsOf(file)).map(({ outcome }) => outcome),
      ['cancelled', 'cancelled', 'cancelled'],
    )
  },
)

testWithBuf('what cannot be is refused, and pauses nothing', async (t) => {
  const { address, base } = await setUp(t)
  const cases: [string, object, string, RegExp][] = [
    ['PauseAdmission', {}, 'invalid_argument', /^policy is unspecified/],
    ['PauseAdmission', { policy: 9 }, 'invalid_argument', /^policy is 9/],
    [
      'PauseAdmission',
      { policy: 1, scope: { model: 'm'.repeat(2_000) } },
      'invalid_argument',
      /^scope\.model has more than 1024 bytes/,
    ],
    [
      'PauseAdmission',
      { policy: 1, scope: { upstream: 'http://127.0.0.1:9' } },
      'not_found',
      new RegExp(`no upstream that is configured.*${base}`),
    ],
    ['ResumeAdmission', { scope: {} }, 'not_found', /admission is not paused for that/],
    ['ResumeAdmission', { scope: { model: 'm' } }, 'not_found', /not paused/],
  ]
  for (const [call, request, code, message] of cases) {
    t.match(await refusal(address, call, request), [code, message], JSON.stringify(request))
  }
  t.notOk('pauses' in (await ask(address, 'GetStatus')))
  t.strictSame(await ask(address, 'ResumeAdmission'), {}, 'all of none is no failure')
  const client = new ControlClient(t, address)
  for (let i = 0; i < 256; i++) {
    await client.call('PauseAdmission', { 1: 2, 2: modelScope(`m${i}`) })
  }
  await t.rejects(client.call('PauseAdmission', { 1: 2, 2: modelScope('more') }), {
    code: status.RESOURCE_EXHAUSTED,
  })
  await client.call('PauseAdmission', { 1: 1, 2: modelScope('m7') })
  const told = await client.call('GetStatus')
  t.equal(told.get(13)?.length, 256, 'one of the same scope takes the place of the other')
})

testWithBuf('SetPolicyVersion stamps what goes to the upstream from its answer on', async (t) => {
  const { address, send, held, file, rolltape: running } = await setUp(t)
  await send('none')
  t.strictSame(await ask(address, 'SetPolicyVersion', { policyVersion: 'step-1' }), {
    policyVersion: 'step-1',
  })
  await send('one')
  await ask(address, 'PauseAdmission', { policy: 'ADMISSION_POLICY_HOLD' })
  const waits = send('two')
  t.match(await held(1), { policyVersion: 'step-1' })
  const client = new ControlClient(t, address)
  const longest = 'ü'.repeat(128)
  const second = await client.call('SetPolicyVersion', { 1: longest })
  t.strictSame([textOf(second, 1), textOf(second, 2)], [longest, 'step-1'])
  await client.call('ResumeAdmission')
  await waits
  for (const [policyVersion, message] of [
    [`${longest}x`, /^policy_version has 257 bytes/],
    ['a\nb', /^policy_version has a control character/],
    ['a\u0085b', /^policy_version has a control character/],
  ] as const) {
    const refused = await refusal(address, 'SetPolicyVersion', { policyVersion })
    t.match(refused, ['invalid_argument', message])
  }
  const cleared = await rolltape(['ctl', 'policy', '', '--control', address])
  t.match(cleared, { code: 0, stdout: /^policy +-\nbefore +ü+\n$/ })
  await send('three')
  await running.close()
  t.strictSame(
    (await recordsOf(file)).map(({ policy }) => policy.dispatch),
    [null, 'step-1', longest, null],
  )
})

testWithBuf('ctl pause and ctl resume', async (t) => {
  const { address, base } = await setUp(t)
  const ctl = (...argv: string[]) => rolltape(['ctl', ...argv, '--control', address])
  t.match(await ctl('pause', '--reject', '--upstream', base, '--model', 'big'), {
    code: 0,
    stdout: new RegExp(`^paused +reject model big at ${base}\nin flight +0\nheld +0\n$`),
  })
  t.match(await ctl('status'), { stdout: /^paused +reject model big at /m })
  t.match(await ctl('pause', '--abort', '--drain'), { code: 2, stderr: /cannot be used with/ })
  t.match(await ctl('resume', '--model', 'big'), { code: 6, stderr: /\[NOT_FOUND\]/ })
  t.match(await ctl('resume'), { code: 0, stdout: /^paused +-$/m })
  const json = JSON.parse((await ctl('pause', '--json')).stdout) as object
  t.match(json, { pauses: [{ policy: 'ADMISSION_POLICY_HOLD' }] })
})

function modelScope(model: string): Buffer {
  return Buffer.concat([Buffer.from([0x12, model.length]), Buffer.from(model)])
}
