// Derive's unit of work against a real tape and a real appender's thread.
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { CHECKPOINT_MS } from '../../src/limits.ts'
import { realDisk } from '../../src/tape/disk.ts'
import type { Disk } from '../../src/tape/disk.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { AppenderLink } from '../../src/trajectory/appender-link.ts'
import { runDeriveTask } from '../../src/trajectory/derive-task.ts'
import { workerUrl } from '../../src/workers.ts'
import type { AppendWorkerData } from '../../workers/append.ts'
import { makeFolder } from '../support/recorder.ts'
import { appendExchange, close, makeWriter } from '../tape/tapes.ts'

// A post to a thread that does not answer keeps no loop alive, as a worker's own port does.
const alive = setInterval(() => undefined, 60_000)
t.teardown(() => clearInterval(alive))

/** Bytes in memory of their own, which may be handed over. */
function own(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(text.length)
  bytes.write(text)
  return bytes
}

/** An appender's thread over a folder. */
function startAppender(t: Test, folder: string): Worker {
  const files = { jsonl: `${folder}/a.jsonl`, checkpoint: `${folder}/derived.json` }
  const workerData: AppendWorkerData = { files, from: { jsonlBytes: 0, derived: [] } }
  const worker = new Worker(workerUrl('append'), { workerData })
  t.teardown(() => worker.terminate())
  return worker
}

/** A tape of `count` exchanges over several segments, and a link to an appender. */
async function setUp(t: Test, count: number) {
  const { writer, folder } = makeWriter(t, { segmentBytesMax: 2_000 })
  const ends = Array.from({ length: count }, (_, i) => {
    const tail = appendExchange(writer, i + 1)
    return { segment: writer.nameOf(tail.segment), offset: tail.offset }
  })
  await close(writer)
  const appender = startAppender(t, folder)
  const link = await AppenderLink.open(appender.threadId)
  t.teardown(() => link.close())
  const tape = new TapeFolder(folder)
  t.teardown(() => tape.close())
  const seqs = (): number[] => {
    const lines = readFileSync(`${folder}/a.jsonl`, 'utf8').split('\n').slice(0, -1)
    return lines.map((line) => (JSON.parse(line) as { seq: number }).seq)
  }
  return { tape, link, ends, folder, appender, seqs }
}

t.test('what descriptors are missing for is refused, and done once there are some', async (t) => {
  const { folder, link, ends, seqs } = await setUp(t, 3)
  let isShort = true
  const disk: Disk = {
    ...realDisk,
    openSync: (path, flags) => {
      if (isShort) throw Object.assign(new Error('too many open files'), { code: 'EMFILE' })
      return realDisk.openSync(path, flags)
    },
  }
  const tape = new TapeFolder(folder, disk)
  t.teardown(() => tape.close())
  const walk = { from: { segment: '0-000001.tape', offset: 0 }, endsMax: 9 }
  const refused = { derived: 0, unreadable: [], refused: 'EMFILE: too many open files' }
  t.strictSame(await runDeriveTask(tape, link, { ends, voids: [] }), refused)
  t.strictSame(await runDeriveTask(tape, link, { ends: [], voids: [], walk }), refused)
  t.strictSame(seqs(), [])
  isShort = false
  t.match(await runDeriveTask(tape, link, { ends, voids: [] }), { derived: 3, unreadable: [] })
  t.strictSame(seqs(), [1, 2, 3])
})

t.test('a link waits for an appender that is just starting', async (t) => {
  const appender = startAppender(t, makeFolder(t))
  const link = await AppenderLink.open(appender.threadId)
  await link.append({ seqs: [1], bytes: own('{"seq":1}\n'), lengths: [10], voids: [] })
  link.close()
})

t.test('a link to a thread that is not there fails in its time', async (t) => {
  await t.rejects(AppenderLink.open(987_654, 30), { code: 'ERR_WORKER_MESSAGING_FAILED' })
})

t.test('ends become lines in the file, and once more changes nothing', async (t) => {
  const { tape, link, ends, seqs } = await setUp(t, 3)
  for (let again = 0; again < 2; again++) {
    const result = await runDeriveTask(tape, link, { ends, voids: [] })
    t.strictSame(result, { derived: 3, unreadable: [] })
    t.strictSame(seqs(), [1, 2, 3])
  }
})

t.test('what cannot be read is named, and the others are derived', async (t) => {
  const { tape, link, ends, seqs } = await setUp(t, 3)
  const wrong = { ...ends[1]!, offset: ends[1]!.offset + 1 }
  const missing = { segment: '0-009999.tape', offset: 0 }
  const task = { ends: [ends[0]!, wrong, missing, ends[2]!], voids: [] }
  const { derived, unreadable } = await runDeriveTask(tape, link, task)
  t.equal(derived, 2)
  t.match(unreadable, [
    { position: wrong, reason: /tape_corrupt: .*no sound frame at offset/ },
    { position: missing, reason: /not_found: .*the segment is not there/ },
  ])
  t.strictSame(seqs(), [1, 3])
})

