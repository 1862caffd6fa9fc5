/** A frozen session stays as it is: late calls get 409 on every lane, after a restart too. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createHash } from 'node:crypto'
import { status } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import OpenAI from 'openai'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { FREEZE_WAIT_MS_MAX } from '../../src/limits.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { SessionFreezer } from '../../src/supervisor/session-freezer.ts'
import { rolltape } from '../cli/harness.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import { ask, startControlled, testWithBuf } from '../support/control.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'
import { startSteered } from '../support/steered.ts'
import { getTrajectory } from '../support/trajectory-client.ts'

const upstream = await startInferenceServer({ paceMs: 0 })
t.teardown(() => upstream.close())

async function start(t: Test, options: RolltapeOptions = {}) {
  const recordingFile = options.recordingFile ?? join(makeFolder(t), 'a.jsonl')
  const { rolltape, url, address } = await startControlled(t, {
    proxyBaseUrl: upstream.url,
    lanes: 1,
    ...options,
    recordingFile,
  })
  const client = new ControlClient(t, address)
  const call = async (session: string, content = 'hi', path = CHAT) => {
    const { status, body, headers } = await rawRequest(
      url,
      post(`/sessions/${session}${path}`, bodyOf(content)),
    )
    return { status, headers, body: body.toString() }
  }
  return { rolltape, url, address, client, call, file: recordingFile }
}

const freeze = async (client: ControlClient, session: string, deadlineMs?: number) => {
  const closed = await client.call('CloseSession', { 1: session, 2: 1 }, deadlineMs)
  const snapshot = messageOf(closed, 4) ?? new Map()
  return {
    id: textOf(snapshot, 1),
    version: numberOf(snapshot, 2),
    records: numberOf(snapshot, 3),
    sha256: textOf(snapshot, 4),
    exchanges: numberOf(messageOf(closed, 1), 2),
  }
}

/**
 * Freezes what cannot be frozen, and rejects with why. The answer comes a tenth of a second before the
 * deadline: a caller whose machine stands still then has given up itself, and asks again.
 */
async function freezeInVain(client: ControlClient, session: string, deadlineMs: number) {
  for (;;) {
    try {
      return await freeze(client, session, deadlineMs)
    } catch (error) {
      if ((error as ServiceError).code !== status.DEADLINE_EXCEEDED) throw error
    }
  }
}

/** The lines of a session as they stand in the file, by seq. */
function linesOf(file: string, session: string): string[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  const own = lines.filter((line) => (JSON.parse(line) as { session: string }).session === session)
  const seq = (line: string): number => (JSON.parse(line) as { seq: number }).seq
  return own.sort((a, b) => seq(a) - seq(b))
}

const digestOf = (lines: readonly string[]): string =>
  createHash('sha256')
    .update(lines.map((line) => `${line}\n`).join(''))
    .digest('hex')

/** Calls until each lane has had some: connections are hashed over them. */
const CALLS_TO_MEET_ALL = 40

t.test('late calls get 409 on both lanes and leave no record; others go on', async (t) => {
  const { client, call, file, rolltape, url } = await start(t, { lanes: 2 })
  for (const session of ['a', 'b', 'a']) t.equal((await call(session)).status, 200)
  const snapshot = await freeze(client, 'a')
  t.match(snapshot, { id: /^[0-9a-f]{32}$/, version: 1, records: 2, exchanges: 2 })
  t.equal(snapshot.sha256, digestOf(linesOf(file, 'a')))
  for (let n = 0; n < CALLS_TO_MEET_ALL; n++) {
    const { status, headers, body } = await call('a')
    t.equal(status, 409)
    t.match(JSON.parse(body), { error: { code: 'session_frozen', type: 'invalid_request_error' } })
    t.ok(headers.some(([name, value]) => name === 'x-should-retry' && value === 'false'))
  }
  t.equal((await call('a', 'hi', '/v1/models')).status, 409, 'whatever is called')
  const refused = await rawRequest(url, post('/sessions/a/v1/messages', bodyOf('hi')))
  t.match(JSON.parse(refused.body.toString()), { type: 'error', error: { code: 'session_frozen' } })
  t.equal((await call('b')).status, 200)
  await rolltape.close()
  const records = await recordsOf(file)
  t.strictSame(
    records.map(({ session }) => session),
    ['a', 'b', 'a', 'b'],
  )
  t.strictSame(
    records.map(({ seq }) => seq),
    [1, 2, 3, 4],
    'no number was spent on them',
  )
})

