/**
 * A session is over: what waits gets an error at once, and responders are told.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { PROCESSES_WATCHED_MAX } from '../../src/limits.ts'
import { startControlled } from '../support/control.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { TestResponder, untilWaiting } from '../support/responder.ts'

const WATCH = 'rolltape.responder.v1.ResponderService/WatchProcess'

function post(url: string, session: string): Promise<Response> {
  return fetch(`${url}/sessions/${session}/v1/chat/completions`, { method: 'POST', body: '{}' })
}

async function setUp(t: Test, options: object = {}) {
  const started = await startControlled(t, { proxyBaseUrl: 'responder:', ...options })
  return { ...started, client: new ControlClient(t, started.address) }
}

function startSleeper(t: Test) {
  const child = spawn('sleep', ['60'])
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

t.test('R42: CloseSession ends what waits, what was given, and what had begun', async (t) => {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { url, address, client, rolltape } = await setUp(t, { recordingFile })
  const responder = await new TestResponder(t, address).hello('', 2)
  const begun = post(url, 'a')
  const first = await responder.given()
  responder.head(first.id)
  responder.chunk(first.id, ': begun\n\n')
  t.equal((await begun).status, 200)
  const given = post(url, 'a')
  const second = await responder.given()
  const waiting = post(url, 'a')
  const other = post(url, 'b')
  await untilWaiting(t, address, 2)
  const closed = await client.call('CloseSession', { 1: 'a' })
  t.equal(textOf(messageOf(closed, 1)!, 1), 'a', 'it is a session, though none of it had ended')
  for (const asking of [given, waiting]) {
    const answer = await asking
    t.equal(answer.status, 410)
    t.match(await answer.json(), {
      error: { code: 'session_ended', message: /a is over: it was closed/ },
    })
  }
  await t.rejects((await begun).text())
  t.strictSame(await responder.next('ended'), { kind: 'ended', session: 'a', why: 1 })
  const ids = [await responder.next('cancelled'), await responder.next('cancelled')].map(
    (x) => x.id,
  )
  t.strictSame(ids.toSorted(), [first.id, second.id])
  const third = await responder.given()
  t.equal(third.session, 'b', 'other sessions go on')
  responder.answer(third.id, '{}')
  t.equal((await other).status, 200)
  const anew = post(url, 'a')
  responder.answer((await responder.given()).id, '{}')
  t.equal((await anew).status, 200, 'a later request begins it anew')
  await rolltape.close()
  const records = await recordsOf(recordingFile)
  t.strictSame(records.map(({ session, http_status }) => `${session} ${http_status}`).toSorted(), [
    'a 200',
    'a 200',
    'a 410',
    'a 410',
    'b 200',
  ])
})

t.test('R42: the end of a watched process ends its session', async (t) => {
  const { url, address, client } = await setUp(t)
  const responder = await new TestResponder(t, address).hello()
  const child = startSleeper(t)
  const watched = await client.call(WATCH, { 1: 'a', 2: child.pid! })
  t.equal(numberOf(watched, 1), 1)
  const waiting = post(url, 'a')
  await responder.given()
  child.kill('SIGKILL')
  const answer = await waiting
  t.equal(answer.status, 410)
  t.match(await answer.json(), {
    error: { message: /the process that was watched for it is gone/ },
  })
  t.strictSame(await responder.next('ended'), { kind: 'ended', session: 'a', why: 2 })
})

t.test('R42: a process that has ended and is not reaped counts as gone', async (t) => {
  const { url, address, client } = await setUp(t)
  const responder = await new TestResponder(t, address).hello()
  // sh becomes cat, which never asks how its child ended.
  const parent = spawn('sh', ['-c', 'sleep 60 & echo $!; exec cat'])
  t.teardown(() => parent.kill('SIGKILL'))
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  await client.call(WATCH, { 1: 'a', 2: pid })
  const waiting = post(url, 'a')
  await responder.given()
  process.kill(pid, 'SIGKILL')
  t.equal((await waiting).status, 410)
})

t.test(
  `R42: ${PROCESSES_WATCHED_MAX} processes are watched at most, each one that is there`,
  async (t) => {
    const { client } = await setUp(t)
    const watch = (session: string, pid: number) => client.call(WATCH, { 1: session, 2: pid })
    const child = startSleeper(t)
    const gone = spawn('true')
    await once(gone, 'exit')
    await t.rejects(watch('a', gone.pid!), { details: /there is no process/, code: 5 })
    await t.rejects(watch('a', 0), { details: /pid is 0/, code: 3 })
    await t.rejects(watch('', child.pid!), { details: /session/, code: 3 })
    for (let i = 0; i < PROCESSES_WATCHED_MAX; i++) await watch(`s${i}`, process.pid)
    await t.rejects(watch('more', process.pid), { details: /1024 processes/, code: 8 })
    t.equal(
      numberOf(await watch('s0', child.pid!), 1),
      PROCESSES_WATCHED_MAX,
      'in place of the last',
    )
    await client.call('CloseSession', { 1: 's1' }).catch(() => undefined)
    t.equal(numberOf(await watch('more', process.pid), 1), PROCESSES_WATCHED_MAX, 's1 is over')
  },
)

t.test('what cannot be is refused', async (t) => {
  const { address } = await setUp(t)
  const gone = async (say: (responder: TestResponder) => void) => {
    const responder = new TestResponder(t, address)
    say(responder)
    const { code, details } = await responder.next('gone')
    return [code, details]
  }
  const hello =
    (credits: number, queue = '') =>
    (responder: TestResponder) => {
      responder.greet(queue, credits)
    }
  t.match(await gone(hello(1, 'no')), [5, /no upstream is queue "no" \(those are default\)/])
  t.match(await gone(hello(4_097)), [3, /hello.credits is 4097, and 4096 is the most/])
  t.match(await gone((responder) => responder.answer(1, '')), [3, /answer, and hello comes first/])
  t.match(await gone((responder) => responder.say({})), [3, /message is empty/])
  const twice = await new TestResponder(t, address).hello()
  twice.greet()
  t.match(await twice.next('gone'), { code: 3, details: /hello came already/ })
  const none = await startControlled(t, { proxyBaseUrl: 'http://127.0.0.1:9' })
  const client = new ControlClient(t, none.address)
  await t.rejects(client.call(WATCH, { 1: 'a', 2: process.pid }), { code: 9 })
  const responder = new TestResponder(t, none.address)
  responder.greet()
  t.match(await responder.next('gone'), { code: 5, details: /--proxy-base-url responder:/ })
})
