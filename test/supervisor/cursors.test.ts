// Cursors are read off the claims, moved, reset and forked while lanes serve.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { recordOf } from '../support/record-lines.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }
const TURNS = 4

/** Sessions a and b of four turns each, in sequence. */
async function setUp(t: Test, options: RolltapeOptions = {}) {
  let answers = 0
  const upstream = await startScriptedUpstream((x) => {
    const text = `{"n":${++answers}}`
    return x.send(responseHead(200, 'OK', [['Content-Length', String(text.length)]]), text)
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  for (const session of ['a', 'b']) {
    for (let turn = 0; turn < TURNS; turn++) {
      await rawRequest(recorder.url, post(CHAT, bodyOf('go'), [`x-session-id: ${session}`]))
    }
  }
  await recorder.finish()
  const config = resolveOptions({
    options: { port: 0, replayFile: recorder.file, match: 'sequence', lanes: 2, ...options },
  })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const url = `http://127.0.0.1:${supervisor.port}`
  const { cursors } = supervisor
  /** A client has its answer a moment before its record counts as used: that is waited for. */
  const ask = async (session: string, run = 'default'): Promise<unknown> => {
    const claimed = await claims()
    const headers = [`x-session-id: ${session}`, `x-rolltape-run: ${run}`]
    const { status, body } = await rawRequest(url, post(CHAT, bodyOf('go'), headers))
    while ((await claims()) > claimed) await new Promise((resolve) => setImmediate(resolve))
    return status === 200 ? (JSON.parse(body.toString()) as { n: number }).n : status
  }
  const claims = async (): Promise<number> =>
    (await cursors.list({ max: 100 })).reduce((sum, one) => sum + one.claimed, 0)
  return { supervisor, ask, cursors }
}

t.test('R23: position, total, and who is bound, over both lanes', async (t) => {
  const { ask, cursors } = await setUp(t)
  t.strictSame(await cursors.list({ max: 10 }), [])
  t.strictSame([await ask('a'), await ask('a'), await ask('fresh')], [1, 2, 5])
  const a = {
    run: 'default',
    session: 'a',
    isBound: true,
    recordedSession: 'a',
    position: 2,
    total: TURNS,
    used: 2,
    claimed: 0,
    next: { seq: 3, turn: 3 },
  }
  const fresh = { ...a, session: 'fresh', recordedSession: 'b', position: 1, used: 1 }
  const all = [a, { ...fresh, next: { seq: 6, turn: 2 } }]
  t.strictSame(await cursors.list({ max: 10 }), all)
  t.strictSame(await cursors.list({ run: 'other', max: 10 }), [])
  t.strictSame(await cursors.get({ run: 'default', session: 'fresh' }), all[1])
  const after = { run: 'default', session: 'a' }
  t.strictSame(await cursors.list({ after, max: 1 }), [all[1]], 'the next page')
})

t.test('R23: seek moves it, both ways, and only from where it is expected', async (t) => {
  const { ask, cursors } = await setUp(t)
  const name = { run: 'default', session: 'a' }
  t.strictSame([await ask('a'), await ask('a')], [1, 2])
  t.match(await cursors.seek(name, { position: 3, expected: 2 }), { position: 3, used: 3 })
  t.equal(await ask('a'), 4)
  t.match(await cursors.seek(name, { position: 1 }), { position: 1, used: 1 })
  t.equal(await ask('a'), 2)
  await t.rejects(cursors.seek(name, { position: 0, expected: 7 }), { code: 'generation_conflict' })
  await t.rejects(cursors.seek(name, { position: 5 }), { code: 'bad_argument' })
  await t.rejects(cursors.get({ run: 'default', session: 'none' }), { code: 'not_found' })
  await t.rejects(cursors.get({ run: 'none', session: 'a' }), { code: 'not_found' })
})

t.test('R23: reset begins a session, or a whole run, anew', async (t) => {
  const { ask, cursors } = await setUp(t)
  t.strictSame([await ask('a'), await ask('b')], [1, 5])
  cursors.reset('default', 'a')
  t.strictSame([await ask('a'), await ask('b')], [1, 6])
  cursors.reset('default')
  t.strictSame([await ask('new'), await ask('b')], [1, 5])
})

t.test('a cursor is forked into another run', async (t) => {
  const { ask, cursors } = await setUp(t)
  t.strictSame([await ask('b'), await ask('b')], [5, 6])
  const to = { run: 'second', session: 'try' }
  t.match(cursors.fork({ run: 'default', session: 'b' }, to), {
    run: 'second',
    session: 'try',
    recordedSession: 'b',
    position: 2,
  })
  t.strictSame([await ask('try', 'second'), await ask('b')], [7, 7], 'each goes on by itself')
  t.match(await cursors.get(to), { session: 'try', position: 3 })
  const within = { run: 'default', session: 'x' }
  t.throws(() => cursors.fork({ run: 'default', session: 'b' }, within), { code: 'bad_argument' })
  const taken = { run: 'second', session: 'other' }
  t.throws(() => cursors.fork({ run: 'default', session: 'b' }, taken), { code: 'wrong_state' })
})

t.test('records that are not served are neither waited for nor unused', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const lines = [0, 1, 2].map((n) => {
    const left = n === 1 ? { outcome: 'client_gone', partial: true } : {}
    return `${JSON.stringify({ ...recordOf(n, { session: 'a' }), ...left })}\n`
  })
  writeFileSync(file, lines.join(''))
  const start = async (replayPartial: boolean) => {
    const options = { port: 0, replayFile: file, match: 'sequence', replayPartial } as const
    const supervisor = new Supervisor(resolveOptions({ options }), SILENT)
    await supervisor.start()
    t.teardown(() => supervisor.close())
    const url = `http://127.0.0.1:${supervisor.port}`
    await rawRequest(url, post(CHAT, bodyOf('go'), ['x-session-id: a']))
    const name = { run: 'default', session: 'a' }
    while ((await supervisor.cursors.get(name)).claimed > 0)
      await new Promise((resolve) => setImmediate(resolve))
    const { position, total, next } = await supervisor.cursors.get(name)
    return { position, total, next: next?.seq, unused: supervisor.verdict?.unused }
  }
  t.strictSame(await start(false), { position: 1, total: 2, next: 3, unused: 1 })
  t.strictSame(await start(true), { position: 1, total: 3, next: 2, unused: 2 })
})

t.test('what was given back out of order leaves the position right', async (t) => {
  const { ask, cursors, supervisor } = await setUp(t, { match: 'keyed' })
  const slow = ['x-session-id: a', 'x-rolltape-pace: ttft=60000,tps=1']
  const url = `http://127.0.0.1:${supervisor.port}`
  const gone = new AbortController()
  const headers = Object.fromEntries(slow.map((one) => one.split(': ') as [string, string]))
  const leaving = fetch(`${url}${CHAT}`, {
    method: 'POST',
    headers,
    body: bodyOf('go'),
    signal: gone.signal,
  }).then((response) => response.text())
  while (supervisor.counter('servedExact') < 1)
    await new Promise((resolve) => setImmediate(resolve))
  t.strictSame([await ask('a'), await ask('a')], [2, 3])
  const name = { run: 'default', session: 'a' }
  t.match(await cursors.get(name), { position: 0, used: 2, claimed: 1 })
  gone.abort()
  await t.rejects(leaving)
  while (supervisor.counter('aborted') < 1) await new Promise((resolve) => setImmediate(resolve))
  while ((await cursors.get(name)).claimed > 0)
    await new Promise((resolve) => setImmediate(resolve))
  t.match(await cursors.get(name), { position: 0, used: 2, claimed: 0 })
  t.equal(await ask('a'), 1)
  t.match(await cursors.get(name), { position: 3, used: 3 })
})

t.test('a run that is reset while an answer streams is as fresh as any', async (t) => {
  const { ask, cursors, supervisor } = await setUp(t)
  const url = `http://127.0.0.1:${supervisor.port}`
  const headers = ['x-session-id: a', 'x-rolltape-pace: ttft=300,tps=1']
  const streaming = rawRequest(url, post(CHAT, bodyOf('go'), headers))
  while (supervisor.counter('servedExact') < 1)
    await new Promise((resolve) => setImmediate(resolve))
  cursors.reset('default')
  t.ok((await streaming).whole)
  t.strictSame([await ask('a'), await ask('a')], [1, 2])
})

t.test('with on_exhausted loop a session begins anew, and others go on', async (t) => {
  const { ask } = await setUp(t, { onExhausted: 'loop' })
  t.strictSame([await ask('a'), await ask('a')], [1, 2])
  for (const n of [5, 6, 7, 8, 5]) t.equal(await ask('b'), n)
  t.equal(await ask('a'), 3)
})

t.test('two runs hold the same record at once, each its own', async (t) => {
  const { ask, cursors, supervisor } = await setUp(t, { lanes: 1 })
  const url = `http://127.0.0.1:${supervisor.port}`
  const slow = (run: string) =>
    rawRequest(
      url,
      post(CHAT, bodyOf('go'), [
        'x-session-id: a',
        `x-rolltape-run: ${run}`,
        'x-rolltape-pace: ttft=300,tps=1',
      ]),
    )
  t.strictSame(
    (await Promise.all([slow('one'), slow('two')])).map(({ whole }) => whole),
    [true, true],
  )
  while ((await cursors.list({ max: 10 })).some(({ claimed }) => claimed > 0))
    await new Promise((resolve) => setImmediate(resolve))
  for (const run of ['one', 'two']) {
    t.equal(await ask('a', run), 2)
    t.match(await cursors.get({ run, session: 'a' }), { used: 2, claimed: 0 })
  }
})

t.test('without a replay there are none', async (t) => {
  const config = resolveOptions({ options: { port: 0, proxyBaseUrl: 'http://127.0.0.1:9' } })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  t.throws(() => supervisor.cursors.list({ max: 1 }), { code: 'wrong_state' })
})