t.test('an SDK that is refused does not ask again', async (t) => {
  const { client, call, url, rolltape } = await start(t)
  await call('a')
  await freeze(client, 'a')
  const openai = new OpenAI({ baseURL: `${url}/sessions/a/v1`, apiKey: 'k' })
  const asked = openai.chat.completions.create({ model: 'm', messages: [] })
  await t.rejects(asked, { status: 409, code: 'session_frozen' })
  t.equal(rolltape.egressTotal, 1)
  t.match(await ask(rolltape.controlAddress!, 'GetStatus'), { counters: { refused: '1' } })
})

t.test(
  'freezing again is the same snapshot, after a restart too, where calls stay refused',
  async (t) => {
    const first = await start(t, { lanes: 2 })
    for (const session of ['a', 'b', 'a']) await first.call(session)
    const { exchanges, ...snapshot } = await freeze(first.client, 'a')
    t.equal(exchanges, 2)
    t.match(await freeze(first.client, 'a'), { ...snapshot, exchanges: 0 })
    await first.rolltape.close()
    const second = await start(t, { recordingFile: first.file, lanes: 2 })
    for (let n = 0; n < CALLS_TO_MEET_ALL; n++) t.equal((await second.call('a')).status, 409)
    t.match(await freeze(second.client, 'a'), snapshot)
    t.equal((await second.call('b')).status, 200)
    const b = await freeze(second.client, 'b')
    t.match(b, { version: 1, records: 2, exchanges: 1 })
    t.equal(b.sha256, digestOf(linesOf(first.file, 'b')), 'with the records of before')
    t.match(await getTrajectory(second.client, 'a'), {
      frozen: snapshot.sha256,
      sha256: snapshot.sha256,
      isChanged: false,
      summary: [2, 2, 0],
    })
  },
)

t.test('a session that was recorded before the start can be frozen after it', async (t) => {
  const first = await start(t)
  await first.call('a')
  await first.rolltape.close()
  const second = await start(t, { recordingFile: first.file })
  t.match(await freeze(second.client, 'a'), { version: 1, records: 1, exchanges: 0 })
  const none = second.client.call('CloseSession', { 1: 'none', 2: 1 })
  await t.rejects(none, { code: status.NOT_FOUND })
  t.equal((await second.call('none')).status, 200, 'what is not known is not frozen')
})

t.test('calls in flight end first, and belong to the snapshot', async (t) => {
  const gate = Promise.withResolvers<void>()
  const slow = await startScriptedUpstream(async (x) => {
    await x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('one'))
    await gate.promise
    await x.send(chunkOf('two'), '0\r\n\r\n')
  })
  t.teardown(() => slow.close())
  const { url, client, call, file } = await start(t, { proxyBaseUrl: slow.url })
  const open = async (): Promise<RawClient> => {
    const one = await RawClient.open(url)
    one.send(post(`/sessions/a${CHAT}`, bodyOf('hi')))
    await one.until((bytes) => bytes.includes('one'))
    return one
  }
  const running = [await open()]
  await t.rejects(freezeInVain(client, 'a', 1_500), {
    code: status.FAILED_PRECONDITION,
    details: /^1 call of session a did not end in time, so it is not frozen/,
  })
  running.push(await open())
  t.equal(running.length, 2, 'after a freeze in vain the session goes on')
  const freezing = [freeze(client, 'a'), freeze(client, 'a')]
  // It is frozen from some moment on, which no answer tells.
  for (let isFrozen = false; !isFrozen;) {
    const late = await RawClient.open(url)
    late.send(post(`/sessions/a${CHAT}`, bodyOf('late')))
    const head = await late.until((bytes) => bytes.includes('\r\n\r\n'))
    isFrozen = head.includes('409')
    running.push(late)
  }
  gate.resolve()
  const [snapshot, again] = await Promise.all(freezing)
  t.strictSame(again, { ...snapshot, exchanges: again!.exchanges }, 'who asks twice gets the same')
  t.equal(snapshot!.records, running.length - 1)
  t.equal(snapshot!.sha256, digestOf(linesOf(file, 'a')))
  t.equal((await call('a')).status, 409)
  for (const one of running) one.close()
})

