/**
 * Many at once: each request answered once, by the responder it was given to; slow clients slow down
 * none but their own responder.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import OpenAI from 'openai'
import t from 'tap'
import { RESPONDER_OUTBOX_MAX } from '../../src/limits.ts'
import { startControlled } from '../support/control.ts'
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

t.test(
  'a slow client: its responder is told to hold, and read no further if it goes on',
  async (t) => {
    const { url, address } = await startControlled(t, { proxyBaseUrl: 'responder:' })
    const slow = await new TestResponder(t, address).hello('', 2)
    const socket = connect(Number(new URL(url).port), '127.0.0.1').pause()
    t.teardown(() => socket.destroy())
    socket.write(
      'POST /v1/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}',
    )
    const { id } = await slow.given()
    slow.head(id, 200, { 'content-type': 'application/octet-stream' })
    const chunk = Buffer.alloc(256 * 1024, 'x')
    let sent = 0
    while (!slow.all.some(({ kind }) => kind === 'hold')) {
      slow.chunk(id, chunk)
      sent += chunk.length
      await new Promise(setImmediate)
    }
    t.match(await slow.next('hold'), { id, hold: true })
    for (let i = 0; i < 64; i++) slow.chunk(id, chunk)
    sent += 64 * chunk.length
    const other = fetch(`${url}/v1/completions`, { method: 'POST', body: '{"b":1}' })
    const second = await slow.given()
    slow.answer(second.id, '"late"')
    let isAnswered = false
    const answered = other.then((answer) => {
      isAnswered = true
      return answer.json()
    })
    const quick = await new TestResponder(t, address).hello('', 1)
    const third = fetch(`${url}/v1/completions`, { method: 'POST', body: '{"c":1}' })
    quick.answer((await quick.given()).id, '"quick"')
    t.equal(await (await third).json(), 'quick', 'others are not held up')
    t.equal(isAnswered, false, 'its own other answer is')
    slow.end(id)
    let received = 0
    socket.on('data', (bytes: Buffer) => (received += bytes.length))
    socket.resume()
    await once(socket, 'close')
    t.ok(received > sent, 'nothing of it is lost')
    t.equal(await answered, 'late')
    t.match(await slow.next('hold'), { id, hold: false })
  },
)

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
