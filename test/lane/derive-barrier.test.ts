// A barrier over what was handed to a derive queue: it waits for that and for nothing that comes
// later, over dropped hints too, and says so when the file takes no lines.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { DeriveQueue } from '../../src/lane/derive-queue.ts'
import { HINTS_MAX } from '../../src/limits.ts'
import type { TapePosition } from '../../src/tape/exchange.ts'
import { workerUrl } from '../../src/workers.ts'
import type { AppendWorkerData } from '../../workers/append.ts'
import { appendExchange, close, commit, makeWriter } from '../tape/tapes.ts'

const REFUSING = `
  const { parentPort } = require('node:worker_threads')
  process.on('workerMessage', ({ port }) => {
    port.on('message', ({ ticket }) => port.postMessage({ ticket, error: 'the disk is full' }))
  })
  parentPort.on('message', ({ type }) => type === 'close' && process.exit())
`

async function setUp(t: Test, appender: (folder: string) => Worker) {
  const { writer, folder } = makeWriter(t, { segmentBytesMax: 100_000 })
  const worker = appender(folder)
  await once(worker, 'online')
  const silent = (): void => undefined
  const queue = new DeriveQueue({
    folder,
    appender: worker.threadId,
    workers: 1,
    log: { debug: silent, warn: silent, error: silent },
    onDropped: silent,
  })
  t.teardown(async () => {
    await queue.close()
    await close(writer)
    const ended = once(worker, 'exit')
    worker.postMessage({ type: 'close' })
    await ended
  })
  const layDown = async (first: number, count: number): Promise<TapePosition[]> => {
    const tails = Array.from({ length: count }, (_, i) => appendExchange(writer, first + i, ['x']))
    await commit(writer)
    return tails.map((tail) => ({ segment: writer.nameOf(tail.segment), offset: tail.offset }))
  }
  const written = (): Set<number> => {
    const lines = readFileSync(`${folder}/a.jsonl`, 'utf8').split('\n').slice(0, -1)
    return new Set(lines.map((line) => (JSON.parse(line) as { seq: number }).seq))
  }
  return { queue, layDown, written }
}

function realAppender(folder: string): Worker {
  const files = { jsonl: `${folder}/a.jsonl`, checkpoint: `${folder}/derived.json` }
  const workerData: AppendWorkerData = { files, from: { jsonlBytes: 0, derived: [] } }
  return new Worker(workerUrl('append'), { workerData })
}

for (const count of [1, 40, HINTS_MAX + 300]) {
  t.test(`${count} exchanges have their records when the barrier is passed`, async (t) => {
    const { queue, layDown, written } = await setUp(t, realAppender)
    const before = await layDown(1, count)
    const later = await layDown(count + 1, 500)
    for (const [i, place] of before.entries()) queue.hint(place, i)
    const passed = queue.settled()
    // More comes all the time, which is not waited for.
    let next = 0
    const feed = setInterval(() => {
      for (const place of later.slice(next, next + 20)) queue.hint(place)
      next += 20
    }, 1)
    await passed
    clearInterval(feed)
    const seqs = written()
    const missing = Array.from({ length: count }, (_, i) => i + 1).filter((seq) => !seqs.has(seq))
    t.strictSame(missing, [])
    for (const place of later.slice(next)) queue.hint(place)
    await queue.settled()
    t.equal(written().size, count + 500)
    t.strictSame([queue.lagExchanges, queue.lagBytes(10)], [0, 0])
  })
}

t.test('what waits is counted, from the oldest on', async (t) => {
  const { queue, layDown } = await setUp(t, realAppender)
  const [one, two] = (await layDown(1, 2)) as [TapePosition, TapePosition]
  queue.hint(one, 100)
  queue.hint(two, 250)
  t.strictSame([queue.lagExchanges, queue.lagBytes(300)], [2, 200])
  await queue.settled()
  t.strictSame([queue.lagExchanges, queue.lagBytes(300)], [0, 0])
})

t.test('a file that takes no lines breaks the barrier instead of holding it', async (t) => {
  const { queue, layDown } = await setUp(t, () => new Worker(REFUSING, { eval: true }))
  for (const place of await layDown(1, 3)) queue.hint(place)
  const refused = { code: 'tape_unavailable', message: /the disk is full/ }
  await t.rejects(queue.settled(), refused)
  t.equal(queue.trouble, 'the disk is full')
  t.equal(queue.lagExchanges, 3, 'they wait still')
})
