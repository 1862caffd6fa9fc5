// Sessions are summed up where exchanges end, whatever the mode, and annotated by who trains on them.
import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { AnnotationWriter, annotationsFile } from '../../src/trajectory/annotations.ts'
import { realDisk } from '../../src/tape/disk.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }

async function start(t: Test, options: RolltapeOptions) {
  const config = resolveOptions({ options: { port: 0, lanes: 2, ...options } })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const url = `http://127.0.0.1:${supervisor.port}`
  const ask = async (session: string, content = 'hi', path = CHAT): Promise<number> => {
    const headers = [`x-session-id: ${session}`]
    return (await rawRequest(url, post(path, bodyOf(content), headers))).status
  }
  return { supervisor, ask }
}

async function record(t: Test) {
  const server = await startInferenceServer({ paceMs: 0 })
  t.teardown(() => server.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const proxyBaseUrl = `${server.url}/v1`
  return { file, ...(await start(t, { proxyBaseUrl, recordingFile: file })) }
}

/** Records come a moment after their answers. */
async function settled(supervisor: Supervisor, exchanges: number) {
  for (;;) {
    const all = await supervisor.sessions.list('', 100)
    if (all.reduce((sum, one) => sum + one.exchanges, 0) >= exchanges) return all
  }
}

t.test('what a session comes to: exchanges, turns, tokens, outcomes, times', async (t) => {
  const { file, supervisor, ask } = await record(t)
  const fromMs = Date.now()
  for (const session of ['s2', 's1', 's2']) t.equal(await ask(session), 200)
  await ask('s2', 'hi', '/v1/nowhere')
  const all = await settled(supervisor, 4)
  await supervisor.close()
  const records = await recordsOf(file)
  const tokens = (session: string, what: 'input' | 'output'): number =>
    records
      .filter((one) => one.session === session)
      .reduce((sum, { usage }) => sum + (usage?.normalized[what] ?? 0), 0)
  t.match(all, [
    { session: 's1', exchanges: 1, turns: 1, outcomes: { complete: 1 } },
    { session: 's2', exchanges: 3, turns: 2, outcomes: { complete: 3 } },
  ])
  for (const { session, inputTokens, outputTokens, firstMs, lastMs } of all) {
    t.strictSame([inputTokens, outputTokens], [tokens(session, 'input'), tokens(session, 'output')])
    t.ok(inputTokens > 0 && outputTokens > 0)
    // Clocks of threads may differ by what the system's was set meanwhile.
    t.ok(firstMs >= fromMs - 5_000 && lastMs >= firstMs && lastMs <= Date.now() + 5_000)
  }
})

t.test('pages go by id; a session that is closed is listed no more', async (t) => {
  const { supervisor, ask } = await record(t)
  for (const session of ['c', 'a', 'b', 'd']) await ask(session)
  await settled(supervisor, 4)
  const page = async (after: string) =>
    (await supervisor.sessions.list(after, 2)).map(({ session }) => session)
  t.strictSame([await page(''), await page('b'), await page('d')], [['a', 'b'], ['c', 'd'], []])
  await supervisor.switch({ session: { id: 'b', own: { mode: 'passthrough' } } })
  t.match(await supervisor.sessions.get('b'), { own: { mode: 'passthrough' }, exchanges: 1 })
  t.match(await supervisor.sessions.close('b'), { session: { session: 'b' }, cursors: [] })
  t.equal(supervisor.modes.overrides.size, 0)
  await t.rejects(supervisor.sessions.get('b'), { code: 'not_found' })
  await ask('b')
  t.match(
    (await settled(supervisor, 4)).find(({ session }) => session === 'b'),
    { exchanges: 1 },
  )
})

t.test('in a replay too, and closing tells what was not asked for', async (t) => {
  const { file, supervisor, ask } = await record(t)
  for (const content of ['one', 'two', 'three']) await ask('s', content)
  await supervisor.close()
  const replay = await start(t, { replayFile: file })
  t.equal(await replay.ask('fresh', 'one'), 200)
  t.equal(await replay.ask('fresh', 'none'), 404)
  t.match(await settled(replay.supervisor, 2), [
    { session: 'fresh', exchanges: 2, turns: 2, outcomes: { complete: 1, refused: 1 } },
  ])
  const { cursors } = await replay.supervisor.sessions.close('fresh')
  t.match(cursors, [{ session: 'fresh', recordedSession: 's', total: 3, used: 1 }])
})

t.test('what is not recorded comes to the same as if it were', async (t) => {
  const { supervisor, ask } = await start(t, { proxyBaseUrl: 'http://127.0.0.1:9' })
  t.equal(await ask('s'), 502)
  t.match(await settled(supervisor, 1), [{ session: 's', outcomes: { upstream_error: 1 } }])
  const file = join(makeFolder(t), 'a.jsonl')
  const recorded = await start(t, { proxyBaseUrl: 'http://127.0.0.1:9', recordingFile: file })
  t.equal(await recorded.ask('s'), 502)
  t.match(await settled(recorded.supervisor, 1), [{ outcomes: { upstream_error: 1 } }])
})

t.test('annotations are appended beside the recording', async (t) => {
  const { file, supervisor, ask } = await record(t)
  await ask('s1')
  const { recording } = supervisor
  recording?.annotate({ session: 's1', reward: 0.5, done: true, tags: { env: 'dev' } })
  recording?.annotate({ session: 's1', reward: -1 })
  t.throws(() => recording?.annotate({ session: 'none', reward: 1 }), { code: 'not_found' })
  await supervisor.close()
  const lines = readFileSync(annotationsFile(file), 'utf8').trimEnd().split('\n')
  t.match(
    lines.map((line) => JSON.parse(line) as object),
    [
      {
        schema: 'rolltape.annotation/1',
        session: 's1',
        reward: 0.5,
        done: true,
        tags: { env: 'dev' },
      },
      { schema: 'rolltape.annotation/1', session: 's1', reward: -1 },
    ],
  )
})

t.test('a line that a crash tore is cut off before the next is written', async (t) => {
  const path = join(makeFolder(t), 'a.annotations.jsonl')
  const first = new AnnotationWriter(path, true)
  first.append({ session: 's', reward: 1 })
  first.close()
  appendFileSync(path, '{"schema":"rolltape.ann')
  const second = new AnnotationWriter(path, true)
  second.append({ session: 's', reward: 2 })
  second.close()
  const rewards = readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { reward: number }).reward)
  t.strictSame(rewards, [1, 2])
})

t.test('a disk that is full leaves no part of a line', async (t) => {
  const path = join(makeFolder(t), 'a.annotations.jsonl')
  let isFull = false
  const writer = new AnnotationWriter(path, false, {
    ...realDisk,
    writeSync: (fd, bytes, position) => {
      if (!isFull) return realDisk.writeSync(fd, bytes, position)
      if (bytes.length > 10)
        return realDisk.writeSync(fd, bytes.subarray(0, bytes.length - 5), position)
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
    },
  })
  writer.append({ session: 's', reward: 1 })
  const before = readFileSync(path, 'utf8')
  isFull = true
  t.throws(() => writer.append({ session: 's', reward: 2 }), { code: 'tape_unavailable' })
  t.equal(readFileSync(path, 'utf8'), before)
  isFull = false
  writer.append({ session: 's', reward: 3 })
  t.match(readFileSync(path, 'utf8').slice(before.length), /"reward":3/)
})
