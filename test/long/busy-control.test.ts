/**
 * A busy control plane does not slow the data plane: pages and pages of cursors are listed while a
 * lane replays, and its thread's CPU time per request is what it is without. Linux only.
 */
import { join } from 'node:path'
import t from 'tap'
import { threadTimes } from '../../bench/cpu.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'
import { recordOf, writeLines } from '../support/record-lines.ts'
import { startControlled } from '../support/control.ts'
import { ControlClient } from '../support/control-client.ts'

const PAGES = 10_000
/** Many short ones in turns: what the machine does beside falls on both sides alike. */
const ROUNDS = 151
const REQUESTS = 800
const CONNECTIONS = 16
const RATIO_MAX = 1.05
const LONG_MS = 600_000
t.setTimeout(LONG_MS)

/** CPU ns of the lane's thread so far. */
function laneNs(): number {
  const times = [...threadTimes([process.pid]).values()]
  return times.filter(({ name }) => name.startsWith('lane-')).reduce((sum, { ns }) => sum + ns, 0)
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
}

t.test(`${PAGES} pages of cursors`, { timeout: LONG_MS }, async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const content = 'a word or two '.repeat(10)
  writeLines(file, 2_000, content)
  const { address, url } = await startControlled(t, {
    replayFile: file,
    match: 'pooled',
    onExhausted: 'repeat_last',
  })
  const client = new ControlClient(t, address)
  const { request } = recordOf(1, { content })
  const body = JSON.stringify(request)
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => RawClient.open(url)))
  t.teardown(() => clients.forEach((one) => one.close()))
  let session = 0
  const load = async (): Promise<number> => {
    const before = laneNs()
    let left = REQUESTS
    await Promise.all(
      clients.map(async (one) => {
        while (left-- > 0) {
          one.send(post('/v1/chat/completions', body, [`x-session-id: s${session++ % 500}`]))
          if ((await one.answer()).status !== 200) throw new Error('not answered')
        }
      }),
    )
    return (laneNs() - before) / REQUESTS
  }
  await load()
  await load()
  let pages = 0
  const ratios: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const quiet = await load()
    let over = false
    const lister = async (): Promise<void> => {
      while (!over) {
        await client.call('ListCursors', { 2: 100 })
        pages++
      }
    }
    const listers = Array.from({ length: 4 }, lister)
    let busy = await load()
    while (pages < ((round + 1) * PAGES) / ROUNDS) busy = await load()
    over = true
    await Promise.all(listers)
    ratios.push(busy / quiet)
  }
  t.ok(pages >= PAGES, `${pages} pages`)
  const ratio = median(ratios)
  const sorted = ratios.toSorted((a, b) => a - b)
  const quarters = [0.25, 0.75].map((part) => sorted[Math.floor(part * ROUNDS)]?.toFixed(3))
  t.comment(`half of ${ROUNDS} rounds between ${quarters.join(' and ')}`)
  t.ok(ratio <= RATIO_MAX, `lane CPU per request ${ratio.toFixed(3)} times what it is without`)
})
