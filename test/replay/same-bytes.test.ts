// What was recorded comes back: the same bytes, headers and chunks, to the right session, once.
import { createHash } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startRolltape } from '../../src/rolltape.ts'
import type { Rolltape, RolltapeOptions } from '../../src/rolltape.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import type { RawAnswer } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const STREAM = responseHead(200, 'Fine', [
  ['Content-Type', 'text/event-stream'],
  ['X-Twice', 'a'],
  ['x-twice', 'b'],
  ['Set-Cookie', 'secret=1'],
  ['Transfer-Encoding', 'chunked'],
])

/** Records what `ask` asks for and returns the recording's file. */
async function record(
  t: Test,
  script: Parameters<typeof startScriptedUpstream>[0],
  ask: (url: string) => Promise<unknown>,
): Promise<string> {
  const upstream = await startScriptedUpstream(script)
  const recorder = await startRecorder(t, upstream.url)
  await ask(recorder.url)
  await recorder.finish()
  await upstream.close()
  return recorder.file
}

async function replay(t: Test, file: string, options: RolltapeOptions = {}): Promise<Rolltape> {
  const rolltape = await startRolltape({ port: 0, replayFile: file, logLevel: 'error', ...options })
  t.teardown(() => rolltape.close())
  return rolltape
}

const digest = (answer: RawAnswer): string => {
  const hop = new Set(['connection', 'keep-alive', 'date', 'set-cookie'])
  const headers = answer.headers.filter(([name]) => !hop.has(name.toLowerCase()))
  const head = JSON.stringify([answer.status, answer.reason, headers, answer.trailers])
  return createHash('sha256').update(head).update(answer.body).digest('hex')
}

t.test('R25: status, headers, body and trailers are those of the recording', async (t) => {
  const ask = async (url: string): Promise<string[]> => {
    const answers = []
    for (let i = 0; i < 6; i++) answers.push(await rawRequest(url, post(CHAT, `{"i":${i}}`)))
    const head = 'HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n'
    answers.push(await rawRequest(url, head, 'HEAD'))
    return answers.map(digest)
  }
  let recorded: string[] = []
  const file = await record(
    t,
    (x) => {
      if (x.head.method === 'HEAD') return x.send(responseHead(200, 'OK', [['X-A', 'b']]))
      const { i } = JSON.parse(x.body.toString()) as { i: number }
      if (i === 4)
        return x.send(
          responseHead(429, 'Slow', [
            ['Retry-After', '7'],
            ['Content-Length', '2'],
          ]),
          '{}',
        )
      if (i === 5) return x.send(responseHead(204, 'Nothing', []))
      const trailers = lastChunk([['X-Sum', `${i}`]])
      return x.send(STREAM, chunkOf(`data: {"i":${i}}\n\n`), chunkOf('data: [DONE]\n\n'), trailers)
    },
    async (url) => (recorded = await ask(url)),
  )
  const rolltape = await replay(t, file)
  t.strictSame(await ask(rolltape.url), recorded)
  t.equal(rolltape.egressTotal, 0, 'no upstream was asked')
})

t.test('eight equal prompts give their eight answers, each once; the ninth is 404', async (t) => {
  let n = 0
  const gate = Promise.withResolvers<void>()
  const body = '{"model":"m","messages":[]}'
  const ask = (url: string, count: number): Promise<string[]> =>
    Promise.all(
      Array.from({ length: count }, async () => {
        return (await rawRequest(url, post(CHAT, body))).body.toString()
      }),
    )
  const file = await record(
    t,
    async (x) => {
      const mine = `{"n":${n++}}`
      if (n === 8) gate.resolve()
      await x.send(gate.promise, responseHead(200, 'OK', [['Content-Length', '7']]), mine)
    },
    (url) => ask(url, 8),
  )
  const rolltape = await replay(t, file)
  const answers = await ask(rolltape.url, 8)
  t.strictSame(
    answers.sort(),
    Array.from({ length: 8 }, (_, i) => `{"n":${i}}`),
  )
  const ninth = await rawRequest(rolltape.url, post(CHAT, body))
  t.equal(ninth.status, 404)
  t.match(JSON.parse(ninth.body.toString()), {
    error: {
      code: 'tape_exhausted',
      message: 'trajectory exhausted at step 8 (total recorded steps=8)',
    },
  })
  const miss = await rawRequest(rolltape.url, post(CHAT, '{"model":"other"}'))
  t.match(JSON.parse(miss.body.toString()), { error: { code: 'tape_miss' } })
  for (const bad of ['[1]', '{"a":', 'x']) {
    t.equal((await rawRequest(rolltape.url, post(CHAT, bad))).status, 400, `R2: ${bad}`)
  }
})