t.test('who waits without end is told when the time for calls in flight is over', async (t) => {
  const silent = await startScriptedUpstream(() => undefined)
  t.teardown(() => silent.close())
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { supervisor, url } = await startSteered(t, { proxyBaseUrl: silent.url, recordingFile })
  const open = await RawClient.open(url)
  open.send(post(`/sessions/a${CHAT}`, bodyOf('hi')))
  while (!supervisor.recording!.tables.hasSession('a')) await new Promise(setImmediate)
  const freezer = new SessionFreezer(supervisor, 20)
  const caller = { deadlineMs: Infinity, signal: new AbortController().signal }
  await t.rejects(freezer.freeze('a', caller), { code: 'wrong_state', message: /^1 call of/ })
  t.equal(supervisor.recording!.tables.isFrozen('a'), false)
  t.ok(FREEZE_WAIT_MS_MAX < 60_000)
  open.close()
})

t.test('in a session by body field, and without generation requests', async (t) => {
  const { client, call, url } = await start(t, {
    sessionSources: ['body'],
    sessionBodyField: 'sid',
  })
  const byBody = (): Promise<{ status: number }> =>
    rawRequest(url, post(CHAT, JSON.stringify({ ...JSON.parse(bodyOf('hi')), sid: 'x' })))
  t.equal((await byBody()).status, 200)
  t.match(await freeze(client, 'x'), { records: 1 })
  t.equal((await byBody()).status, 409)
  await call('-', 'hi', '/v1/nowhere')
  await client.call('FlushRecording')
  t.match(await freeze(client, 'default'), { records: 1, version: 1 })
  t.equal((await call('-', 'hi', '/v1/nowhere')).status, 409)
})

t.test('without a recording there is nothing to freeze', async (t) => {
  const { address } = await startControlled(t, { proxyBaseUrl: upstream.url })
  const client = new ControlClient(t, address)
  await t.rejects(client.call('CloseSession', { 1: 'a', 2: 1 }), {
    code: status.FAILED_PRECONDITION,
    details: /^nothing is recorded/,
  })
})

t.test('an export of it is the same to the byte, until its records are changed', async (t) => {
  const { client, call, file, rolltape: running } = await start(t)
  for (const session of ['a', 'b', 'a', 'a']) await call(session)
  await freeze(client, 'a')
  const exported = async (...more: string[]) =>
    rolltape(['export', file, '--format', 'openai-chat', '--session', 'a', ...more])
  const { stdout, code } = await exported()
  t.equal(code, 0)
  for (let n = 0; n < 3; n++) await call(n === 1 ? 'b' : 'a')
  t.equal((await exported()).stdout, stdout)
  await running.close()
  t.equal((await exported()).stdout, stdout)
  const whole = readFileSync(file, 'utf8')
  const lines = whole.split('\n')
  const [own = ''] = linesOf(file, 'a')
  const more = own.replace(/"id":"[^"]+","seq":1,/, '"id":"x","seq":99,')
  const changes = [
    ['a byte of a record', whole.replace(own, own.replace('"content":"hi"', '"content":"ho"'))],
    ['a record that is gone', whole.replace(`${own}\n`, '')],
    ['a record more', `${whole}${more}\n`],
  ] as const
  for (const [what, text] of changes) {
    t.not(text, whole)
    writeFileSync(file, text)
    const changed = await exported('--outcome', 'complete')
    t.match(
      changed,
      {
        code: 1,
        stdout: '',
        stderr: /session a is frozen as .* its records are not those of then/,
      },
      what,
    )
    t.equal((await rolltape(['export', file, '--session', 'b'])).code, 0)
  }
  writeFileSync(file, [...lines.slice(0, -1).reverse(), ''].join('\n'))
  t.equal((await exported()).stdout, stdout, 'the order of the lines changes nothing')
})

testWithBuf('ctl close --freeze tells the snapshot, and buf gets the same', async (t) => {
  const { call, address } = await start(t)
  await call('a')
  const told = await rolltape(['ctl', 'close', 'a', '--freeze', '--control', address])
  const [, id, sha256] =
    /^frozen +([0-9a-f]{32}), version 1, 1 records, sha256 ([0-9a-f]{64})$/m.exec(told.stdout) ?? []
  t.match(await ask(address, 'CloseSession', { session: 'a', freeze: true }), {
    snapshot: { id, version: '1', records: '1', sha256 },
  })
})
