/** An upstream that refuses what was put in is asked once more without, and not again (O29). */
import t from 'tap'
import type { Test } from 'tap'
import { REFUSALS_MAX, REFUSAL_BYTES_MAX } from '../../src/limits.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { Refusals } from '../../src/lane/refusals.ts'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { askFor, chat } from '../support/chat.ts'
import { startRecorder } from '../support/recorder.ts'

async function setUp(t: Test) {
  const upstream = await startInferenceServer({ engine: 'openai' })
  t.teardown(() => upstream.close())
  return { upstream, recorder: await startRecorder(t, upstream.url, { engine: 'openai' }) }
}

t.test(
  'O29: asked once more without, remembered by model; others are asked as before',
  async (t) => {
    const { upstream, recorder } = await setUp(t)
    const body = { ...chat('a', { stream: true }), model: 'secretive-1' }
    for (let i = 0; i < 2; i++) {
      const [without, captured] = [
        await askFor(upstream.url, body),
        await askFor(recorder.url, body),
      ]
      t.strictSame(captured, without)
    }
    t.equal((await askFor(recorder.url, chat('a'))).status, 200)
    const asked = upstream.requests.map(({ body }) => body.includes('"logprobs":true'))
    // Directly, with, without; directly, without; and the other model.
    t.strictSame(asked, [false, true, false, false, false, true])
    const [first, second, other] = await recorder.finish()
    const skipped = 'logprobs was refused with status 403'
    const told = [{ name: 'capture', version: 1, profile: 'openai/1', skipped }]
    t.strictSame([first!.transforms, second!.transforms], [told, told])
    t.strictSame(
      first!.attempts.map(({ status, error }) => [status, error]),
      [
        [403, 'capture_refused'],
        [200, null],
      ],
    )
    t.match([first, second], [{ status: 'success', tokens: null }, { attempts: [{ status: 200 }] }])
    t.equal(recorder.taped(first!).sent?.body, undefined, 'what was sent last is the client’s own')
    t.match(other!.tokens, [{ logprobs: [Number] }])
  },
)

t.test('O29: other errors pass as they are, and so does one that comes again', async (t) => {
  const { upstream, recorder } = await setUp(t)
  const wrong = { ...chat('a'), messages: 'none' }
  const own = { ...chat('a', { logprobs: true }), model: 'secretive-1' }
  const twice = { ...chat('a', { return_token_ids: true }), model: 'secretive-2' }
  const failing = chat('a', {}, { status: 503 })
  const again = { ...failing, model: 'secretive-3' }
  for (const body of [wrong, own, twice, failing, again, again]) {
    t.strictSame(await askFor(recorder.url, body), await askFor(upstream.url, body))
  }
  const records = await recorder.finish()
  t.strictSame(
    records.map(({ http_status, attempts }) => [http_status, attempts.map(({ status }) => status)]),
    [
      [400, [400]],
      [403, [403]],
      [400, [400]],
      [503, [503]],
      [503, [403, 503]],
      [503, [403, 503]],
    ],
    'what fails without as well is not remembered',
  )
})

t.test('O29: a long error, or one that breaks off, passes as far as it came', async (t) => {
  const long = `{"error":"${'logprobs '.repeat(REFUSAL_BYTES_MAX / 8)}"}`
  const upstream = await startScriptedUpstream(async (x) => {
    const isLong = x.body.includes('long')
    const text = isLong ? long : '{"error":"logprobs'
    const length = String(isLong ? long.length : 99)
    await x.send(responseHead(400, 'Bad Request', [['Content-Length', length]]), text)
    if (!isLong) x.destroy()
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { engine: 'vllm' })
  t.equal((await askFor(recorder.url, { model: 'long' })).text, long)
  await t.rejects(askFor(recorder.url, { model: 'short' }))
  t.equal(upstream.exchanges.length, 2, 'neither was asked again')
  await recorder.finish()
})

t.test('the refusals that were asked for longest ago are forgotten', async (t) => {
  const refusals = new Refusals()
  for (let i = 0; i < REFUSALS_MAX; i++) refusals.add('http://u', `m${i}`, 'no')
  t.equal(refusals.of('http://u', 'm0'), 'no')
  refusals.add('http://u', 'new', 'no')
  t.strictSame(
    ['m0', 'm1', 'new'].map((model) => refusals.of('http://u', model)),
    ['no', undefined, 'no'],
  )
  t.equal(refusals.size, REFUSALS_MAX)
  t.equal(refusals.of('http://v', 'm0'), undefined, 'each upstream for itself')
})
