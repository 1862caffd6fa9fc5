// Mode `verify`: the live answer is served and recorded, with how it differs from the recorded one.
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { ExchangeRecord, RolltapeOptions } from '../../src/rolltape.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { CHAT, ask, bodyOf, startReplay } from '../support/replayer.ts'

type Answer = { status?: number; body: object } | { stream: string }

/** An upstream that answers by what the last message says. */
async function startAnswering(t: Test, answers: Readonly<Record<string, Answer>>) {
  const upstream = await startScriptedUpstream((x) => {
    const { messages } = JSON.parse(x.body.toString()) as { messages: { content: string }[] }
    const answer = answers[messages.at(-1)?.content ?? ''] ?? { status: 500, body: {} }
    if ('stream' in answer) {
      const type = [['Content-Type', 'text/event-stream']] as const
      const length = ['Content-Length', String(answer.stream.length)] as const
      return x.send(responseHead(200, 'OK', [...type, length]), answer.stream)
    }
    const text = JSON.stringify(answer.body)
    const length = String(Buffer.byteLength(text))
    return x.send(responseHead(answer.status ?? 200, 'OK', [['Content-Length', length]]), text)
  })
  t.teardown(() => upstream.close())
  return upstream.url
}

function says(content: string, more: object = {}): { body: object } {
  const message = { role: 'assistant', content, ...more }
  const usage = { prompt_tokens: content.length, completion_tokens: 1 }
  return {
    body: {
      id: `chatcmpl-${Math.random()}`,
      created: Date.now(),
      choices: [{ index: 0, message, finish_reason: 'stop', logprobs: null }],
      usage,
    },
  }
}

async function verified(
  t: Test,
  recorded: Readonly<Record<string, Answer>>,
  live: Readonly<Record<string, Answer>>,
  options: RolltapeOptions & { asked?: string[]; tapeOnly?: boolean } = {},
) {
  const { asked = Object.keys(recorded), tapeOnly = false, ...more } = options
  const a = await startRecorder(t, await startAnswering(t, recorded))
  for (const content of Object.keys(recorded)) await ask(a.url, content)
  await a.finish()
  const b = join(makeFolder(t), 'b.jsonl')
  const rolltape = await startReplay(t, tapeOnly ? a.folder : a.file, {
    mode: 'verify',
    proxyBaseUrl: await startAnswering(t, live),
    recordingFile: b,
    ...more,
  })
  const bodies: string[] = []
  for (const content of asked) bodies.push((await ask(rolltape.url, content)).body.toString())
  const { verdict } = await rolltape.close()
  return { verdict, bodies, records: await recordsOf(b), source: a.folder }
}

const told = (record: ExchangeRecord | undefined): unknown[] | undefined =>
  record?.verify?.differences.map((one) => [one.what, one.pointer, one.recorded, one.live])

t.test('the live answer is served; ids, times and usage do not count', async (t) => {
  const live = says('hello there')
  const { verdict, bodies, records, source } = await verified(
    t,
    { hi: says('hello there') },
    { hi: live },
  )
  t.strictSame(bodies, [JSON.stringify(live.body)])
  const place = { recording: source, seq: 1 }
  t.strictSame(records[0]?.verify, { how: 'raw', recorded: place, same: true, differences: [] })
  t.match(verdict, { verified: { same: 1, different: 0, alone: 0 }, live: 1, unused: 0 })
})