t.test('a task of voids alone writes no line', async (t) => {
  const { tape, link, seqs, appender } = await setUp(t, 1)
  t.strictSame(await runDeriveTask(tape, link, { ends: [], voids: [5, 6] }), {
    derived: 0,
    unreadable: [],
  })
  t.strictSame(seqs(), [])
  const answered = once(appender, 'message')
  appender.postMessage({ type: 'derived' })
  t.strictSame(await answered, [{ type: 'derived', ranges: [[5, 6]] }])
})

t.test('a walk finds every end from a place on, over segments, up to its bound', async (t) => {
  const { tape, link, ends, seqs } = await setUp(t, 12)
  const walk = async (from: (typeof ends)[0], endsMax: number) => {
    const { walked } = await runDeriveTask(tape, link, {
      ends: [],
      walk: { from, endsMax },
      voids: [],
    })
    return walked!
  }
  t.not(ends[0]!.segment, ends.at(-1)!.segment)
  t.strictSame((await walk(ends[0]!, 100)).ends, ends)
  t.strictSame((await walk(ends[7]!, 100)).ends, ends.slice(7))
  const found = []
  for (let from = ends[0]!; ;) {
    const walked = await walk(from, 5)
    found.push(...walked.ends)
    if (walked.ends.length < 5) break
    from = walked.next
  }
  t.strictSame(found, ends)
  t.strictSame((await walk({ segment: '0-009999.tape', offset: 0 }, 5)).ends, [])
  t.strictSame(seqs(), [], 'and derives nothing')
})

t.test('a walk from a segment that was let go finds every end behind it', async (t) => {
  const { tape, link, ends, folder } = await setUp(t, 12)
  const { segment } = ends[0]!
  rmSync(`${folder}/${segment}`)
  const behind = ends.filter((end) => end.segment !== segment)
  t.ok(behind.length > 0)
  // Far behind the first frame, as the place was in a segment that was full.
  const task = { ends: [], walk: { from: { segment, offset: 1_900 }, endsMax: 100 }, voids: [] }
  t.strictSame((await runDeriveTask(tape, link, task)).walked?.ends, behind)
})

t.test('a walk stops before a segment that has no header yet', async (t) => {
  const { tape, link, ends, folder } = await setUp(t, 4)
  const { number } = tape.segments().at(-1)!
  writeFileSync(`${folder}/0-00000${number + 1}.tape`, '')
  const task = { ends: [], walk: { from: ends[0]!, endsMax: 100 }, voids: [] }
  const { walked } = await runDeriveTask(tape, link, task)
  t.strictSame(walked?.ends, ends)
})

t.test(
  'an appender that dies is told at once, to those that wait and to those that come',
  async (t) => {
    const { link, appender } = await setUp(t, 0)
    const closed = once(appender, 'exit')
    const batch = { seqs: [1], lengths: [2], voids: [] }
    const waiting = link.append({ ...batch, bytes: own('{}') })
    await Promise.all([appender.terminate(), closed, waiting.catch(() => undefined)])
    await t.rejects(untilGone(link), { message: 'the appender is gone' })
  },
)

t.test('an appender that does not answer is told after its time', async (t) => {
  const code = "process.on('workerMessage', ({ port }) => port.ref()); setInterval(() => 0, 1000)"
  const silent = new Worker(code, { eval: true })
  t.teardown(() => silent.terminate())
  // Both for its start, which may take a while on a busy machine, and for its answer, which never comes.
  const link = await AppenderLink.open(silent.threadId, 4_000)
  t.teardown(() => link.close())
  const batch = { seqs: [1], bytes: own('{}'), lengths: [2], voids: [] }
  await t.rejects(link.append(batch), { message: 'the appender did not answer within 4000 ms' })
})

t.test(`the appender's thread writes a checkpoint every ${CHECKPOINT_MS} ms`, async (t) => {
  const { tape, link, ends, folder } = await setUp(t, 2)
  await runDeriveTask(tape, link, { ends, voids: [] })
  const checkpoint = await fileThere(`${folder}/derived.json`)
  const jsonlBytes = readFileSync(`${folder}/a.jsonl`).length
  t.strictSame(JSON.parse(checkpoint), { jsonlBytes, lines: 2, derived: [[1, 2]] })
})

/** Appends until the link knows that nobody is there. */
async function untilGone(link: AppenderLink): Promise<void> {
  for (;;) await link.append({ seqs: [], bytes: own(''), lengths: [], voids: [1] })
}

/** The text of a file, once it is there. */
async function fileThere(path: string): Promise<string> {
  for (;;) {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}
