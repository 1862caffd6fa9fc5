// What a restart finds: numbers go on, nothing is lost, nothing is told twice, nobody else records.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, readFileSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { ScriptedUpstream } from '../../src/inference/raw.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const STREAM = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const DELTA = chunkOf('data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
const MAIN = new URL('../../src/main.ts', import.meta.url).pathname

async function okUpstream(t: Test): Promise<ScriptedUpstream> {
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
  )
  t.teardown(() => upstream.close())
  return upstream
}

/** A rolltape in a process of its own, that can be killed. */
async function spawnRecorder(t: Test, upstream: string, file: string) {
  const flags = [
    '--proxy-base-url',
    upstream,
    '--recording-file',
    file,
    '--port',
    '0',
    '--control',
    'off',
  ]
  const child = spawn(process.execPath, [MAIN, 'serve', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '' },
  })
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  // Once all is read that it has said.
  const exited = once(child, 'close')
  const line = await Promise.race([
    once(createInterface(child.stdout), 'line').then(([text]) => text as string),
    exited.then(([code]) => `exit ${code}`),
  ])
  return { child, line, url: /http:\S+/.exec(line)?.[0] ?? '', exited, stderr: () => stderr }
}

t.test('R17: a restart goes on with seq and each session’s turn', async (t) => {
  const upstream = await okUpstream(t)
  const file = join(makeFolder(t), 'deep/er/a.jsonl')
  for (let start = 0; start < 3; start++) {
    const recorder = await startRecorder(t, upstream.url, { recordingFile: file })
    for (const session of ['a', 'b', 'a']) {
      await rawRequest(recorder.url, post(CHAT, '{}', [`x-session-id: ${session}`]))
    }
    await rawRequest(recorder.url, post('/v1/embeddings', '{}', ['x-session-id: a']))
    await recorder.finish()
  }
  const records = await recordsOf(file)
  t.strictSame(
    records.map((record) => [record.seq, record.session, record.turn]),
    [0, 1, 2].flatMap((start) => [
      [start * 4 + 1, 'a', start * 2 + 1],
      [start * 4 + 2, 'b', start + 1],
      [start * 4 + 3, 'a', start * 2 + 2],
      [start * 4 + 4, 'a', null],
    ]),
  )
  t.equal(new Set(records.map((record) => record.id)).size, 12)
  t.equal(new Set(records.map((record) => record.id.split('-')[0])).size, 1)
})

t.test('a second rolltape on the same recording is refused, by name', async (t) => {
  const upstream = await okUpstream(t)
  const recorder = await startRecorder(t, upstream.url)
  const options = { port: 0, proxyBaseUrl: upstream.url, recordingFile: recorder.file }
  await t.rejects(startRolltape(options), { code: 'recording_locked', message: /lock is held/ })
  const other = await spawnRecorder(t, upstream.url, recorder.file)
  t.equal(other.line, 'exit 1')
  t.match(other.stderr(), /another rolltape records here/)
  t.equal((await rawRequest(recorder.url, post(CHAT, '{}'))).status, 200, 'the first goes on')
})

t.test('kill -9 in the middle: what a client saw finish is whole, the rest is told', async (t) => {
  const upstream = await startScriptedUpstream((x) => {
    if (x.header('x-open') === undefined) {
      return x.send(STREAM, DELTA, chunkOf('data: [DONE]\n\n'), lastChunk())
    }
    return x.send(STREAM, DELTA)
  })
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const first = await spawnRecorder(t, upstream.url, file)
  const marked = await RawClient.open(first.url)
  for (let i = 0; i < 20; i++) {
    marked.send(post(CHAT, `{"i":${i}}`))
    t.equal((await marked.answer()).whole, true)
  }
  const open = await RawClient.open(first.url)
  open.send(post(CHAT, '{"i":"open"}', ['x-open: 1']))
  await open.until((bytes) => bytes.includes('content'))
  first.child.kill('SIGKILL')
  await first.exited
  // The crash may have taken the last line in two: the tape has it whole.
  appendFileSync(file, '{"model":"torn')
  const left = readFileSync(file)
  const cutBytes = left.length - left.lastIndexOf('\n') - 1

  const second = await startRecorder(t, upstream.url, { recordingFile: file })
  t.match(second.rolltape.recovery, { isNew: false, unended: 1, cutBytes })
  t.equal((await rawRequest(second.url, post(CHAT, '{"i":"after"}'))).status, 200)
  const records = await second.finish()
  t.strictSame(
    records.map((record) => record.seq),
    Array.from({ length: 22 }, (_, i) => i + 1),
    'every exchange once',
  )
  t.strictSame(
    records.map((record) => record.outcome),
    [...Array.from({ length: 20 }, () => 'complete'), 'incomplete', 'complete'],
  )
  t.strictSame(
    records.map((record) => record.turn),
    Array.from({ length: 22 }, (_, i) => i + 1),
  )
})

t.test('a .jsonl that was cut or deleted is made anew from the tape', async (t) => {
  const upstream = await okUpstream(t)
  const file = join(makeFolder(t), 'a.jsonl')
  const first = await startRecorder(t, upstream.url, { recordingFile: file })
  for (let i = 0; i < 5; i++) await rawRequest(first.url, post(CHAT, `{"i":${i}}`))
  await first.finish()
  const whole = readFileSync(file, 'utf8')
  for (const damage of ['cut', 'deleted'] as const) {
    if (damage === 'cut') truncateSync(file, whole.length >> 1)
    else rmSync(file)
    const again = await startRecorder(t, upstream.url, { recordingFile: file })
    await again.finish()
    const lines = (text: string): string[] => text.trimEnd().split('\n').sort()
    t.strictSame(lines(readFileSync(file, 'utf8')), lines(whole), damage)
  }
})

t.test('a recording file that cannot be opened fails at start, and says which', async (t) => {
  const folder = makeFolder(t)
  const options = { port: 0, proxyBaseUrl: 'http://127.0.0.1:9', recordingFile: folder }
  await t.rejects(startRolltape(options), {
    code: 'recording_unwritable',
    message: new RegExp(folder),
  })
})

t.test('SIGTERM lets what runs finish, records it, and exits 0', async (t) => {
  const gate = Promise.withResolvers<void>()
  const upstream = await startScriptedUpstream((x) =>
    x.send(STREAM, DELTA, gate.promise, chunkOf('data: [DONE]\n\n'), lastChunk()),
  )
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const recorder = await spawnRecorder(t, upstream.url, file)
  const client = await RawClient.open(recorder.url)
  client.send(post(CHAT, '{}'))
  await client.until((bytes) => bytes.includes('content'))
  recorder.child.kill('SIGTERM')
  // It no longer listens once a new connection is refused.
  while (await listens(recorder.url));
  gate.resolve()
  t.equal((await client.answer()).whole, true)
  t.strictSame(await recorder.exited, [0, null])
  t.strictSame(
    (await recordsOf(file)).map((record) => record.outcome),
    ['complete'],
  )
})

async function listens(url: string): Promise<boolean> {
  try {
    const client = await RawClient.open(url)
    client.close()
    return true
  } catch {
    return false
  }
}
