// From finished exchanges to records, with real workers: batches, walks where hints were dropped,
// and second tries for what a bad neighbour took along.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { DeriveQueue } from '../../src/lane/derive-queue.ts'
import { batchOf } from '../../src/lane/ends.ts'
import {
  DERIVE_BATCH_BYTES,
  DERIVE_BATCH_ENOUGH,
  DERIVE_BATCH_MAX,
  HINTS_MAX,
} from '../../src/limits.ts'
import { KIND, formatEnd } from '../../src/tape/format.ts'
import type { TapePosition } from '../../src/tape/exchange.ts'
import type { FrameTail, TapeWriter } from '../../src/tape/writer.ts'
import type { AppendWorkerData } from '../../workers/append.ts'
import { workerUrl } from '../../src/workers.ts'
import { END, appendExchange, close, commit, makeWriter, newTail } from '../tape/tapes.ts'

interface LogLine {
  readonly text: string
  readonly fields: object
}

/** An appender that tells the test what it was given, and answers, refuses or is silent. */
const FAKE_APPENDER = `
  const { parentPort, workerData } = require('node:worker_threads')
  let ports = 0
  let batches = 0
  process.on('workerMessage', ({ port }) => {
    const silent = ports++ < workerData.silentPorts
    port.on('message', ({ ticket, batch }) => {
      parentPort.postMessage(batch.seqs)
      if (silent) return
      const error = batches++ < workerData.failures ? 'the disk is full' : null
      port.postMessage({ ticket, error })
    })
  })
  parentPort.on('message', ({ type }) => {
    if (type === 'close') process.exit()
    parentPort.postMessage('told')
  })
`

/** What a fake appender was given. */
class Given {
  readonly batches: number[][] = []
  #worker: Worker | undefined
  #came = Promise.withResolvers<void>()
  #told = Promise.withResolvers<void>()

  /** Starts one whose first ports are silent, and whose first batches fail. */
  start(how: { silentPorts?: number; failures?: number } = {}): Worker {
    const workerData = { silentPorts: 0, failures: 0, ...how }
    this.#worker = new Worker(FAKE_APPENDER, { eval: true, workerData })
    this.#worker.on('message', (message: number[] | 'told') => {
      if (message === 'told') return this.#told.resolve()
      this.batches.push(message)
      this.#came.resolve()
    })
    return this.#worker
  }

  /** Waits for the first batch. */
  async first(): Promise<number[][]> {
    await this.#came.promise
    return this.batches
  }

  /** All batches that the appender had been given when it was asked. */
  async all(): Promise<number[][]> {
    this.#told = Promise.withResolvers()
    this.#worker?.postMessage({ type: 'tell' })
    await this.#told.promise
    return this.batches
  }
}

/** A tape, a queue over it, and what the queue says. */
async function setUp(t: Test, appender: (folder: string) => Worker, timeoutMs?: number) {
  const { writer, folder } = makeWriter(t, { segmentBytesMax: 100_000 })
  const worker = appender(folder)
  await once(worker, 'online')
  const log: LogLine[] = []
  const note = (fields: object, text: string): void => void log.push({ text, fields })
  const counts = { dropped: 0 }
  const queue = new DeriveQueue({
    folder,
    appender: worker.threadId,
    workers: 1,
    log: { debug: note, warn: note, error: note },
    onDropped: (hints) => (counts.dropped += hints),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  })
  t.teardown(async () => {
    await queue.close()
    await close(writer)
    const ended = once(worker, 'exit')
    worker.postMessage({ type: 'close' })
    await ended
  })
  const place = (tail: FrameTail): TapePosition => {
    return { segment: writer.nameOf(tail.segment), offset: tail.offset }
  }
  return { writer, folder, queue, log, counts, place }
}

function realAppender(folder: string): Worker {
  const files = { jsonl: `${folder}/a.jsonl`, checkpoint: `${folder}/derived.json` }
  const workerData: AppendWorkerData = { files, from: { jsonlBytes: 0, derived: [] } }
  return new Worker(workerUrl('append'), { workerData })
}