t.test('sessions with new ids bind each to one recorded session', async (t) => {
  const sessions = 12
  const turns = 3
  const ask = (url: string, prefix: string): Promise<string[][]> =>
    Promise.all(
      Array.from({ length: sessions }, async (_, s) => {
        const texts = []
        for (let turn = 0; turn < turns; turn++) {
          const request = post(CHAT, `{"turn":${turn}}`, [`x-session-id: ${prefix}${s}`])
          texts.push((await rawRequest(url, request)).body.toString())
        }
        return texts
      }),
    )
  const file = await record(
    t,
    (x) => {
      const { turn } = JSON.parse(x.body.toString()) as { turn: number }
      const text = `${x.header('x-session-id')!.padEnd(6)}${turn}`
      return x.send(responseHead(200, 'OK', [['Content-Length', '7']]), text)
    },
    (url) => ask(url, 'rec'),
  )
  const rolltape = await replay(t, file)
  const again = await ask(rolltape.url, 'new')
  for (const texts of again) {
    t.equal(new Set(texts.map((text) => text.slice(0, 6))).size, 1, 'one recorded session each')
    t.strictSame(
      texts.map((text) => text[6]),
      ['0', '1', '2'],
    )
  }
  t.equal(new Set(again.map((texts) => texts[0])).size, sessions, 'and no two the same')
})

t.test('a client that leaves and asks again gets the same answer', async (t) => {
  const file = await record(
    t,
    (x) => {
      const done = chunkOf('data: [DONE]\n\n')
      return x.send(STREAM, chunkOf(`data: ${x.index}\n\n`), done, lastChunk())
    },
    async (url) => {
      for (let i = 0; i < 2; i++) await rawRequest(url, post(CHAT, '{}'))
    },
  )
  const rolltape = await replay(t, file, { pace: 'ttft=0,tps=2' })
  const client = await RawClient.open(rolltape.url)
  client.send(post(CHAT, '{}'))
  await client.until((bytes) => bytes.includes('data: 0'))
  client.close()
  // Two connections are two: that one is gone is seen when it is, not before the next is served.
  while (rolltape.verdict?.aborted !== 1) await new Promise(setImmediate)
  const again = await RawClient.open(rolltape.url)
  again.send(post(CHAT, '{}'))
  await again.until((bytes) => bytes.includes('data: '))
  t.match(again.bytes.toString(), /data: 0/)
  again.close()
})

t.test('R29 R23: sequence gives the records in their order, whatever is asked', async (t) => {
  const file = await record(
    t,
    (x) => x.send(responseHead(200, 'OK', [['Content-Length', '1']]), String(x.index)),
    async (url) => {
      for (const i of [0, 1, 2]) await rawRequest(url, post(CHAT, `{"i":${i}}`))
    },
  )
  const rolltape = await replay(t, file, { match: 'sequence' })
  const texts = []
  for (let i = 0; i < 3; i++) {
    texts.push((await rawRequest(rolltape.url, post(CHAT, '{"other":1}'))).body.toString())
  }
  t.strictSame(texts, ['0', '1', '2'])
  const end = await rawRequest(rolltape.url, post(CHAT, '{}'))
  t.match(JSON.parse(end.body.toString()).error.message, /exhausted at step 3 .*steps=3/)
})

t.test(
  'a miss names the nearest recorded request, where it differs, and what to ignore',
  async (t) => {
    const body = (id: string, text: string): string =>
      JSON.stringify({ model: 'm', user: id, messages: [{ role: 'user', content: text }] })
    const file = await record(
      t,
      (x) => x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
      async (url) => {
        for (const text of ['one', 'two']) await rawRequest(url, post(CHAT, body('a', text)))
      },
    )
    const rolltape = await replay(t, file)
    const miss = await rawRequest(rolltape.url, post(CHAT, body('b', 'two')))
    t.equal(miss.status, 404)
    const { error } = JSON.parse(miss.body.toString()) as { error: { message: string } }
    t.match(error.message, /nearest is [0-9a-f]+-2 \(session "default", turn 2\)/)
    t.match(error.message, /\/user: recorded "a", asked "b"\nto match it: --ignore '\/user'$/)
    const lenient = await replay(t, file, { ignore: ['/user'] })
    t.equal((await rawRequest(lenient.url, post(CHAT, body('b', 'two')))).status, 200)
    t.match((await lenient.close()).verdict, { servedByRule: 1, servedExact: 0 })
  },
)
