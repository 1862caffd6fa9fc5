/**
 * The official SDK asks, a responder in another place answers over gRPC: whole and in chunks, recorded
 * like any other exchange.
 */
import { join } from 'node:path'
import OpenAI, { APIError } from 'openai'
import t from 'tap'
import { RESPONDER_PART_BYTES } from '../../src/limits.ts'
import { startControlled } from '../support/control.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import { TestResponder, untilWaiting } from '../support/responder.ts'
import type { Given } from '../support/responder.ts'

const COMPLETION = {
  id: 'c1',
  object: 'chat.completion',
  created: 1,
  model: 'policy',
  prompt_token_ids: [1, 2, 3],
  choices: [
    {
      index: 0,
      message: { role: 'assistant', content: 'Hello there' },
      token_ids: [7, 8],
      logprobs: {
        content: [
          { token: 'Hello', logprob: -0.25, bytes: null, top_logprobs: [] },
          { token: ' there', logprob: -0.5, bytes: null, top_logprobs: [] },
        ],
      },
      finish_reason: 'stop',
    },
  ],
  usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
}

/** Events of a stream that says the same. */
const EVENTS = ['Hello', ' there', null].map((content, i) => {
  const delta = i === 0 ? { role: 'assistant', content } : content === null ? {} : { content }
  const choice = { index: 0, delta, finish_reason: content === null ? 'stop' : null }
  const chunk = { id: 'c2', object: 'chat.completion.chunk', created: 1, model: 'policy' }
  return `data: ${JSON.stringify({ ...chunk, choices: [choice] })}\n\n`
})

async function setUp(t: Parameters<typeof startControlled>[0], options: object = {}) {
  const file = join(makeFolder(t), 'a.jsonl')
  const started = await startControlled(t, {
    proxyBaseUrl: 'responder:',
    recordingFile: file,
    ...options,
  })
  const { rolltape, url, address } = started
  const openai = new OpenAI({
    baseURL: `${url}/sessions/task-7/v1`,
    apiKey: 'sk-me',
    maxRetries: 0,
  })
  const finish = async () => {
    await rolltape.close()
    return recordsOf(file)
  }
  return { ...started, openai, finish, responder: new TestResponder(t, address) }
}

const ask = { model: 'policy', messages: [{ role: 'user' as const, content: 'Hi' }] }

t.test('R39: the SDK is answered by a responder, whole, and the record has it all', async (t) => {
  const { openai, responder, finish } = await setUp(t)
  await responder.hello()
  const askedAt = Date.now() / 1e3
  const asking = openai.chat.completions.create(ask)
  const given = await responder.given()
  t.match(given, {
    delivery: 1,
    session: 'task-7',
    run: 'default',
    turn: 1,
    seq: 1,
    method: 'POST',
    path: '/v1/chat/completions',
  })
  t.strictSame(JSON.parse(given.body.toString()), ask)
  t.equal(given.headers['content-type'], 'application/json')
  const secret = ['authorization', 'host', 'connection', 'content-length', 'x-rolltape-session']
  t.strictSame(
    Object.keys(given.headers).filter((name) => secret.includes(name)),
    [],
  )
  const [from, to] = [askedAt, Date.now() / 1e3].map((at) => at + 600)
  // Clocks that are set differ by a little.
  const isWithin = given.deadline > from! - 1 && given.deadline < to! + 1
  t.ok(isWithin, 'request_timeout is its deadline')
  responder.answer(given.id, JSON.stringify(COMPLETION), 200, { 'x-policy': 'step-3' })
  const { data, response } = await asking.withResponse()
  t.equal(data.choices[0]?.message.content, 'Hello there')
  t.equal(response.headers.get('x-policy'), 'step-3')
  t.equal((await responder.next('accepted')).id, given.id)
  const [record] = await finish()
  t.match(record, {
    session: 'task-7',
    turn: 1,
    outcome: 'complete',
    upstream: 'responder:',
    response: COMPLETION,
    tokens: [{ prompt_token_ids: [1, 2, 3], token_ids: [7, 8], aligned: true }],
    usage: { normalized: { input: 3, output: 2, total: 5 } },
  })
  t.equal(record?.seq, given.seq)
})

t.test('R39: the SDK gets a stream chunk by chunk, as the responder sends it', async (t) => {
  const { openai, responder, finish, address } = await setUp(t)
  await responder.hello()
  const asking = openai.chat.completions.create({ ...ask, stream: true })
  const { id } = await responder.given()
  responder.head(id)
  const stream = await asking
  const events = stream[Symbol.asyncIterator]()
  let text = ''
  for (const event of EVENTS) {
    responder.chunk(id, event)
    const { value } = await events.next()
    text += (value as OpenAI.ChatCompletionChunk).choices[0]?.delta.content ?? ''
  }
  responder.chunk(id, 'data: [DONE]\n\n')
  t.equal((await events.next()).done, true)
  responder.end(id)
  await responder.next('accepted')
  t.equal(text, 'Hello there')
  const client = new ControlClient(t, address)
  const listed = async () => messageOf(await client.call('ListUpstreams'), 1)!
  let upstream = await listed()
  // A lane that does not say in time how it is counts as silent.
  while (numberOf(upstream, 3) === 0) upstream = await listed()
  t.strictSame([textOf(upstream, 1), numberOf(upstream, 3)], ['responder:', 1], 'it is listed')
  const [record] = await finish()
  t.match(record, {
    stream: true,
    outcome: 'complete',
    response: { choices: [{ message: { content: 'Hello there' }, finish_reason: 'stop' }] },
  })
})

