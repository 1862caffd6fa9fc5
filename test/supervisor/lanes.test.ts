// Several lanes on one port: one dies, the others serve on, and every exchange is accounted for.
import { join } from 'node:path'
import { BroadcastChannel } from 'node:worker_threads'
import t from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const ENTRY = new URL('../support/mortal-lane.ts', import.meta.url)
const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }
const LANES = 3

t.test('a lane that dies takes only its own exchanges along', async (t) => {
  const upstream = await startScriptedUpstream((x) => {
    if (x.header('x-open') === undefined) {
      return x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
    }
    return x.send(
      responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]),
      chunkOf('part'),
      ended.promise,
      '0\r\n\r\n',
    )
  })
  const ended = Promise.withResolvers<void>()
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const config = resolveOptions({
    options: { port: 0, proxyBaseUrl: upstream.url, recordingFile: file, lanes: LANES },
  })
  const supervisor = new Supervisor(config, SILENT, { entry: ENTRY })
  await supervisor.start()
  t.teardown(() => supervisor.close())
  t.equal(supervisor.lanes, LANES)
  const url = `http://127.0.0.1:${supervisor.port}`
  const open = await Promise.all(
    Array.from({ length: 24 }, async () => {
      const client = await RawClient.open(url)
      client.send(post(CHAT, '{}', ['x-open: 1']))
      await client.until((bytes) => bytes.includes('part'))
      return client
    }),
  )
  const channel = new BroadcastChannel('mortal-lane')
  channel.postMessage('exit 1')
  await Promise.race(open.map(({ closed }) => closed))
  channel.close()
  ended.resolve()
  const whole = await Promise.all(open.map(async (client) => (await client.answer()).whole))
  const survived = whole.filter(Boolean).length
  t.ok(survived > 0 && survived < open.length, `${survived} of ${open.length} were of other lanes`)
  for (const client of open) client.close()
  // The kernel hashes connections: enough of them meet every lane, the new one too.
  const asks = Array.from({ length: 40 }, () => rawRequest(url, post(CHAT, '{}')))
  const statuses = (await Promise.allSettled(asks)).map((one) =>
    one.status === 'fulfilled' ? one.value.status : 0,
  )
  t.ok(statuses.filter((status) => status === 200).length >= 8, 'the others serve on')
  const { trouble } = await supervisor.close()
  t.equal(trouble, null)
  const records = await recordsOf(file)
  const count = (outcome: string): number =>
    records.filter((record) => record.outcome === outcome).length
  t.equal(count('incomplete'), open.length - survived)
  t.equal(count('complete'), survived + statuses.filter((status) => status === 200).length)
  t.equal(new Set(records.map(({ seq }) => seq)).size, records.length, 'no line twice')
  const segments = new Set(records.map(({ tape }) => tape.segment.split('-')[0]))
  t.strictSame([...segments].sort(), ['0', '1', '2'], 'each lane has segments of its own')
})

t.test('a claim of a lane that died is free again, those of others are kept', async (t) => {
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
  )
  t.teardown(() => upstream.close())
  const a = await startRecorder(t, upstream.url)
  const TURNS = 16
  for (let i = 0; i < TURNS; i++) await rawRequest(a.url, post(CHAT, bodyOf('same')))
  await a.finish()
  const config = resolveOptions({ options: { port: 0, replayFile: a.file, lanes: 2 } })
  const supervisor = new Supervisor(config, SILENT, { entry: ENTRY })
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const url = `http://127.0.0.1:${supervisor.port}`
  /** The status, or 0 for an answer that did not come whole. */
  const ask = async (...headers: string[]): Promise<number> => {
    try {
      const { whole, status } = await rawRequest(url, post(CHAT, bodyOf('same'), headers))
      return whole ? status : 0
    } catch {
      return 0
    }
  }
  // Slow enough that all are claimed, and none is used, when the lane dies.
  const slow = Array.from({ length: TURNS }, () => ask('x-rolltape-pace: ttft=4000,tps=1'))
  while (supervisor.counter('servedExact') < TURNS) {
    await new Promise((resolve) => setImmediate(resolve))
  }
  const ofDead = supervisor.laneCounters(1).get('servedExact')
  t.ok(ofDead > 0 && ofDead < TURNS)
  const channel = new BroadcastChannel('mortal-lane')
  channel.postMessage('exit 1')
  await Promise.race(slow)
  channel.close()
  let again = 0
  while (again < ofDead) if ((await ask()) === 200) again++
  t.equal(await ask(), 404, 'those of the other lane are still claimed')
  const statuses = await Promise.all(slow)
  t.equal(statuses.filter((status) => status === 200).length, TURNS - ofDead)
  t.equal(await ask(), 404, 'each was given once')
  t.match((await supervisor.close()).verdict, { unused: 0 })
})