t.test('status, shape and text are told apart, with the place', async (t) => {
  const call = { type: 'function', id: 'x', function: { name: 'ls', arguments: '{}' } }
  const recorded = {
    text: says('The capital of France is Paris, of course.'),
    shape: says('fine'),
    calls: says('', { tool_calls: [call] }),
    status: says('fine'),
  }
  const live = {
    text: says('The capital of France is Lyon, of course.'),
    shape: says('fine', { reasoning_content: 'hm' }),
    calls: says('', { tool_calls: [{ ...call, id: 'y' }, call] }),
    status: { status: 503, body: { error: { message: 'busy' } } },
  }
  const { verdict, records } = await verified(t, recorded, live)
  t.match(verdict, { verified: { same: 0, different: 4, alone: 0 } })
  t.strictSame(records.map(told), [
    [
      [
        'text',
        '/choices/0/message/content',
        'apital of France is Paris, of course.',
        'apital of France is Lyon, of course.',
      ],
    ],
    [['shape', '/choices/0/message/reasoning_content', 'nothing', 'a string']],
    [['shape', '/choices/0/message/tool_calls', '1 items', '2 items']],
    [
      ['status', '', '200', '503'],
      ['shape', '/choices', 'a list', 'nothing'],
      ['shape', '/error', 'nothing', 'an object'],
    ],
  ])
  t.equal(records[0]?.verify?.differences[0]?.at, 25)
})

t.test('what was not recorded is served, and counted as such', async (t) => {
  const { verdict, records } = await verified(
    t,
    { hi: says('hello') },
    { hi: says('hello'), new: says('x') },
    { asked: ['new', 'hi', 'hi'] },
  )
  t.strictSame(
    records.map(({ verify }) => [verify?.how, verify?.same]),
    [
      ['missed', null],
      ['raw', true],
      ['exhausted', null],
    ],
  )
  t.match(verdict, { verified: { same: 1, alone: 2 }, live: 3, missed: 1, exhausted: 1 })
})

t.test('with a tape alone the recorded answer is derived from it', async (t) => {
  const { verdict } = await verified(
    t,
    { hi: says('one') },
    { hi: says('two') },
    { tapeOnly: true },
  )
  t.match(verdict, { verified: { same: 0, different: 1 } })
})

t.test('streams of a real inference server are compared as what they say', async (t) => {
  const server = await startInferenceServer({ paceMs: 0 })
  t.teardown(() => server.close())
  const body = (content: string): string => bodyOf(content, { stream: true })
  const a = await startRecorder(t, `${server.url}/v1`)
  await rawRequest(a.url, post(CHAT, body('tell me')))
  await a.finish()
  const b = join(makeFolder(t), 'b.jsonl')
  const rolltape = await startReplay(t, a.file, {
    mode: 'verify',
    proxyBaseUrl: `${server.url}/v1`,
    recordingFile: b,
  })
  await rawRequest(rolltape.url, post(CHAT, body('tell me')))
  t.match((await rolltape.close()).verdict, { verified: { same: 1, different: 0, alone: 0 } })
})

t.test('a client that leaves gives its record back to the next', async (t) => {
  const { promise: left, resolve: leave } = Promise.withResolvers<void>()
  let asked = 0
  const text = JSON.stringify(says('slow').body)
  const head = responseHead(200, 'OK', [['Content-Length', String(text.length)]])
  const slow = await startScriptedUpstream(async (x) => {
    if (asked++ === 0) await left
    return x.send(head, text)
  })
  t.teardown(() => slow.close())
  const a = await startRecorder(t, await startAnswering(t, { hi: says('slow') }))
  await ask(a.url, 'hi')
  await a.finish()
  const rolltape = await startReplay(t, a.file, {
    mode: 'verify',
    proxyBaseUrl: slow.url,
    recordingFile: join(makeFolder(t), 'b.jsonl'),
  })
  const gone = new AbortController()
  const first = fetch(`${rolltape.url}${CHAT}`, {
    method: 'POST',
    body: bodyOf('hi'),
    signal: gone.signal,
  })
  while (asked === 0) await new Promise((resolve) => setImmediate(resolve))
  gone.abort()
  await t.rejects(first)
  while (rolltape.verdict?.aborted === 0) await new Promise((resolve) => setImmediate(resolve))
  leave()
  await ask(rolltape.url, 'hi')
  t.match((await rolltape.close()).verdict, { verified: { same: 1, different: 1 }, aborted: 1 })
})