/** Numbers of the records in the file, in its order. */
function seqsOf(folder: string): number[] {
  const lines = readFileSync(`${folder}/a.jsonl`, 'utf8').split('\n').slice(0, -1)
  return lines.map((line) => (JSON.parse(line) as { seq: number }).seq)
}

async function layDown(writer: TapeWriter, count: number, first = 1): Promise<FrameTail[]> {
  const tails = Array.from({ length: count }, (_, i) => appendExchange(writer, first + i, ['x']))
  await commit(writer)
  return tails
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1)
const ascending = (seqs: number[]): number[] => seqs.sort((a, b) => a - b)

t.test('every exchange handed over has its record once drained', async (t) => {
  const { writer, folder, queue, counts, place, log } = await setUp(t, realAppender)
  await queue.drained()
  for (const tail of await layDown(writer, 100)) queue.hint(place(tail))
  t.ok(queue.waiting > 0)
  await queue.drained()
  t.strictSame(seqsOf(folder), upTo(100))
  t.strictSame([queue.derived, queue.waiting, counts.dropped, log], [100, 0, 0, []])
})

t.test('sixteen exchanges are enough, those of one batch sixty-four at most', async (t) => {
  const given = new Given()
  const { writer, queue, place } = await setUp(t, () => given.start())
  const count = DERIVE_BATCH_ENOUGH + DERIVE_BATCH_MAX + 3
  for (const tail of await layDown(writer, count)) queue.hint(place(tail))
  queue.void(900)
  await queue.drained()
  t.strictSame(
    (await given.all()).map((seqs) => seqs.length),
    [DERIVE_BATCH_ENOUGH, DERIVE_BATCH_MAX, 3],
  )
  queue.void(901)
  await queue.drained()
  t.strictSame((await given.all()).at(-1), [])
})

t.test('a batch is cut where its exchanges lie far apart, or in another segment', (t) => {
  const at = (offset: number, segment = '0-000001.tape') => ({ segment, offset })
  const far = DERIVE_BATCH_BYTES + 1
  t.equal(batchOf([]), 0)
  t.equal(batchOf([at(0), at(DERIVE_BATCH_BYTES), at(far)]), 2)
  t.equal(batchOf([at(0), at(far)]), 1, 'a long one goes alone')
  t.equal(batchOf([at(far), at(1), at(0)]), 2, 'found in any order')
  t.equal(batchOf([at(0), at(1, '0-000002.tape')]), 1)
  t.end()
})

t.test('an exchange that stands alone is derived without another to fill its batch', async (t) => {
  const given = new Given()
  const { writer, queue, place } = await setUp(t, () => given.start())
  const [tail] = await layDown(writer, 1)
  queue.hint(place(tail!))
  t.strictSame(await given.first(), [[1]])
})

t.test('beyond 1024 hints are dropped, and the tape is walked for what they named', async (t) => {
  const { writer, folder, queue, counts, place, log } = await setUp(t, realAppender)
  const count = HINTS_MAX * 3
  const tails = await layDown(writer, count)
  t.ok(tails.at(-1)!.segment > 3, 'over several segments')
  for (const tail of tails) {
    queue.hint(place(tail))
    t.ok(queue.waiting <= HINTS_MAX)
  }
  t.ok(queue.full)
  t.ok(counts.dropped >= count - HINTS_MAX - DERIVE_BATCH_MAX)
  await queue.drained()
  t.strictSame(ascending(seqsOf(folder)), upTo(count))
  t.strictSame(log, [])
})

t.test('dropped hints are found in whatever order they were dropped', async (t) => {
  const { writer, folder, queue, place } = await setUp(t, realAppender)
  const tails = await layDown(writer, HINTS_MAX + 500)
  // Late ones, as after a disk that failed: the earliest of all come last.
  for (const tail of [...tails.slice(200), ...tails.slice(0, 200).reverse()])
    queue.hint(place(tail))
  await queue.drained()
  t.strictSame(ascending(seqsOf(folder)), upTo(tails.length))
})

