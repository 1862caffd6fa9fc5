// What a session has of its own while it is replayed: pace and shape, by configuration or header.
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf, startReplay } from '../support/replayer.ts'

const PACE_MS = 40
const TRIES = 50
const BODY = bodyOf('a stream', { stream: true })

/** A recorded stream of some twenty chunks, and a replay of it that sessions may change. */
async function setUp(t: Test, options: object = {}) {
  const server = await startInferenceServer({ paceMs: PACE_MS })
  const recorder = await startRecorder(t, `${server.url}/v1`)
  const recorded = await timed(recorder.url, [])
  await recorder.finish()
  await server.close()
  const rolltape = await startReplay(t, recorder.file, {
    match: 'pooled',
    onExhausted: 'repeat_last',
    ...options,
  })
  return { url: rolltape.url, recorded }
}

/** What a stream of so many paced events takes at least; what the machine adds comes on top. */
const pacedMs = (events: number): number => (events - 4) * PACE_MS

/** Asks once; how many events came, and how long it took. */
async function timed(url: string, headers: string[]) {
  const client = await RawClient.open(url)
  const startMs = performance.now()
  client.send(post(CHAT, BODY, headers))
  const { status, body } = await client.answer()
  const tookMs = performance.now() - startMs
  client.close()
  return { status, events: body.toString().split('data: ').length - 1, tookMs, body }
}

t.test('pace and shape are those of the session', async (t) => {
  const sessionOverride = { slow: { pace: 'original' }, short: { shape: 'single' } } as const
  const { url, recorded } = await setUp(t, { sessionOverride })
  // A busy machine only ever adds to what is measured: one try that is at once is enough.
  let leastMs = Infinity
  for (let i = 0; i < TRIES && leastMs >= pacedMs(recorded.events) / 2; i++) {
    const plain = await timed(url, ['x-session-id: any'])
    t.strictSame(plain.body, recorded.body)
    leastMs = Math.min(leastMs, plain.tookMs)
  }
  t.ok(leastMs < pacedMs(recorded.events) / 2, 'instant for all others')
  const slow = await timed(url, ['x-session-id: slow'])
  t.strictSame(slow.body, recorded.body)
  t.ok(slow.tookMs >= pacedMs(recorded.events), 'as recorded for this one')
  const short = await timed(url, ['x-session-id: short'])
  t.ok(short.events <= 3 && recorded.events > 10, 'one chunk, usage, mark')
})

t.test('headers of the request go over the configuration', async (t) => {
  const { url, recorded } = await setUp(t, { sessionOverride: { s: { shape: 'single' } } })
  const whole = await timed(url, ['x-session-id: s', 'x-rolltape-shape: recorded'])
  t.strictSame(whole.body, recorded.body)
  const slow = await timed(url, ['x-session-id: t', 'x-rolltape-pace: original'])
  t.ok(slow.tookMs >= pacedMs(recorded.events))
})

t.test('a header that cannot be read is refused by name', async (t) => {
  const { url } = await setUp(t)
  for (const [header = '', why = '?'] of [
    ['x-rolltape-pace: fast', 'not instant, original, x<factor> or ttft=<ms>,tps=<n>'],
    ['x-rolltape-shape: round', 'not recorded or single'],
    ['x-rolltape-replay-turns: -1', 'not a whole number'],
  ]) {
    const { status, body } = await timed(url, [header])
    t.strictSame([status, body.toString().includes(why)], [400, true])
  }
})

t.test('both forms of one record are kept apart, whoever asks first', async (t) => {
  const { url, recorded } = await setUp(t)
  for (const shape of ['single', 'recorded', 'single', 'recorded']) {
    const { body, events } = await timed(url, [`x-rolltape-shape: ${shape}`])
    if (shape === 'recorded') t.strictSame(body, recorded.body)
    else t.ok(events <= 3)
  }
})
