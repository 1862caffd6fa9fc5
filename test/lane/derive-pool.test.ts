// Records are made where traffic leaves room; where somebody waits for them, they are not kept waiting
// by it.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { DerivePool } from '../../src/lane/derive-pool.ts'
import { DeriveQueue } from '../../src/lane/derive-queue.ts'
import { DERIVE_BATCH_MAX } from '../../src/limits.ts'
import { kernelThreads } from '../support/threads.ts'
import { makeFolder } from '../support/recorder.ts'
import { appendExchange, close, makeWriter } from '../tape/tapes.ts'

/** An appender that tells which port each batch came by, and answers those of the first when told. */
const APPENDER = `
  const { parentPort } = require('node:worker_threads')
  let ports = 0
  let isOpen = false
  const held = []
  process.on('workerMessage', ({ port }) => {
    const number = ++ports
    port.on('message', ({ ticket, batch }) => {
      parentPort.postMessage(number)
      const answer = () => port.postMessage({ ticket, error: null })
      if (isOpen || number > 1) answer()
      else held.push(answer)
    })
  })
  parentPort.on('message', (what) => {
    if (what === 'close') process.exit()
    isOpen = true
    for (const answer of held.splice(0)) answer()
  })
`

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }

async function setUp(t: Test, exchanges: number) {
  const { writer, folder } = makeWriter(t)
  const ends = Array.from({ length: exchanges }, (_, i) => {
    const tail = appendExchange(writer, i + 1)
    return { segment: '0-000001.tape', offset: tail.offset }
  })
  await close(writer)
  const appender = new Worker(APPENDER, { eval: true })
  const ports: number[] = []
  appender.on('message', (port: number) => ports.push(port))
  await once(appender, 'online')
  t.teardown(async () => {
    const ended = once(appender, 'exit')
    appender.postMessage('close')
    await ended
  })
  return { folder, appender, ends, ports }
}

/** The niceness of each thread of this process, by its number. */
const threads = (): Map<string, number> =>
  new Map(kernelThreads().map(({ id, nice }) => [id, nice]))

t.test('threads make way for traffic; those of a hurry do not', async (t) => {
  const { folder, appender, ends } = await setUp(t, 2)
  appender.postMessage('open')
  const before = threads()
  const own = before.get(String(process.pid)) ?? 0
  const pool = new DerivePool({ folder, appender: appender.threadId, workers: 1, log: SILENT })
  t.teardown(() => pool.close())
  const [first, second] = ends
  t.match(await pool.run({ ends: [first!], voids: [] }, false), { derived: 1 })
  const steady = threads()
  t.match(await pool.run({ ends: [second!], voids: [] }, true), { derived: 1 })
  const all = threads()
  const added = (to: Map<string, number>, from: Map<string, number>): number[] =>
    [...to].filter(([id]) => !from.has(id)).map(([, niceness]) => niceness)
  t.ok(added(steady, before).includes(10))
  t.ok(added(all, steady).includes(own))
  t.notOk(own < 10 && added(all, steady).includes(10))
})

t.test('who waits a moment for records has the rest made in a hurry', async (t) => {
  const { folder, appender, ends, ports } = await setUp(t, DERIVE_BATCH_MAX + 5)
  const options = { folder, appender: appender.threadId, workers: 1, log: SILENT }
  const queue = new DeriveQueue({ ...options, onDropped: () => undefined })
  t.teardown(() => queue.close())
  for (const end of ends) queue.hint(end)
  t.equal(queue.isHurried, false, 'nobody waits')
  const settled = queue.settled()
  await until(() => queue.isHurried)
  appender.postMessage('open')
  await settled
  t.equal(queue.derived, ends.length)
  await until(() => ports.length === 2)
  t.strictSame(ports, [1, 2], 'the first batch was under way')
  t.equal(queue.isHurried, false)
  queue.hint(ends[0]!)
  await until(() => ports.length === 3)
  t.equal(ports[2], 1, 'all is as before')
  await queue.drained()
})

async function until(is: () => boolean): Promise<void> {
  while (!is()) await new Promise((resolve) => setTimeout(resolve, 5))
}

t.test('many who wait in turn, none of them long, are no hurry', async (t) => {
  const { folder, appender, ends } = await setUp(t, 2)
  appender.postMessage('open')
  const options = { folder, appender: appender.threadId, workers: 1, log: SILENT }
  const queue = new DeriveQueue({ ...options, onDropped: () => undefined })
  t.teardown(() => queue.close())
  queue.hint(ends[0]!)
  await queue.drained()
  const startMs = performance.now()
  while (performance.now() - startMs < 400) {
    const askedMs = performance.now()
    queue.hint(ends[0]!)
    const settled = queue.settled()
    // One more waits before the one before has its answer.
    queue.hint(ends[1]!)
    const other = queue.settled()
    await settled
    t.ok(!queue.isHurried || performance.now() - askedMs >= 250)
    await other
  }
})

t.test('a hurry for which no thread can be started is none, and no harm', async (t) => {
  const program = fileURLToPath(new URL('../support/hurry-without-descriptors.ts', import.meta.url))
  const script = 'ulimit -n 100; unset NODE_OPTIONS; exec "$@"'
  const argv = ['-c', script, 'bash', process.execPath, program, makeFolder(t)]
  const { stdout, stderr } = await promisify(execFile)('bash', argv)
  t.strictSame(JSON.parse(stdout || '{}'), { derived: [1, 1], warned: 1 }, stderr)
})
