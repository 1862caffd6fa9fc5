// Requests nested deeper than a function calling itself would come back from: recorded, replayed,
// explained and compared like any other. A review found that they kept a replay from starting.
import t from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { canonicalize } from '../../src/replay/canonical.ts'
import { compareAnswers } from '../../src/replay/compare.ts'
import { diffJson } from '../../src/replay/json-diff.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'
import { CHAT, startReplay } from '../support/replayer.ts'

const DEPTHS = [200, 2_000, 100_000]
const bodyOf = (depth: number, last = '1', space = ''): string =>
  `{"model":"m","meta":${'[{"a":'.repeat(depth)}${last}${'}]'.repeat(depth)}${space}}`

const upstream = await startScriptedUpstream((x) =>
  x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
)
t.teardown(() => upstream.close())

t.test('the canonical form of what is nested deep', async (t) => {
  for (const depth of DEPTHS) {
    const body = bodyOf(depth)
    const text = canonicalize(JSON.parse(body))
    t.ok(text === body.replace('"model":"m",', '').replace(/\}$/, ',"model":"m"}'), `${depth}`)
  }
})

t.test('deep differences are told at a depth that people can read', async (t) => {
  const [one, other] = [bodyOf(5_000), bodyOf(5_000, '2')].map((body) => JSON.parse(body))
  t.strictSame(diffJson(one, one), [])
  t.strictSame(diffJson(one, JSON.parse(bodyOf(5_000))), [])
  const [difference, ...more] = diffJson(one, other)
  t.strictSame(more, [])
  t.match(difference?.pointer, /^\/meta\/0\/a\/0\/a/)
  const side = (response: unknown) =>
    ({ status: 200, outcome: 'complete', isStream: false, response }) as never
  t.strictSame(compareAnswers(side(one), side(JSON.parse(bodyOf(5_000)))), [])
  t.match(compareAnswers(side(one), side(other)), [{ what: 'text' }])
})

t.test('recorded, and replayed by bytes and by meaning; a miss is explained', async (t) => {
  const recorder = await startRecorder(t, upstream.url)
  for (const depth of DEPTHS) {
    t.equal((await rawRequest(recorder.url, post(CHAT, bodyOf(depth)))).status, 200)
  }
  await recorder.finish()
  const { url } = await startReplay(t, recorder.file, { onExhausted: 'repeat_last' })
  for (const depth of DEPTHS) {
    for (const body of [bodyOf(depth), bodyOf(depth, '1', ' ')]) {
      t.equal((await rawRequest(url, post(CHAT, body))).status, 200, `${depth}`)
    }
    const missed = await rawRequest(url, post(CHAT, bodyOf(depth, '2')))
    t.match([missed.status, missed.body.toString()], [404, /it differs at/], `${depth}`)
  }
})

t.test('in verify the live answer is served', async (t) => {
  const first = await startRecorder(t, upstream.url)
  await rawRequest(first.url, post(CHAT, bodyOf(20_000)))
  await first.finish()
  const second = await startRecorder(t, upstream.url, { mode: 'verify', replayFile: first.file })
  t.equal((await rawRequest(second.url, post(CHAT, bodyOf(20_000)))).status, 200)
  t.match(await second.finish(), [{ http_status: 200, verify: { same: true } }])
})
