/**
 * Records that leave their requests to the tape: nothing of a prompt is in the `.jsonl`, and whoever
 * needs it finds it all the same.
 */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { resolveOptions } from '../../src/options.ts'
import { rolltape } from '../cli/harness.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { CHAT, ask, plain, startReplay } from '../support/replayer.ts'

const SECRET = 'what the agent asked'
const FOREIGN = 'what others want: it'
const MODELS = Buffer.from('GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n')
const REFS = ['--record-requests', 'ref']

/** The first request with its keys in another order. */
const REORDERED = post(
  CHAT,
  `{"stream":false,"messages":[{"content":"${SECRET} 1","role":"user"}],"model":"qwen3"}`,
)

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const recorder = await startRecorder(t, upstream.url, { recordRequests: 'ref' })
const { file, folder } = recorder
const answers: unknown[] = []
for (const n of [1, 2, 3, 4]) {
  answers.push(plain(await ask(recorder.url, `${SECRET} ${n}`, { stream: n % 2 === 0 })))
}
await rawRequest(recorder.url, MODELS)
const records = await recorder.finish()

/** The recording elsewhere, as somebody would copy it. */
function copyOf(t: Test): string {
  const to = join(makeFolder(t), 'runs')
  cpSync(dirname(file), to, { recursive: true })
  return join(to, 'a.jsonl')
}

/** The same records with their requests, without a tape. */
async function fullOf(t: Test): Promise<string> {
  const out = join(makeFolder(t), 'full.jsonl')
  t.match(await rolltape(['derive', folder, '--out', out]), { code: 0 })
  return out
}

t.test('a record says where its request is; its first nine keys are as ever', async (t) => {
  const text = readFileSync(file, 'utf8')
  t.notMatch(text, SECRET)
  for (const record of records.slice(0, 4)) {
    t.equal(record.request, null)
    t.match(record, { model: 'qwen3', tape: { segment: '0-000001.tape', request: true } })
    t.equal(record.sha256.request.length, 64)
    t.strictSame(Object.keys(record).slice(0, 9), [
      'model',
      'stream',
      'status',
      'response_time',
      'start_time',
      'end_time',
      'request',
      'response',
      'error',
    ])
    t.match(recorder.taped(record).requestBody.toString(), SECRET)
  }
  t.notOk(Object.hasOwn(records[4]?.tape ?? {}, 'request'), 'a request without a body is nowhere')
})

t.test('the recording is whole, and derive makes the very lines', async (t) => {
  t.match(await rolltape(['verify', file]), { code: 0 })
  const { stdout } = await rolltape(['derive', folder, '--out', '-', '--record-requests', 'ref'])
  t.equal(stdout, readFileSync(file, 'utf8'))
})

t.test('replay finds them by what was asked, not by its bytes alone', async (t) => {
  for (const [what, options, drop] of [
    ['by what the recorder knew', {}, false],
    ['by the tape', {}, true],
    ['by other rules', { ignore: ['/user'] }, false],
  ] as const) {
    const copy = copyOf(t)
    if (drop) rmSync(`${copy}.index`)
    t.equal(existsSync(`${copy}.index`), !drop)
    const replay = await startReplay(t, copy, options)
    for (const [i, answer] of answers.entries()) {
      const stream = (i + 1) % 2 === 0
      const given = plain(await ask(replay.url, `${SECRET} ${i + 1}`, { stream }))
      t.strictSame(given, answer, what)
    }
    const again = await startReplay(t, copy, options)
    const given = await rawRequest(again.url, REORDERED)
    t.equal(given.status, 200, what)
    const missed = await ask(again.url, `${SECRET} 5`)
    t.match(missed.body.toString(), /nearest[^]*\/messages\/0\/content/, what)
  }
})

t.test('what the recorder knew of them outlives the tape', async (t) => {
  const copy = copyOf(t)
  rmSync(copy.replace('.jsonl', '.tape'), { recursive: true })
  const replay = await startReplay(t, copy)
  t.equal((await rawRequest(replay.url, REORDERED)).status, 200)
})

t.test('show, explain and diff read them off the tape', async (t) => {
  t.match((await rolltape(['show', '1', file])).stdout, `${SECRET} 1`)
  const full = await fullOf(t)
  const same = await rolltape(['diff', file, full, '--json'])
  t.match(same, { code: 0, stdout: /"what":"same"/ })
})

