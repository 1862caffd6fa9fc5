// Replay keeps the pace: recorded times, scaled ones, or rates of one's own; two runs at once.
import { createHash } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { startRolltape } from '../../src/rolltape.ts'
import type { Rolltape, RolltapeOptions } from '../../src/rolltape.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const PACE_MS = 25
/** Both of a test's measurements together have fewer than there may be runs. */
const TRIES = 30

interface Timed {
  readonly sha256: string
  /** ms from the request to each chunk. */
  readonly timesMs: number[]
}

/** Asks for a stream and notes when each piece of its body came. */
async function timedStream(url: string, body: string, headers: string[] = []): Promise<Timed> {
  const client = await RawClient.open(url)
  const timesMs: number[] = []
  const startMs = performance.now()
  client.socket.on('data', (bytes: Buffer) => {
    if (bytes.includes('data: ')) timesMs.push(performance.now() - startMs)
  })
  client.send(post(CHAT, body, headers))
  const answer = await client.answer()
  client.close()
  return { sha256: createHash('sha256').update(answer.body).digest('hex'), timesMs }
}

const bodyOf = (i: number): string =>
  JSON.stringify({ model: 'demo', stream: true, messages: [{ role: 'user', content: `${i}` }] })

async function record(t: Test, count: number) {
  const server = await startInferenceServer({ paceMs: PACE_MS })
  const recorder = await startRecorder(t, `${server.url}/v1`)
  const recorded = []
  for (let i = 0; i < count; i++) recorded.push(await timedStream(recorder.url, bodyOf(i)))
  const records = await recorder.finish()
  await server.close()
  // When the chunks came to rolltape, which is what it has to keep to.
  const tapedMs = records.map((one) => recorder.taped(one).chunks.map(({ atUs }) => atUs / 1000))
  return { file: recorder.file, recorded, tapedMs }
}

async function replay(t: Test, file: string, options: RolltapeOptions): Promise<Rolltape> {
  const rolltape = await startRolltape({ port: 0, replayFile: file, logLevel: 'error', ...options })
  t.teardown(() => rolltape.close())
  return rolltape
}

const median = (numbers: number[]): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!
const gaps = (times: number[]): number[] => times.slice(1).map((time, i) => time - times[i]!)

/**
 * The smallest of some measurements, each in a run of its own, up to one that is small enough: a busy
 * machine only ever adds to what is measured here.
 */
async function least(
  boundMs: number,
  measure: (run: string[]) => Promise<number>,
): Promise<number> {
  let least = Infinity
  for (let i = 0; i < TRIES && least >= boundMs; i++) {
    least = Math.min(least, await measure([`x-rolltape-run: try-${i}`]))
  }
  return least
}

t.test('original: TTFT and gaps are within 5 ms of the recording, at the median', async (t) => {
  const { file, recorded, tapedMs } = await record(t, 1)
  const [was] = recorded
  const [wasMs] = tapedMs
  const rolltape = await replay(t, file, { pace: 'original' })
  const ttftMs = await least(5, async (run) => {
    const is = await timedStream(rolltape.url, bodyOf(0), run)
    t.equal(is.sha256, was!.sha256)
    return Math.abs(is.timesMs[0]! - wasMs![0]!)
  })
  t.ok(ttftMs < 5, `TTFT off by ${ttftMs.toFixed(1)} ms`)
  const gapMs = await least(5, async (run) => {
    const now = gaps((await timedStream(rolltape.url, bodyOf(0), [`${run[0]}-gaps`])).timesMs)
    return median(gaps(wasMs!).map((gap, at) => Math.abs(gap - (now[at] ?? 0))))
  })
  t.ok(gapMs < 5, `gaps off by ${gapMs.toFixed(1)} ms`)
})

t.test('x4 is four times as fast, instant is at once, rates are kept', async (t) => {
  const { file, tapedMs } = await record(t, 1)
  // Of the tape, not of the client that recorded: what that one saw late was no later here.
  const wasMs = tapedMs[0]!.at(-1)!
  const isKept = async (options: RolltapeOptions, wantMs: number, boundMs: number) => {
    const rolltape = await replay(t, file, options)
    const offMs = await least(boundMs, async (run) => {
      const { timesMs } = await timedStream(rolltape.url, bodyOf(0), run)
      return Math.abs(timesMs.at(-1)! - wantMs)
    })
    t.ok(offMs < boundMs, `${options.pace}: off by ${offMs.toFixed(1)} ms of ${wantMs}`)
  }
  await isKept({ pace: 'x4' }, wasMs / 4, wasMs / 8)
  await isKept({ pace: 'instant' }, 0, wasMs / 4)
  const steadyMs = 80 + (tapedMs[0]!.length - 1) * 10
  await isKept({ pace: 'ttft=80,tps=100' }, steadyMs, steadyMs / 4)
})

t.test('two runs at once each get the whole recording, interleaved as they like', async (t) => {
  const { file, recorded } = await record(t, 4)
  const rolltape = await replay(t, file, {})
  const run = (name: string, order: number[]): Promise<[number, string][]> =>
    Promise.all(
      order.map(async (i): Promise<[number, string]> => {
        const header = [`x-rolltape-run: ${name}`]
        return [i, (await timedStream(rolltape.url, bodyOf(i), header)).sha256]
      }),
    )
  const both = await Promise.all([run('a', [0, 1, 2, 3]), run('b', [3, 1, 0, 2])])
  for (const answers of both) {
    for (const [i, sha256] of answers) t.equal(sha256, recorded[i]!.sha256)
  }
  t.match((await rolltape.close()).verdict, { servedExact: 8, missed: 0, exhausted: 0, unused: 0 })
})
