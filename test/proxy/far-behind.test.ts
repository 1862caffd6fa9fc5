// Records that fall far behind a burst: memory stays flat, they catch up, and none is missing.
// LONG=1 for what would take hours to write at the pace there is during the burst.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { DERIVE_BATCH_MAX, HINTS_MAX } from '../../src/limits.ts'
import { HeldDisk, startLane } from '../support/lane.ts'
import { collectGarbage } from '../support/memory.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { recordsOf } from '../support/recorder.ts'

const isLong = process.env['LONG'] === '1'
const EXCHANGES = isLong ? 50_000 : 3_000
const CLIENTS = 20
/** What the appender takes for a batch: no machine is so slow that records keep up with the burst. */
const BATCH_MS = 5_000
t.setTimeout(isLong ? 900_000 : 120_000)

t.test(`a burst of ${EXCHANGES} that records are far behind: none is lost`, async (t) => {
  // One that remembers nothing: the heap of this thread is looked at.
  const upstream = createServer((req, res) => req.resume().once('end', () => res.end('{}')))
  await once(upstream.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => upstream.close())
  const { port } = upstream.address() as AddressInfo
  const slowness = new Int32Array(new SharedArrayBuffer(4))
  const { lane, url, file, finish } = await startLane(
    t,
    `http://127.0.0.1:${port}`,
    new HeldDisk(),
    {},
    undefined,
    slowness,
  )
  const heap = (): number => {
    collectGarbage()
    return process.memoryUsage().heapUsed
  }
  const burst = async (count: number): Promise<void> => {
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => RawClient.open(url)))
    const run = async (client: RawClient): Promise<void> => {
      for (let i = 0; i < count / CLIENTS; i++) {
        client.send(post('/v1/chat/completions', '{}'))
        const { status } = await client.answer()
        if (status !== 200) t.fail(`${status}`)
      }
      client.close()
    }
    await Promise.all(clients.map(run))
  }
  await burst(200)
  await lane.flush()
  Atomics.store(slowness, 0, BATCH_MS)
  await burst(HINTS_MAX + 400)
  const full = heap()
  await burst(EXCHANGES)
  const lag = lane.state.tape?.lagExchanges ?? 0
  const kib = (heap() - full) / 1024
  t.ok(lag >= HINTS_MAX, `${lag} wait`)
  t.ok(lag <= HINTS_MAX + 2 * DERIVE_BATCH_MAX, `no more than ${HINTS_MAX} and what is under way`)
  t.ok(lane.counters.get('hintsDropped') > EXCHANGES / 2, 'the rest is on the tape alone')
  t.ok(kib < 4_096, `${kib.toFixed(0)} KiB of heap more, once as many wait as may`)
  Atomics.store(slowness, 0, 0)
  await lane.flush()
  t.equal(lane.state.tape?.lagExchanges, 0, 'all has caught up')
  await finish()
  const records = await recordsOf(file)
  const total = 200 + EXCHANGES + Math.ceil((HINTS_MAX + 400) / CLIENTS) * CLIENTS
  t.equal(records.length, total)
  t.equal(new Set(records.map(({ seq }) => seq)).size, total)
  t.ok(records.every(({ outcome }) => outcome === 'complete'))
})
