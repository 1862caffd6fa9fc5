// Lanes that die close together, or while a recording is left: every answer that a client saw whole
// has its record. A review found both lost: a death waited behind a pause, and what it had left was
// taken for settled; and only the current recording was made up for.
import { join } from 'node:path'
import { BroadcastChannel } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const ENTRY = new URL('../support/mortal-lane.ts', import.meta.url)
async function setUp(t: Test, lanes: number) {
  const gate = Promise.withResolvers<void>()
  const upstream = await startScriptedUpstream(async (x) => {
    if (!x.body.includes('open')) {
      return x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
    }
    const head = responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']])
    return x.send(head, chunkOf('part'), gate.promise, '0\r\n\r\n')
  })
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const config = resolveOptions({
    options: { port: 0, proxyBaseUrl: upstream.url, recordingFile: file, lanes },
  })
  let deaths = 0
  const quiet = (): void => undefined
  const error = (_: object, text: string): void => {
    if (text.startsWith('a lane died and is replaced')) deaths++
  }
  const log = { debug: quiet, warn: quiet, error }
  const supervisor = new Supervisor(config, log, { entry: ENTRY })
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const channel = new BroadcastChannel('mortal-lane')
  t.teardown(() => channel.close())
  /** Resolves once the lane is known to be dead. */
  const die = async (lane: number): Promise<void> => {
    const before = deaths
    channel.postMessage(`exit ${lane}`)
    while (deaths === before) await new Promise((resolve) => setImmediate(resolve))
  }
  return { supervisor, file, die, gate, url: `http://127.0.0.1:${supervisor.port}` }
}

t.test('one lane dies in the pause before the successor of another', async (t) => {
  const { supervisor, file, die, url } = await setUp(t, 2)
  let seen = 0
  const burst = async (count: number): Promise<void> => {
    const asks = Array.from({ length: count }, async () => {
      const answer = await rawRequest(url, post(CHAT, bodyOf('x'))).catch(() => undefined)
      if (answer?.whole === true && answer.status === 200) seen++
    })
    await Promise.all(asks)
  }
  // Two short lives: from now on a successor is paused for.
  for (let i = 0; i < 2; i++) {
    await die(1)
    await supervisor.ask(1, 'state', null)
  }
  await burst(30)
  await die(1)
  await die(0)
  await supervisor.ask(0, 'state', null)
  await supervisor.ask(1, 'state', null)
  const { trouble } = await supervisor.close()
  t.equal(trouble, null)
  const complete = (await recordsOf(file)).filter(({ outcome }) => outcome === 'complete')
  t.ok(seen > 0)
  t.equal(complete.length, seen)
})

t.test('a lane dies while it still writes to a recording that was left', async (t) => {
  const { supervisor, file, die, url } = await setUp(t, 1)
  const client = await RawClient.open(url)
  client.send(post(CHAT, bodyOf('open')))
  await client.until((bytes) => bytes.includes('part'))
  await supervisor.switch({ recordingFile: join(makeFolder(t), 'b.jsonl') })
  await die(0)
  await client.closed
  await supervisor.ask(0, 'state', null)
  t.equal((await supervisor.close()).trouble, null)
  t.strictSame(
    (await recordsOf(file)).map(({ outcome }) => outcome),
    ['incomplete'],
  )
})

t.test('what was left is taken up again once nothing writes to it', async (t) => {
  const { supervisor, file, gate, url } = await setUp(t, 1)
  const other = join(makeFolder(t), 'b.jsonl')
  const client = await RawClient.open(url)
  client.send(post(CHAT, bodyOf('open')))
  await client.until((bytes) => bytes.includes('part'))
  await supervisor.switch({ recordingFile: other })
  await t.rejects(supervisor.switch({ recordingFile: file }), {
    code: 'recording_locked',
    message: /has been left just now/,
  })
  gate.resolve()
  t.ok((await client.answer()).whole)
  client.close()
  await switchBack(supervisor, file)
  await rawRequest(url, post(CHAT, bodyOf('x')))
  const closing = supervisor.close()
  await t.rejects(supervisor.rotate(), { code: 'draining' })
  t.match(await closing, { records: 2, trouble: null })
  t.strictSame(
    (await recordsOf(file)).map(({ seq, outcome }) => [seq, outcome]),
    [
      [1, 'complete'],
      [2, 'complete'],
    ],
  )
})

/** Tries again where what was left is not settled yet. */
async function switchBack(supervisor: Supervisor, recordingFile: string): Promise<void> {
  for (;;) {
    try {
      return void (await supervisor.switch({ recordingFile }))
    } catch (error) {
      if ((error as { code?: string }).code !== 'recording_locked') throw error
    }
  }
}
