/**
 * Many at once: each request answered once, by the responder it was given to; slow clients slow down
 * none but their own responder.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import OpenAI from 'openai'
import t from 'tap'
import type { Test } from 'tap'
import { RESPONDER_ANSWER_BYTES_MAX, RESPONDER_OUTBOX_MAX } from '../../src/limits.ts'
import { startControlled } from '../support/control.ts'
import { startSteered } from '../support/steered.ts'
import { TestResponder } from '../support/responder.ts'
import type { Given } from '../support/responder.ts'

const CONCURRENT = 200

t.test(`R39 R40: ${CONCURRENT} at once over three responders, each answered once`, async (t) => {
  const { url, address } = await startControlled(t, { proxyBaseUrl: 'responder:', lanes: 2 })
  const responders = await Promise.all(
    Array.from({ length: 3 }, () => new TestResponder(t, address).hello('', 7)),
  )
  const givenTo = new Map<string, string[]>()
  for (const [name, responder] of responders.entries()) {
    responder.onRequest = ({ id, body, session }) => {
      givenTo.set(session, [...(givenTo.get(session) ?? []), String(name)])
      const { stream } = JSON.parse(body.toString()) as { stream?: boolean }
      const message = { role: 'assistant', content: `${session} by ${name}` }
      const choice = { index: 0, finish_reason: 'stop' }
      if (stream !== true) {
        return responder.answer(id, JSON.stringify({ choices: [{ ...choice, message }] }))
      }
      responder.head(id)
      const event = JSON.stringify({ choices: [{ ...choice, delta: message }] })
      responder.chunk(id, `data: ${event}\n\n`)
      responder.chunk(id, 'data: [DONE]\n\n')
      responder.end(id)
    }
  }
  const ask = async (i: number): Promise<string> => {
    const baseURL = `${url}/sessions/s${i}/v1`
    const openai = new OpenAI({ baseURL, apiKey: 'sk', maxRetries: 0 })
    const asked = { model: 'policy', messages: [] }
    if (i % 2 === 0) {
      const answer = await openai.chat.completions.create(asked)
      return answer.choices[0]?.message.content ?? ''
    }
    let text = ''
    for await (const chunk of await openai.chat.completions.create({ ...asked, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? ''
    }
    return text
  }
  const answers = await Promise.all(Array.from({ length: CONCURRENT }, (_, i) => ask(i)))
  t.strictSame(
    answers,
    Array.from({ length: CONCURRENT }, (_, i) => `s${i} by ${givenTo.get(`s${i}`)?.join()}`),
  )
  const accepted = responders.map(({ all }) => all.filter(({ kind }) => kind === 'accepted').length)
  const given = responders.map(({ all }) => all.filter(({ kind }) => kind === 'request').length)
  t.strictSame(
    [...given].reduce((a, b) => a + b),
    CONCURRENT,
  )
  t.ok(
    given.every((count) => count > 0),
    `all have their share: ${given}`,
  )
  t.ok(accepted.every((count, i) => count <= given[i]!))
})

const CHUNK = Buffer.alloc(256 * 1024, 'x')

/** A responder whose stream is read no further: it answers a client that does not read. */
async function setUpSlow(t: Test) {
  const steered = await startSteered(t, { proxyBaseUrl: 'responder:' })
  const { url, address, supervisor } = steered
  const responder = await new TestResponder(t, address).hello('', 2)
  const socket = connect(Number(new URL(url).port), '127.0.0.1').pause()
  t.teardown(() => socket.destroy())
  const lines = [
    'POST /v1/completions HTTP/1.1',
    'host: a',
    'connection: close',
    'content-length: 2',
  ]
  socket.write(`${lines.join('\r\n')}\r\n\r\n{}`)
  const { id } = await responder.given()
  responder.head(id, 200, { 'content-type': 'application/octet-stream' })
  let sent = 0
  const send = async (until: () => boolean): Promise<void> => {
    while (!until()) {
      responder.chunk(id, CHUNK)
      sent += CHUNK.length
      await new Promise(setImmediate)
    }
  }
  await send(() => responder.all.some(({ kind }) => kind === 'hold'))
  t.match(await responder.next('hold'), { id, hold: true })
  const { bridge } = supervisor.responders
  await send(() => bridge.waitingBytes(id) >= RESPONDER_ANSWER_BYTES_MAX)
  for (let i = 0; i < 40; i++) responder.chunk(id, CHUNK)
  return { ...steered, bridge, responder, socket, id, sent: sent + 40 * CHUNK.length }
}

function ask(url: string): Promise<Response> {
  return fetch(`${url}/v1/completions`, { method: 'POST', body: '{}' })
}

t.test(
  'a slow client: its responder is to hold, and is read no further if it goes on',
  async (t) => {
    const { url, address, bridge, responder, socket, id, sent } = await setUpSlow(t)
    const other = ask(url)
    const second = await responder.given()
    responder.answer(second.id, '"late"')
    let isAnswered = false
    const answered = other.then((answer) => {
      isAnswered = true
      return answer.json()
    })
    const quick = await new TestResponder(t, address).hello('', 1)
    quick.onRequest = ({ id }) => quick.answer(id, '"quick"')
    for (let i = 0; i < 30; i++) t.equal(await (await ask(url)).json(), 'quick', 'others go on')
    t.equal(isAnswered, false, 'its own other answer waits')
    t.ok(bridge.waitingBytes(id) <= RESPONDER_ANSWER_BYTES_MAX + CHUNK.length)
    responder.end(id)
    let received = 0
    socket.on('data', (bytes: Buffer) => (received += bytes.length))
    socket.resume()
    await once(socket, 'close')
    t.ok(received > sent, 'nothing of it is lost')
    t.equal(await answered, 'late')
    t.match(await responder.next('hold'), { id, hold: false })
  },
)

t.test('R41: a responder that dies while it is held up is noticed', async (t) => {
  const { url, address, responder, socket } = await setUpSlow(t)
  const other = ask(url)
  const { id } = await responder.given()
  const cut = once(socket, 'close')
  responder.die()
  const second = await new TestResponder(t, address).hello('', 1)
  t.match(await second.given(), { id, delivery: 2 })
  second.answer(id, '{}')
  t.equal((await other).status, 200)
  socket.resume()
  await cut
})

t.test('a responder that does not read is let go, and its requests go to another', async (t) => {
  const { url, address } = await startControlled(t, { proxyBaseUrl: 'responder:' })
  const deaf = await new TestResponder(t, address).hello('', 1)
  const asking = fetch(`${url}/v1/completions`, { method: 'POST', body: '{}' })
  const { id } = await deaf.given()
  deaf.call.pause()
  // Each of these is refused, and it hears of none.
  const reason = 'x'.repeat(100)
  for (let i = 0; i < 20 * RESPONDER_OUTBOX_MAX; i++) deaf.fail(1_000 + i, reason)
  const second = await new TestResponder(t, address).hello()
  const given: Given = await second.given()
  t.match(given, { id, delivery: 2 })
  second.answer(id, '{}')
  t.equal((await asking).status, 200)
})
