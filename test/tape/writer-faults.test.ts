// A disk that fails: whatever operation it is, those who wait are told, the same bytes are written
// again at the same place, and in the end the tape is whole.
import { mock } from 'node:test'
import t from 'tap'
import type { Test } from 'tap'
import { TAPE_RETRY_MS } from '../../src/limits.ts'
import { FaultyDisk } from './faulty-disk.ts'
import type { Fault } from './faulty-disk.ts'
import {
  appendExchange,
  close,
  commit,
  commitAtLast,
  expectedSummary,
  makeWriter,
  readAll,
  summaryOf,
} from './tapes.ts'

mock.timers.enable({ apis: ['setTimeout'] })
t.teardown(() => mock.timers.reset())

const EXCHANGES = 8
/** Rolls several times; the last exchange has a payload that is kept by reference. */
const LONG = 'x'.repeat(100_000)

/** One run: exchanges, each committed until it works, then a close. Tells all that failed. */
async function run(t: Test, disk: FaultyDisk, durability: 'written' | 'synced') {
  const { writer, folder, health } = makeWriter(t, {
    disk: disk.disk,
    durability,
    segmentBytesMax: 2_000,
  })
  const failures: string[] = []
  for (let seq = 1; seq <= EXCHANGES; seq++) {
    appendExchange(writer, seq, seq === EXCHANGES ? [LONG] : undefined)
    failures.push(...(await commitAtLast(writer)))
  }
  const closeError = await close(writer)
  return { folder, health, failures, closeError }
}

const EXPECTED = Array.from({ length: EXCHANGES }, (_, i) => {
  return expectedSummary(i + 1, i + 1 === EXCHANGES ? LONG : undefined)
})

for (const durability of ['written', 'synced'] as const) {
  for (const fault of ['EIO', 'ENOSPC', 'EMFILE', 'short'] as const satisfies Fault[]) {
    t.test(`${durability}: ${fault} at any operation is told and made good`, async (t) => {
      const healthy = new FaultyDisk()
      await run(t, healthy, durability)
      const { length } = healthy.operations
      t.ok(length > 10, `${length} operations`)
      // The last two are the sync and the close of closing: nothing is tried again after them.
      for (let operation = 0; operation < length - 2; operation++) {
        const name = healthy.operations[operation]!
        // Descriptors run out where files are opened.
        if (fault === 'EMFILE' && name !== 'open' && name !== 'syncFolder') continue
        const faulty = new FaultyDisk()
        faulty.failAt = { operation, fault }
        const { folder, health, failures, closeError } = await run(t, faulty, durability)
        const told = name === 'close' ? [] : [failureText(fault, name)]
        t.strictSame(
          failures.map((text) => text.replace(/\d+/g, 'n')),
          told,
          `${name} ${operation}: who waits is told`,
        )
        t.strictSame(health.length, told.length * 2, 'that it fails, and that it works again')
        t.equal(health.at(-1), undefined)
        t.equal(closeError, undefined)
        const { exchanges, lostBytes } = readAll(folder)
        t.strictSame(exchanges.map(summaryOf), EXPECTED)
        t.equal(lostBytes, 0)
        t.equal(faulty.concurrentMax, 1)
        t.equal(faulty.openFiles.size, 0)
      }
    })
  }
}

t.test('a write that failed is repeated at its position, with what came meanwhile', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk })
  await commit(writer)
  faulty.failing = 'EIO'
  appendExchange(writer, 1)
  t.match(await commit(writer), { code: 'EIO' })
  appendExchange(writer, 2)
  t.match(await commit(writer), { code: 'EIO' }, 'told at once')
  t.equal(faulty.writes.length, 2, 'and nothing is written before the pause is over')
  writer.submit()
  mock.timers.tick(TAPE_RETRY_MS - 1)
  t.equal(faulty.writes.length, 2)
  faulty.failing = undefined
  mock.timers.tick(1)
  t.equal(faulty.writes.length, 3)
  t.equal(faulty.writes[2]!.position, faulty.writes[1]!.position)
  t.equal(faulty.writes[2]!.bytes, faulty.writes[1]!.bytes * 2)
  await close(writer)
  t.equal(readAll(folder).exchanges.length, 2)
})

