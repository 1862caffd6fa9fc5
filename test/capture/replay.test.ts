/** A recording with captured tokens is replayed as its clients saw it, and goes on beside live ones. */
import { renameSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { Scenario } from '../../src/inference/scenario.ts'
import { startRolltape } from '../../src/rolltape.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { askFor, chat, eventsOf } from '../support/chat.ts'
import type { Got } from '../support/chat.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { startReplay } from '../support/replayer.ts'

const ASKED: [more: object, scenario?: Scenario][] = [
  [{}],
  [{ stream: true }],
  [
    { stream: true, n: 2 },
    { reasoning_words: 3, tool_calls: 1, write_bytes: 50 },
  ],
  [{ stream: true, stream_options: { include_usage: true }, logprobs: true }],
  [{}, { status: 429 }],
]
const bodies = ASKED.map(([more, scenario], i) => chat(`ask ${i}`, more, scenario))

async function recorded(t: Test) {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { engine: 'vllm' })
  const seen: Got[] = []
  for (const body of bodies) seen.push(await askFor(recorder.url, body))
  const records = await recorder.finish()
  return { upstream, recorder, seen, records }
}

t.test('R25 O13: what a client got comes again, byte for byte, from the tape', async (t) => {
  const { recorder, seen, records } = await recorded(t)
  t.ok(records.slice(0, 4).every(({ tokens }) => tokens?.every(({ aligned }) => aligned)))
  for (const pace of ['instant', 'original']) {
    const { url, egressTotal } = await startReplay(t, recorder.file, { pace, engine: 'vllm' })
    for (const [i, body] of bodies.entries()) t.strictSame(await askFor(url, body), seen[i])
    t.equal(egressTotal, 0)
  }
})

t.test(
  'R28 O13: in another form, and from records alone, nothing captured shows either',
  async (t) => {
    const { recorder, seen } = await recorded(t)
    const { url } = await startReplay(t, recorder.file, { match: 'sequence' })
    const streamed = await askFor(url, { ...bodies[0]!, stream: true })
    const whole = await askFor(url, { ...bodies[1]!, stream: false })
    t.match([streamed.type, whole.type], [/event-stream/, /json/])
    t.notMatch(streamed.text + whole.text, /token_ids|usage|"content":\[/)
    const { choices } = JSON.parse(seen[0]!.text) as { choices: { message: { content: string } }[] }
    const [first] = eventsOf(streamed.text) as { choices: { delta: { content: string } }[] }[]
    t.equal(first!.choices[0]!.delta.content, choices[0]!.message.content)
    renameSync(recorder.folder, `${recorder.folder}.gone`)
    const alone = await startReplay(t, recorder.file)
    const got = await askFor(alone.url, bodies[0]!)
    t.strictSame(JSON.parse(got.text), JSON.parse(seen[0]!.text))
  },
)

t.test('hybrid: what is recorded comes from the tape, the rest is captured live', async (t) => {
  const { upstream, recorder, seen } = await recorded(t)
  const recordingFile = `${makeFolder(t)}/b.jsonl`
  const options: RolltapeOptions = { mode: 'hybrid', replayFile: recorder.file, recordingFile }
  const common = { port: 0, proxyBaseUrl: upstream.url, engine: 'vllm', logLevel: 'error' } as const
  const hybrid = await startRolltape({ ...common, ...options })
  t.teardown(() => hybrid.close())
  const asked = upstream.requests.length
  t.strictSame(await askFor(hybrid.url, bodies[1]!), seen[1])
  t.equal(upstream.requests.length, asked)
  const other = chat('another', { stream: true })
  t.strictSame(await askFor(hybrid.url, other), await askFor(upstream.url, other))
  await hybrid.close()
  t.match(await recordsOf(recordingFile), [{ tokens: [{ aligned: true }] }])
})

t.test('verify: a captured answer is the same as a recorded one without', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const plain = await startRecorder(t, upstream.url)
  for (const body of bodies.slice(0, 3)) await askFor(plain.url, body)
  await plain.finish()
  const options: RolltapeOptions = { mode: 'verify', replayFile: plain.file, engine: 'vllm' }
  const verifying = await startRecorder(t, upstream.url, options)
  for (const body of bodies.slice(0, 3)) await askFor(verifying.url, body)
  const records = await verifying.finish()
  t.strictSame(
    records.map(({ verify }) => [verify?.same, verify?.differences]),
    records.map(() => [true, []]),
  )
  t.ok(records.every(({ tokens }) => tokens?.[0]?.aligned))
})