t.test('exports are what they are of records with their requests', async (t) => {
  const full = await fullOf(t)
  for (const format of ['har', 'openenv', 'openai-chat', 'sharegpt', 'samples']) {
    const ofRefs = await rolltape(['export', file, '--format', format])
    const ofFull = await rolltape(['export', full, '--format', format])
    t.equal(ofRefs.code, 0, ofRefs.stderr)
    t.equal(ofRefs.stdout, ofFull.stdout, format)
  }
  t.match((await rolltape(['export', file, '--format', 'har'])).stdout, SECRET)
})

t.test('requests that are not on the tape any more are null; how many is told', async (t) => {
  const copy = copyOf(t)
  rmSync(join(copy.replace('.jsonl', '.tape'), '0-000001.tape'))
  const { code, stdout, stderr } = await rolltape(['export', copy, '--format', 'har'])
  t.equal(code, 0)
  t.notMatch(stdout, SECRET)
  t.match(stderr, /^4 records are without a request: .*0-000001.tape: the segment is not there/)
  t.equal(stderr.match(/without a request/g)?.length, 1)
  const chats = await rolltape(['export', copy, '--format', 'openai-chat'])
  t.match(chats.stderr, /left out: 4 exchanges \(.*whose request is on the tape alone/)
})

t.test('requests of another recording are nobody else’s, though their places fit', async (t) => {
  const copy = copyOf(t)
  const other = await startRecorder(t, upstream.url, { recordRequests: 'ref' })
  for (const n of [1, 2, 3, 4]) await ask(other.url, `${FOREIGN} ${n}`, { stream: n % 2 === 0 })
  await rawRequest(other.url, MODELS)
  const theirs = await other.finish()
  rmSync(`${copy}.index`)
  rmSync(copy.replace('.jsonl', '.tape'), { recursive: true })
  cpSync(other.folder, copy.replace('.jsonl', '.tape'), { recursive: true })
  // Times are longer or shorter in digits: the places are made the same.
  const lines = readFileSync(copy, 'utf8').split('\n')
  const moved = lines.map((line, i) =>
    line.replace(/"end":(\d+)/, (_, end) => `"end":${theirs[i]?.tape?.end ?? end}`),
  )
  writeFileSync(copy, moved.join('\n'))
  for (const format of ['openai-chat', 'openenv']) {
    const { code, stdout, stderr } = await rolltape(['export', copy, '--format', format])
    t.equal(code, 0)
    t.notMatch(stdout, FOREIGN)
    t.match(stderr, /4 records are without a request.* is of another recording/)
  }
  t.notMatch((await rolltape(['show', '1', copy])).stdout, FOREIGN)
  const replay = await startReplay(t, copy)
  t.equal((await ask(replay.url, `${FOREIGN} 1`, { stream: false })).status, 404)
})

t.test('derive tells where a file would look for requests that are not there', async (t) => {
  const out = join(makeFolder(t), 'b.jsonl')
  const { code, stderr } = await rolltape(['derive', folder, '--out', out, ...REFS])
  t.equal(code, 0)
  t.match(stderr, /requests will be looked for in .*b\.tape, and they are in .*\.tape/)
  const copy = copyOf(t)
  rmSync(copy)
  const beside = await rolltape(['derive', copy.replace('.jsonl', '.tape'), '--out', copy, ...REFS])
  t.strictSame([beside.code, beside.stderr.includes('looked for')], [0, false])
})

t.test('records that a crash left unmade are made the same way', async (t) => {
  const copy = copyOf(t)
  const before = readFileSync(copy, 'utf8')
  rmSync(copy)
  rmSync(join(copy.replace('.jsonl', '.tape'), 'derived.json'))
  const options = { port: 0, proxyBaseUrl: upstream.url, logLevel: 'silent' } as const
  const again = await startRolltape({ ...options, recordingFile: copy, recordRequests: 'ref' })
  await again.close()
  t.strictSame(readFileSync(copy, 'utf8').split('\n').sort(), before.split('\n').sort())
})

t.test('a recording may change from one to the other', async (t) => {
  const copy = copyOf(t)
  const full = await startRecorder(t, upstream.url, { recordingFile: copy })
  await ask(full.url, 'in the open')
  await full.finish()
  const all = await recordsOf(copy)
  t.strictSame(
    all.map(({ request }) => request === null),
    [true, true, true, true, true, false],
  )
  const replay = await startReplay(t, copy)
  t.equal((await ask(replay.url, `${SECRET} 3`, { stream: false })).status, 200)
  t.equal((await ask(replay.url, 'in the open')).status, 200)
})

t.test('requests that would be nowhere are refused', async (t) => {
  const flags = { proxyBaseUrl: 'http://a', recordRequests: 'ref', tapeRetain: 'until-derived' }
  t.throws(() => resolveOptions({ flags }), { code: 'bad_option', message: /on the tape alone/ })
})