t.test('health is told once when writing begins to fail, once when it works', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, health } = makeWriter(t, { disk: faulty.disk })
  faulty.failing = 'ENOSPC'
  appendExchange(writer, 1)
  t.match(await commit(writer), { code: 'ENOSPC' })
  for (let again = 0; again < 3; again++) {
    const { length } = faulty.writes
    mock.timers.tick(TAPE_RETRY_MS)
    while (faulty.writes.length === length || writer.failure === undefined) await turn()
    await turn()
  }
  t.strictSame(health, ['ENOSPC: writev'])
  faulty.failing = undefined
  t.strictSame(await commitAtLast(writer), ['ENOSPC: writev'])
  t.strictSame(health, ['ENOSPC: writev', undefined])
  await close(writer)
})

t.test('a failed sync has all of its write written again', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk, durability: 'synced' })
  await commit(writer)
  faulty.failAt = { operation: faulty.operations.length + 1, fault: 'EIO' }
  appendExchange(writer, 1)
  t.strictSame(await commitAtLast(writer), ['EIO: fdatasync'])
  t.strictSame(faulty.writes[2], faulty.writes[1])
  await close(writer)
  t.equal(readAll(folder).exchanges.length, 1)
})

t.test('a folder that could not be synced is synced before anything counts', async (t) => {
  const faulty = new FaultyDisk()
  const { writer } = makeWriter(t, { disk: faulty.disk, durability: 'synced' })
  faulty.failAt = { operation: 1, fault: 'EIO' }
  t.strictSame(await commitAtLast(writer), ['EIO: syncFolder'])
  t.strictSame(faulty.operations, ['open', 'syncFolder', 'syncFolder', 'writev', 'fdatasync'])
  await close(writer)
})

t.test('closing on a disk that fails tells how much is not written, and closes', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk })
  appendExchange(writer, 1)
  await commit(writer)
  faulty.failing = 'ENOSPC'
  appendExchange(writer, 2)
  const waited = commit(writer)
  const pending = writer.pendingBytes
  t.equal((await close(writer))?.message, `${pending} bytes could not be written: ENOSPC: writev`)
  t.match(await waited, { code: 'ENOSPC' })
  t.equal(faulty.openFiles.size, 0)
  t.strictSame(readAll(folder).exchanges.map(summaryOf), [expectedSummary(1)])
})

t.test('closing during the pause after a failure tries at once', async (t) => {
  for (const fault of ['EIO', undefined] as const) {
    const faulty = new FaultyDisk()
    const { writer, folder } = makeWriter(t, { disk: faulty.disk })
    await commit(writer)
    faulty.failing = 'EIO'
    appendExchange(writer, 1)
    await commit(writer)
    faulty.failing = fault
    const error = await close(writer)
    t.equal(error === undefined, fault === undefined)
    t.equal(readAll(folder).exchanges.length, fault === undefined ? 1 : 0)
  }
})

t.test('a sync that fails in closing is told, though all is written', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk })
  appendExchange(writer, 1)
  await commit(writer)
  faulty.failAt = { operation: faulty.operations.length, fault: 'EIO' }
  t.match(await close(writer), { code: 'EIO' })
  t.equal(readAll(folder).exchanges.length, 1)
})

t.test('who waits for relief is told when the disk has taken enough, or fails', async (t) => {
  const faulty = new FaultyDisk()
  const { writer } = makeWriter(t, { disk: faulty.disk })
  await commit(writer)
  let relieved = 0
  const payload = Buffer.alloc(8 << 20)
  while (!writer.congested) writer.append({ seq: 1, segment: 0, offset: 0 }, 2, 0, payload)
  writer.onRelief(() => relieved++)
  faulty.failing = 'EIO'
  t.match(await commit(writer), { code: 'EIO' })
  t.equal(relieved, 1, 'nobody waits for a disk that does not work')
  t.equal(writer.congested, false)
  faulty.failing = undefined
  t.equal((await commitAtLast(writer)).length, 1)
  for (let i = 0; i < 6; i++) writer.append({ seq: 1, segment: 0, offset: 0 }, 2, 0, payload)
  t.equal(writer.congested, true)
  writer.onRelief(() => relieved++)
  t.equal(await commit(writer), undefined)
  t.equal(relieved, 2)
  await close(writer)
})

function failureText(fault: Fault, operation: string): string {
  if (fault !== 'short') return `${fault}: ${operation}`
  return operation === 'writev' ? 'short write: the disk took n of n bytes' : `EIO: ${operation}`
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