t.test('R40: a second answer is refused, the client has the first', async (t) => {
  const { openai, responder, finish } = await setUp(t)
  await responder.hello()
  const asking = openai.chat.completions.create(ask)
  const { id } = await responder.given()
  const body = JSON.stringify(COMPLETION)
  responder.answer(id, body)
  responder.answer(id, body.replace('there', 'twice'))
  responder.chunk(id, 'more')
  responder.end(id)
  responder.fail(id, 'no')
  responder.answer(12_345, body)
  for (let i = 0; i < 5; i++)
    t.match(await responder.next('rejected'), { reason: /over|ended|gets one/ })
  t.equal((await asking).choices[0]?.message.content, 'Hello there')
  await responder.next('accepted')
  t.equal((await finish()).length, 1)
  t.equal(responder.all.filter(({ kind }) => kind === 'accepted').length, 1)
})

t.test('R40: what is no answer is 502, or cuts where an answer had begun', async (t) => {
  const { openai, responder, finish } = await setUp(t)
  await responder.hello()
  const refused = async (act: (given: Given) => void): Promise<APIError> => {
    const asking = openai.chat.completions.create(ask).then(
      () => undefined,
      (error: unknown) => error as APIError,
    )
    act(await responder.given())
    return (await asking)!
  }
  const failed = await refused(({ id }) => responder.fail(id, 'out of memory'))
  t.match(failed, { status: 502, code: 'responder_failed', message: /out of memory/ })
  const odd = await refused(({ id }) => responder.answer(id, '{}', 99))
  t.match(odd, { status: 502, code: 'responder_failed', message: /status is 99/ })
  const bad = await refused(({ id }) => responder.answer(id, '{}', 200, { 'x-a': 'a\nb' }))
  t.match(bad, { status: 502, code: 'responder_failed' })
  t.match(await responder.next('rejected'), { reason: /status is 99/ })
  t.match(await responder.next('rejected'), { reason: /cannot be passed on/ })
  const own = await refused(({ id }) => responder.answer(id, '{"error":{"message":"mine"}}', 422))
  t.match(own, { status: 422, message: /mine/ }, 'an error of its own passes as it is')
  const cut = await refused(({ id }) => {
    responder.head(id, 200, { 'content-type': 'application/json' })
    responder.chunk(id, '{"id":')
    responder.fail(id, 'no')
  })
  t.equal(cut.status, undefined)
  const records = await finish()
  t.strictSame(
    records.map(({ http_status, outcome }) => [http_status, outcome]),
    [
      [502, 'complete'],
      [502, 'complete'],
      [502, 'complete'],
      [422, 'complete'],
      [200, 'upstream_error'],
    ],
  )
})

t.test('R39: a body of many messages arrives as it was, before anything else', async (t) => {
  const { url, responder, address } = await setUp(t)
  await responder.hello('', 0)
  const body = Buffer.alloc(5 * RESPONDER_PART_BYTES + 17, 'x')
  const asks = [body, Buffer.from('{}'), body].map((body) => {
    return fetch(`${url}/v1/completions`, { method: 'POST', body }).then((answer) => answer.text())
  })
  await untilWaiting(t, address, 3)
  responder.onRequest = (given) => responder.answer(given.id, String(given.body.length))
  responder.credits(3)
  t.strictSame(await Promise.all(asks), [body.length, 2, body.length].map(String))
})

t.test('R39: queues are apart, and rules choose between them', async (t) => {
  const { url, responder, address } = await setUp(t, {
    proxyBaseUrl: undefined,
    proxyRules: { judge: 'responder:judge', default: 'responder:' },
  })
  const judge = await new TestResponder(t, address).hello('judge')
  await responder.hello()
  judge.onRequest = ({ id }) => judge.answer(id, '"judge"')
  responder.onRequest = ({ id }) => responder.answer(id, '"policy"')
  const asked = (model: string) =>
    fetch(`${url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify({ model }) })
  t.equal(await (await asked('judge')).json(), 'judge')
  t.equal(await (await asked('any')).json(), 'policy')
  const lost = new TestResponder(t, address)
  lost.say({ 1: Buffer.from('') })
  await lost.next('welcome')
  const client = new ControlClient(t, address)
  const upstreams = ((await client.call('ListUpstreams')).get(1) ?? []) as Buffer[]
  t.equal(upstreams.length, 2)
})
