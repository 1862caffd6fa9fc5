// A lane that dies or falls silent is replaced: its clients see a reset, its exchanges are told.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BroadcastChannel } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import { tapeFolderOf } from '../../src/supervisor/recording.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { squat } from '../support/squat.ts'

const CHAT = '/v1/chat/completions'
const ENTRY = new URL('../support/mortal-lane.ts', import.meta.url)

for (const how of ['exit', 'hang'] as const) {
  t.test(`a lane that is lost by ${how} is replaced, and nothing is lost with it`, async (t) => {
    const upstream = await startScriptedUpstream((x) => {
      if (x.header('x-open') === undefined) {
        return x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
      }
      return x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('part'))
    })
    t.teardown(() => upstream.close())
    const file = join(makeFolder(t), 'a.jsonl')
    const config = resolveOptions({
      options: { port: 0, proxyBaseUrl: upstream.url, recordingFile: file },
    })
    const said: string[] = []
    const say = (_fields: object, text: string): void => void said.push(text)
    const supervisor = new Supervisor(
      config,
      { debug: say, warn: say, error: say },
      { entry: ENTRY },
    )
    await supervisor.start()
    t.teardown(() => supervisor.close())
    const url = `http://127.0.0.1:${supervisor.port}`
    for (let i = 0; i < 3; i++) await rawRequest(url, post(CHAT, `{"i":${i}}`))
    const open = await RawClient.open(url)
    open.send(post(CHAT, '{}', ['x-open: 1']))
    await open.until((bytes) => bytes.includes('part'))

    const channel = new BroadcastChannel('mortal-lane')
    channel.postMessage(how)
    await open.closed
    channel.close()
    let served = await ask(url)
    while (served !== 200) served = await ask(url)
    await supervisor.close()
    const records = await recordsOf(file)
    t.strictSame(
      records.map((record) => record.outcome),
      ['complete', 'complete', 'complete', 'incomplete', 'complete'],
    )
    t.strictSame(
      records.map((record) => record.turn),
      [1, 2, 3, 4, 5],
    )
    t.ok(said.some((text) => text.includes('a lane died and is replaced')))
  })
}

/** Starts a supervisor whose lane dies when told, and kills it once its port is waited for. */
async function startAndRob(t: Test, replaceMsMax: number) {
  const file = join(makeFolder(t), 'a.jsonl')
  const config = resolveOptions({
    options: { port: 0, proxyBaseUrl: 'http://127.0.0.1:9', recordingFile: file },
  })
  const said: string[] = []
  const say = (_fields: object, text: string): void => void said.push(text)
  const rules = { entry: ENTRY, replaceMsMax }
  const supervisor = new Supervisor(config, { debug: say, warn: say, error: say }, rules)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const { port } = supervisor
  t.equal((await rawRequest(`http://127.0.0.1:${port}`, post(CHAT, '{}'))).status, 502)
  const robbed = squat(t, port)
  const channel = new BroadcastChannel('mortal-lane')
  channel.postMessage('exit')
  const release = await robbed
  channel.close()
  const again = 'the lane does not serve; it is tried again'
  while (!said.includes(again)) await new Promise((resolve) => setImmediate(resolve))
  return { file, port, said, supervisor, release, again }
}

// One try and one line in the log, then ECONNREFUSED for as long as the process lived.
t.test('a port that is taken for a moment is taken back', async (t) => {
  const { file, port, said, supervisor, release, again } = await startAndRob(t, 20_000)
  await release()
  const url = `http://127.0.0.1:${port}`
  let served = await ask(url)
  while (served === 0) served = await ask(url)
  t.equal(served, 502)
  t.equal(supervisor.port, port)
  t.equal(said.filter((text) => text === again).length, 1, 'told once')
  t.match(await supervisor.close(), { records: 2, trouble: null })
  t.equal((await recordsOf(file)).length, 2)
})

t.test('a port that stays taken is a failure of the whole, told to its owner', async (t) => {
  const { file, port, supervisor } = await startAndRob(t, 0)
  const error = await supervisor.failed
  t.match(error, {
    code: 'listen_failed',
    message: new RegExp(`^no lane serves, and for 0 s none could be started: .*${port}`),
    hint: /stop what uses it/,
  })
  t.match(await supervisor.close(), { records: 1, trouble: null })
  t.notOk(existsSync(`${tapeFolderOf(file)}/lock`))
})

t.test('closing does not wait for a lane that cannot be started', async (t) => {
  const { supervisor } = await startAndRob(t, 3_600_000)
  t.match(await supervisor.close(), { records: 1, trouble: null })
})

t.test(
  'lanes that die right after their start, one after the other, are a failure too',
  async (t) => {
    const file = join(makeFolder(t), 'a.jsonl')
    const config = resolveOptions({
      options: { port: 0, proxyBaseUrl: 'http://127.0.0.1:9', recordingFile: file },
    })
    const said: string[] = []
    const say = (_fields: object, text: string): void => void said.push(text)
    const entry = new URL('../support/doomed-lane.ts', import.meta.url)
    const log = { debug: say, warn: say, error: say }
    const supervisor = new Supervisor(config, log, { entry, replaceMsMax: 0 })
    await supervisor.start()
    t.match(await supervisor.failed, { message: /each of them died right after its start/ })
    t.equal(said.filter((text) => text.startsWith('a lane died')).length, 4)
    t.match(await supervisor.close(), { records: 0, trouble: null })
  },
)

/** The status of one more request; 0 while nobody listens. */
async function ask(url: string): Promise<number> {
  try {
    return (await rawRequest(url, post(CHAT, '{"again":true}'))).status
  } catch {
    return 0
  }
}
