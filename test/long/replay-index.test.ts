// A recording of 1,000,000 records: indexed within bounds of time and memory, and answered from.
// Run by `npm run test:long`; needs 2.5 GB on the disk of the folder for temporary files.
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { buildReplaySource } from '../../src/replay/build.ts'
import type { ReplaySource } from '../../src/replay/build.ts'
import { IGNORE_NOTHING } from '../../src/replay/canonical.ts'
import { ReplayIndex } from '../../src/replay/index-table.ts'
import { sidecarOf } from '../../src/replay/sidecar.ts'
import { makeFolder } from '../support/recorder.ts'
import { recordOf, writeLines } from '../support/record-lines.ts'
import { startReplay } from '../support/replayer.ts'
import { post, rawRequest } from '../support/raw-client.ts'

const RECORDS = 1_000_000
/** Times that `wc -l` takes. */
const RATIO_MAX = 15
/** Each is done so often, in turns: what counts is the median, as the machine may do other things. */
const ROUNDS = 3
const MiB = 1_048_576

async function timed<T>(act: () => T | Promise<T>): Promise<[T, number]> {
  const startMs = performance.now()
  const result = await act()
  return [result, performance.now() - startMs]
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}

const LONG_MS = 600_000
t.setTimeout(LONG_MS)

t.test('1,000,000 records', { timeout: LONG_MS }, async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const content = 'a word or two '.repeat(60)
  const bytes = writeLines(file, RECORDS, content)
  t.comment(`${Math.round(bytes / RECORDS)} bytes a record`)
  const count = (): unknown => execFileSync('wc', ['-l', file])
  const build = (): Promise<ReplaySource> => buildReplaySource({ file, ignore: IGNORE_NOTHING })
  count()
  const rssBefore = process.memoryUsage.rss()
  const cold = await build()
  const rss = process.memoryUsage.rss() - rssBefore
  t.strictSame([cold.index.count, cold.scannedBytes, cold.troubles], [RECORDS, bytes, []])
  t.ok(rss < 700 * MiB, `${Math.round(rss / MiB)} MiB more are resident`)

  const ms = { count: [] as number[], cold: [] as number[] }
  for (let round = 0; round < ROUNDS; round++) {
    ms.count.push((await timed(count))[1])
    rmSync(sidecarOf(file))
    const cpuBefore = process.cpuUsage()
    ms.cold.push((await timed(build))[1])
    const { user, system } = process.cpuUsage(cpuBefore)
    t.comment(`${Math.round((user + system) / 1000)} ms of CPU, load ${loadavg()[0]?.toFixed(1)}`)
  }
  const [countMs, coldMs] = [median(ms.count), median(ms.cold)]
  const ratio = coldMs / countMs
  t.comment(`cold ${Math.round(coldMs)} ms, wc -l ${Math.round(countMs)} ms: ${ratio.toFixed(1)}`)
  t.ok(ratio < RATIO_MAX, `${ratio.toFixed(1)} times wc -l`)

  const { entries, tables, sessionFirst } = cold.index
  const shared = [entries, sessionFirst, ...tables].reduce((sum, one) => sum + one.byteLength, 0)
  t.ok(shared <= 200 * RECORDS, `${Math.round(shared / RECORDS)} bytes a record are shared`)

  const [warm, warmMs] = await timed(build)
  t.comment(`from the sidecar ${Math.round(warmMs)} ms`)
  t.strictSame([warm.index.count, warm.scannedBytes, warm.comparedBytes], [RECORDS, 0, 0])
  t.ok(warmMs < coldMs / 2, 'the sidecar is worth it')
  const table = new ReplayIndex(warm.index)
  t.equal(table.entry(RECORDS - 1).seq, RECORDS)

  const { url } = await startReplay(t, file)
  const { request } = recordOf(RECORDS - 7, { content })
  const { status, body } = await rawRequest(
    url,
    post('/v1/chat/completions', JSON.stringify(request)),
  )
  t.strictSame([status, JSON.parse(body.toString()).id], [200, `c-${RECORDS - 7}`])
})
