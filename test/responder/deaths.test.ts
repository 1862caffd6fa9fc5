/**
 * Responders that die, or are not there: no request is lost over it, none hangs, none is answered twice.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import OpenAI from 'openai'
import t from 'tap'
import type { Test } from 'tap'
import { startControlled } from '../support/control.ts'
import { TestResponder, untilWaiting } from '../support/responder.ts'

const MUTE = new URL('../support/mute-responder.ts', import.meta.url).pathname

/** Starts a responder in a process; `lines` are what it prints. */
async function startMute(t: Test, address: string, ...args: string[]) {
  const child = spawn(process.execPath, [MUTE, address, ...args], {
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async (): Promise<string> => String((await lines.next()).value)
  t.equal(await line(), 'ready')
  const kill = async (): Promise<void> => {
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  return { line, kill }
}

function post(
  url: string,
  body: object = {},
  signal: AbortSignal | null = null,
): Promise<Response> {
  const path = `${url}/v1/chat/completions`
  return fetch(path, { method: 'POST', body: JSON.stringify(body), signal })
}

const start = (t: Test, options: object = {}) =>
  startControlled(t, { proxyBaseUrl: 'responder:', ...options })

/** One for all tests that need nothing of their own but a queue: the model names it. */
const queues = ['killed', 'amid', 'thrice', 'ended', 'left']
const { url, address } = await startControlled(t, {
  proxyRules: Object.fromEntries(queues.map((queue) => [queue, `responder:${queue}`])),
})

t.test('R41: a responder that is killed before it answers: another one answers', async (t) => {
  const mute = await startMute(t, address, 'killed')
  const asks = ['a', 'b', 'c'].map((n) => post(url, { model: 'killed', n }))
  t.strictSame([await mute.line(), await mute.line()].map(Number).toSorted(), [1, 2])
  await mute.kill()
  const second = await new TestResponder(t, address).hello('killed', 3)
  const given = [await second.given(), await second.given(), await second.given()]
  t.strictSame(
    given.map(({ id, delivery }) => [id, delivery]),
    [
      [1, 2],
      [2, 2],
      [3, 1],
    ],
    'those that it had come first',
  )
  for (const { id, body } of given) second.answer(id, body)
  const answers = await Promise.all(asks.map(async (ask) => (await ask).json()))
  t.strictSame(
    answers,
    ['a', 'b', 'c'].map((n) => ({ model: 'killed', n })),
  )
})

t.test('R41: a responder that is killed amid its answer: the client is cut off', async (t) => {
  const mute = await startMute(t, address, 'amid', 'head')
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk', maxRetries: 0 })
  const stream = await openai.chat.completions.create({ model: 'amid', messages: [], stream: true })
  await mute.line()
  const read = async (): Promise<void> => {
    for await (const _ of stream);
  }
  const cut = t.rejects(read(), { message: /terminated|aborted|other side closed|Premature/i })
  await mute.kill()
  await cut
  const second = await new TestResponder(t, address).hello('amid')
  t.equal(second.all.length, 1, 'and nobody else is asked')
})

t.test('R41: three die over one request, and its client is told', async (t) => {
  const asking = post(url, { model: 'thrice' })
  for (let delivery = 1; delivery <= 3; delivery++) {
    const responder = await new TestResponder(t, address).hello('thrice')
    t.equal((await responder.given()).delivery, delivery)
    responder.die()
  }
  const answer = await asking
  t.equal(answer.status, 502)
  t.match(await answer.json(), { error: { code: 'responder_lost' } })
})

t.test('R41: who ends its side leaves in order, and what it has goes to another', async (t) => {
  const first = await new TestResponder(t, address).hello('ended')
  const asking = post(url, { model: 'ended' })
  await first.given()
  first.credits(0)
  first.call.end()
  t.strictSame(await first.next('gone'), { kind: 'gone', code: 0, details: '' })
  const second = await new TestResponder(t, address).hello('ended')
  second.answer((await second.given()).id, '1')
  t.equal(await (await asking).text(), '1')
})

t.test('R40: with none there, 503 or 504 as configured, when the wait is over', async (t) => {
  for (const [onNoResponder, code] of [
    [503, 'responder_missing'],
    [504, 'responder_timeout'],
  ] as const) {
    const { url, address } = await start(t, { onNoResponder, responderWait: '100ms' })
    const sinceMs = performance.now()
    const answer = await post(url)
    t.ok(performance.now() - sinceMs >= 95)
    t.equal(answer.status, onNoResponder)
    t.equal(answer.headers.get('retry-after'), onNoResponder === 503 ? '1' : null)
    t.match(await answer.json(), {
      error: { code, message: /within responder_wait \(100 ms\): there is none/ },
    })
    await new TestResponder(t, address).hello('', 0)
    t.match(await (await post(url)).json(), {
      error: { message: /one there is had no credit left/ },
    })
  }
})

t.test('R40: a queue that is full answers 429 at once', async (t) => {
  const { url, address } = await start(t, { responderQueue: 2 })
  const waiting = [post(url), post(url), post(url)]
  const first = await Promise.race(waiting)
  t.equal(first.status, 429)
  t.equal(first.headers.get('retry-after'), '1')
  t.match(await first.json(), { error: { code: 'responder_queue_full', message: /2 is the most/ } })
  const responder = await new TestResponder(t, address).hello()
  responder.onRequest = ({ id }) => responder.answer(id, '{}')
  const answers = await Promise.all(waiting)
  t.strictSame(answers.map(({ status }) => status).toSorted(), [200, 200, 429])
})

t.test('R40 M38: a client that leaves takes its request back', async (t) => {
  const responder = await new TestResponder(t, address).hello('left', 1)
  const [leaving, queued] = [new AbortController(), new AbortController()]
  const asks = [post(url, { model: 'left' }, leaving.signal)]
  const { id } = await responder.given()
  asks.push(post(url, { model: 'left' }, queued.signal))
  const left = t.rejects(asks[1]!, { name: 'AbortError' })
  await untilWaiting(t, address, 1, 'left')
  queued.abort()
  await left
  await untilWaiting(t, address, 0, 'left')
  leaving.abort()
  await t.rejects(asks[0]!, { name: 'AbortError' })
  t.equal((await responder.next('cancelled')).id, id)
  responder.answer(id, '{}')
  t.match(await responder.next('rejected'), { id, reason: /over/ })
  const last = post(url, { model: 'left', n: 'last' })
  const given = await responder.given()
  t.match(JSON.parse(given.body.toString()), { n: 'last' })
  responder.answer(given.id, '{}')
  t.equal((await last).status, 200)
})

t.test('M35 M44: time-outs of an upstream hold for a responder, which is told', async (t) => {
  // Longer than it takes to give the request, however busy the machine is.
  const { url, address } = await start(t, { ttfbTimeout: '3s' })
  const responder = await new TestResponder(t, address).hello()
  const answer = await post(url)
  t.equal(answer.status, 504)
  t.match(await answer.json(), { error: { code: 'upstream_timeout_ttfb' } })
  const { id } = await responder.given()
  t.equal((await responder.next('cancelled')).id, id)
})

t.test('R11: retries hold for a responder as for any upstream', async (t) => {
  const { url, address } = await start(t, { retryableStatusCodes: [500], maxAttempts: 2 })
  const responder = await new TestResponder(t, address).hello()
  responder.onRequest = ({ id }) => responder.answer(id, '{}', id === 1 ? 500 : 200)
  t.equal((await post(url)).status, 200)
})

t.test('when rolltape stops, running answers finish and responders are let go', async (t) => {
  const { url, address, rolltape } = await start(t, { drainTimeout: 60 })
  const responder = await new TestResponder(t, address).hello()
  const asking = post(url)
  const { id } = await responder.given()
  const closing = rolltape.close()
  await setTimeout(0)
  responder.answer(id, '{}')
  t.equal((await asking).status, 200)
  t.match(await closing, { cut: 0 })
  t.equal((await responder.next('gone')).code, 0)
})