t.test('hints go on being dropped while the tape is walked, and none is lost', async (t) => {
  const { writer, folder, queue, counts, place } = await setUp(t, realAppender)
  const each = HINTS_MAX + 300
  const rounds = 6
  for (let round = 0; round < rounds; round++) {
    const before = counts.dropped
    const tails = await layDown(writer, each, 1 + round * each)
    for (const tail of tails) queue.hint(place(tail))
    t.ok(counts.dropped > before)
    // Some way into the work on it, the next come.
    const goal = queue.derived + 400 + round * 150
    while (queue.derived < goal && queue.waiting > 0) await turn()
  }
  await queue.drained()
  t.strictSame(ascending([...new Set(seqsOf(folder))]), upTo(each * rounds))
  t.equal(seqsOf(folder).length, each * rounds, 'each once')
})

t.test('an exchange that cannot be read is told, its neighbours have their records', async (t) => {
  const { writer, folder, queue, place, log } = await setUp(t, realAppender)
  const tails = await layDown(writer, 3)
  const lone = newTail(77)
  writer.append(lone, KIND.end, 0, formatEnd(END))
  await commit(writer)
  for (const tail of [tails[0]!, lone, tails[1]!, tails[2]!]) queue.hint(place(tail))
  await queue.drained()
  t.strictSame(seqsOf(folder), [1, 2, 3])
  t.match(log, [
    { text: 'an exchange cannot be read from the tape', fields: { reason: /has no BEGIN/ } },
  ])
})

t.test('lines that the file does not take are offered again', async (t) => {
  const given = new Given()
  const { writer, queue, place, log } = await setUp(t, () => given.start({ failures: 2 }))
  for (const tail of await layDown(writer, 3)) queue.hint(place(tail))
  await queue.drained()
  t.strictSame(await given.all(), [
    [1, 2, 3],
    [1, 2, 3],
    [1, 2, 3],
  ])
  t.strictSame([queue.derived, queue.lost], [3, 0])
  t.strictSame(
    log.map(({ text }) => text),
    ['records cannot be written; they wait on the tape'],
  )
})

t.test('a drain does not wait for a file that takes nothing', async (t) => {
  const given = new Given()
  const { writer, queue, place, log } = await setUp(t, () => given.start({ failures: 99 }))
  for (const tail of await layDown(writer, 3)) queue.hint(place(tail))
  await queue.drained()
  t.strictSame([queue.derived, queue.lost], [0, 3])
  t.equal(log.at(-1)?.text, 'records are not written; the next start makes them')
})

t.test('an exchange that breaks its worker twice gets the barest record', async (t) => {
  const given = new Given()
  const appender = (): Worker => given.start({ silentPorts: 3 })
  const { writer, queue, place, log } = await setUp(t, appender, 8_000)
  const [tail] = await layDown(writer, 1)
  // The second port is of the thread that takes the first one's place; the hurried one has the third.
  queue.hint({ ...place(tail!), offset: 1 })
  await queue.drained()
  queue.hint(place(tail!))
  await queue.drained()
  t.strictSame(await given.all(), [[1], [1], [1]])
  t.strictSame([queue.derived, queue.lost], [1, 1], 'lost is the place nothing stands at')
  t.equal(log.at(-1)?.text, 'derive failed twice; the record says so, the tape has all')
})

t.test('a worker that hangs is ended, and its batch tried again by another', async (t) => {
  const given = new Given()
  const appender = (): Worker => given.start({ silentPorts: 1 })
  const { writer, queue, place, log } = await setUp(t, appender, 8_000)
  const tails = await layDown(writer, 2)
  // A place that nothing stands at needs no appender: the worker is up once it is told.
  queue.hint({ ...place(tails[0]!), offset: 1 })
  await queue.drained()
  for (const tail of tails) queue.hint(place(tail))
  await queue.drained()
  t.strictSame(await given.all(), [[1, 2], [1], [2]])
  t.equal(queue.derived, 2)
  t.strictSame(
    log.map(({ text }) => text),
    ['an exchange cannot be read from the tape', 'derive failed, once more'],
  )
})

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
