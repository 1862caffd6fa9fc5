// Mode `hybrid`: what was recorded comes from the recording, all else from the upstream, and is
// recorded elsewhere.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf, startReplay } from '../support/replayer.ts'

/** An upstream that names itself in its answers, and counts them. */
async function startNamed(t: Test, name: string) {
  let asked = 0
  const upstream = await startScriptedUpstream((x) => {
    const { messages } = JSON.parse(x.body.toString()) as { messages: { content: string }[] }
    const content = `${name} ${++asked}: ${messages.at(-1)?.content}`
    const message = { role: 'assistant', content }
    const text = JSON.stringify({ choices: [{ index: 0, message, finish_reason: 'stop' }] })
    const length = String(Buffer.byteLength(text))
    return x.send(responseHead(200, 'OK', [['Content-Length', length]]), text)
  })
  t.teardown(() => upstream.close())
  return { url: upstream.url, asked: () => asked }
}

/** Recording A with the turns one, two, three of session s1, and a hybrid over it. */
async function setUp(t: Test, options: RolltapeOptions = {}) {
  const first = await startNamed(t, 'recorded')
  const a = await startRecorder(t, first.url)
  for (const content of ['one', 'two', 'three']) await inSession(a.url, 's1', content)
  await a.finish()
  const live = await startNamed(t, 'live')
  const b = join(makeFolder(t), 'b.jsonl')
  const rolltape = await startReplay(t, a.file, {
    mode: 'hybrid',
    proxyBaseUrl: live.url,
    recordingFile: b,
    ...options,
  })
  return { a: a.file, b, live, rolltape }
}

async function inSession(url: string, session: string, content: string, headers: string[] = []) {
  const answer = await rawRequest(
    url,
    post(CHAT, bodyOf(content), [`x-session-id: ${session}`, ...headers]),
  )
  const parsed = JSON.parse(answer.body.toString()) as {
    choices?: { message: { content: string } }[]
    error?: { code: string }
  }
  return parsed.choices?.[0]?.message.content ?? `${answer.status} ${parsed.error?.code}`
}

t.test(
  'a miss is forwarded and recorded in B, never in A; a hit reaches no upstream',
  async (t) => {
    const { a, b, live, rolltape } = await setUp(t)
    const before = readFileSync(a)
    const answers: string[] = []
    for (const content of ['one', 'new', 'two', 'newer', 'three']) {
      answers.push(await inSession(rolltape.url, 's1', content))
    }
    t.strictSame(answers, [
      'recorded 1: one',
      'live 1: new',
      'recorded 2: two',
      'live 2: newer',
      'recorded 3: three',
    ])
    t.strictSame([live.asked(), rolltape.egressTotal], [2, 2])
    const { verdict, records } = await rolltape.close()
    t.match(verdict, { servedExact: 3, live: 2, missed: 0, exhausted: 0, unused: 0 })
    t.equal(records, 2)
    t.strictSame(readFileSync(a), before)
    const told = (await recordsOf(b)).map(({ seq, session, turn, outcome, request }) => {
      const { messages } = request as { messages: { content: string }[] }
      return [seq, session, turn, outcome, messages[0]?.content]
    })
    t.strictSame(told, [
      [1, 's1', 2, 'complete', 'new'],
      [2, 's1', 4, 'complete', 'newer'],
    ])
  },
)

t.test('past the end of what was recorded it goes live, or says so', async (t) => {
  const { rolltape, live } = await setUp(t)
  const twice = [
    await inSession(rolltape.url, 's1', 'one'),
    await inSession(rolltape.url, 's1', 'one'),
  ]
  t.strictSame(twice, ['recorded 1: one', 'live 1: one'])
  t.equal(live.asked(), 1)
  const strict = await setUp(t, { onExhausted: 'error' })
  await inSession(strict.rolltape.url, 's1', 'one')
  t.equal(await inSession(strict.rolltape.url, 's1', 'one'), '404 tape_exhausted')
  t.match((await strict.rolltape.close()).verdict, { exhausted: 1, live: 0 })
  const refused = (await recordsOf(strict.b)).map(({ outcome, http_status }) => [
    outcome,
    http_status,
  ])
  t.strictSame(refused, [['refused', 404]], 'what A did not answer is in B')
})

t.test('on_miss passthrough records nothing', async (t) => {
  const { rolltape, b } = await setUp(t, { onMiss: 'passthrough' })
  t.equal(await inSession(rolltape.url, 's1', 'new'), 'live 1: new')
  t.match((await rolltape.close()).verdict, { live: 1 })
  t.strictSame(await recordsOf(b), [])
})

t.test('without a recording file a miss passes through', async (t) => {
  const { rolltape } = await setUp(t, { recordingFile: undefined as never })
  t.equal(await inSession(rolltape.url, 's1', 'new'), 'live 1: new')
})

t.test('a session is replayed to turn k, then goes live', async (t) => {
  const { rolltape } = await setUp(t, { replayTurns: 2 })
  const answers: string[] = []
  for (const content of ['one', 'two', 'three', 'four']) {
    answers.push(await inSession(rolltape.url, 's1', content))
  }
  t.strictSame(answers, ['recorded 1: one', 'recorded 2: two', 'live 1: three', 'live 2: four'])
  t.match((await rolltape.close()).verdict, { servedExact: 2, live: 2, unused: 1 })
})

t.test('the turn is a matter of the session, by header or configuration', async (t) => {
  const own = { sessionOverride: { mine: { replayTurns: 1 } } }
  const { rolltape } = await setUp(t, { ...own, match: 'pooled' })
  const turns = ['x-rolltape-replay-turns: 0']
  t.equal(await inSession(rolltape.url, 'mine', 'two'), 'live 1: two')
  t.equal(await inSession(rolltape.url, 'other', 'three', turns), 'live 2: three')
  t.equal(await inSession(rolltape.url, 'other', 'three'), 'recorded 3: three')
  t.equal(await inSession(rolltape.url, 'mine', 'one'), 'recorded 1: one')
})

t.test('in sequence the recorded turns come first, whatever is asked', async (t) => {
  const { rolltape } = await setUp(t, { match: 'sequence', replayTurns: 2 })
  const answers: string[] = []
  for (const content of ['a', 'b', 'c']) {
    answers.push(await inSession(rolltape.url, 's1', content))
  }
  t.strictSame(answers, ['recorded 1: one', 'recorded 2: two', 'live 1: c'])
})

t.test('R2: what is no JSON is the upstream’s to judge', async (t) => {
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(422, 'Unprocessable', [['Content-Length', '2']]), 'no'),
  )
  t.teardown(() => upstream.close())
  const { rolltape } = await setUp(t, { proxyBaseUrl: upstream.url })
  const { status } = await rawRequest(rolltape.url, post(CHAT, '{"broken'))
  t.equal(status, 422)
})

t.test('a session may have a mode of its own', async (t) => {
  const sessionOverride = { dry: { mode: 'replay' }, raw: { mode: 'passthrough' } } as const
  const { rolltape, b } = await setUp(t, { sessionOverride, match: 'pooled' })
  t.equal(await inSession(rolltape.url, 'dry', 'new'), '404 tape_miss')
  t.equal(await inSession(rolltape.url, 'raw', 'one'), 'live 1: one')
  t.equal(await inSession(rolltape.url, 'any', 'one'), 'recorded 1: one')
  t.equal(await inSession(rolltape.url, 'any', 'new'), 'live 2: new')
  await rolltape.close()
  t.strictSame(
    (await recordsOf(b)).map(({ session }) => session),
    ['any'],
  )
})
