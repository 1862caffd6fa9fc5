/**
 * Credentials that a configuration names: gone from a recording, they are left out when it is replayed
 * and count for no key. And which key a client has shown, told by a digest.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { KeyHmac } from '../../src/lane/key-hmac.ts'
import { KEY_HMACS_MAX } from '../../src/limits.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { ROOT } from '../../tools/tree.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { CHAT, startReplay } from '../support/replayer.ts'

const NAMES = { redactHeader: ['x-team-session', 'x-sum'], redactQuery: ['tenant_key'] }
const BODY = '{"messages":[]}'

t.test('M27: what was redacted is left out at replay, and is in no key', async (t) => {
  const upstream = await startScriptedUpstream((exchange) =>
    exchange.send(
      responseHead(200, 'OK', [
        ['Content-Type', 'application/json'],
        ['X-Team-Session', 'sk-1'],
        ['X-Stays', 'yes'],
        ['Transfer-Encoding', 'chunked'],
      ]),
      chunkOf('{}'),
      lastChunk([
        ['X-Sum', 'sk-2'],
        ['X-Count', '1'],
      ]),
    ),
  )
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, NAMES)
  const asked = (key: string): Buffer => post(`${CHAT}?tenant_key=${key}&v=1`, BODY)
  const live = await rawRequest(recorder.url, asked('one'))
  t.strictSame(live.trailers, [
    ['X-Sum', 'sk-2'],
    ['X-Count', '1'],
  ])
  const [record] = await recorder.finish()
  const { head, trailers } = recorder.taped(record!)
  t.match(Object.fromEntries(head!.headers), { 'X-Team-Session': '[redacted]', 'X-Stays': 'yes' })
  t.strictSame(trailers[0], ['X-Sum', '[redacted]'])

  const replay = await startReplay(t, recorder.file, { ...NAMES, onExhausted: 'repeat_last' })
  const again = await rawRequest(replay.url, asked('another'))
  t.strictSame([again.status, again.body.toString()], [200, '{}'])
  t.notOk(again.headers.some(([name]) => name === 'X-Team-Session'))
  t.ok(again.headers.some(([name]) => name === 'X-Stays'))
  t.strictSame(again.trailers, [['X-Count', '1']])
  const without = await rawRequest(replay.url, post(`${CHAT}?v=2`, BODY))
  t.equal(without.status, 404, 'another query is another request all the same')
  const unnamed = await startReplay(t, recorder.file)
  t.equal((await rawRequest(unnamed.url, asked('one'))).status, 404, 'the name is to be given')
})

t.test('names are tokens, and none that a body is read by', async (t) => {
  const start = (options: object): Promise<unknown> =>
    startRolltape({ proxyBaseUrl: 'http://127.0.0.1:9', port: 0, ...options })
  for (const redactHeader of ['x team', 'x:y', 'größe', 'a\r\nb', 'x'.repeat(257), 5]) {
    await t.rejects(start({ redactHeader: [redactHeader] }), { code: 'bad_option' })
  }
  await t.rejects(start({ redactHeader: ['Content-Encoding'] }), {
    code: 'bad_option',
    message: /content-encoding cannot be redacted: a recorded body cannot be read without it/,
  })
})

const python = spawnSync('python3', ['--version']).status === 0

t.test('M27: key_hmac tells keys apart, over restarts and rotations', async (t) => {
  const upstream = await startScriptedUpstream((exchange) =>
    exchange.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
  )
  t.teardown(() => upstream.close())
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const first = await startRecorder(t, upstream.url, { recordingFile })
  const ask = async (url: string, headers: string[], query = ''): Promise<void> => {
    await rawRequest(url, post(`${CHAT}${query}`, BODY, headers))
  }
  await ask(first.url, ['Authorization: Bearer sk-1', 'x-api-key: sk-2'])
  await ask(first.url, ['x-api-key: sk-1', 'x-goog-api-key: sk-2', 'authorization: Basic sk-3'])
  await ask(first.url, ['x-goog-api-key: sk-1', 'api-key: sk-2'])
  await first.rolltape.rotate()
  await ask(first.url, ['api-key: sk-1'], '?key=sk-2')
  await ask(first.url, [], '?v=1&key=sk%2d1')
  await ask(first.url, ['x-api-key: sk-2'])
  await ask(first.url, ['x-rolltape-group: g'])
  await first.rolltape.close()
  const second = await startRecorder(t, upstream.url, { recordingFile })
  await ask(second.url, ['authorization: bearer  sk-1'])
  const records = [
    ...(await recordsOf(recordingFile.replace('.jsonl', '.000001.jsonl'))),
    ...(await second.finish()),
  ]
  const one = records[0]!.key_hmac!
  t.match(one, /^[0-9a-f]{16}$/)
  t.strictSame(
    records.map(({ key_hmac }) =>
      key_hmac === one ? 'sk-1' : key_hmac === null ? 'none' : 'other',
    ),
    ['sk-1', 'sk-1', 'sk-1', 'sk-1', 'sk-1', 'other', 'none', 'sk-1'],
  )
  t.equal(records[6]!.group, 'g')
  const key = join(second.folder, 'hmac.key')
  t.equal(statSync(key).mode & 0o777, 0o600)

  await t.test('the command of the page makes the same', { skip: !python }, async (t) => {
    const page = readFileSync(join(ROOT, 'docs/record.md'), 'utf8')
    const command = /```sh\n(printf %s "\$KEY" \|[\s\S]*?)```/.exec(page)![1]!
    const made = execFileSync('sh', ['-c', command.replaceAll('runs/a.tape', second.folder)], {
      env: { ...process.env, KEY: 'sk-1' },
    })
    t.equal(made.toString().trim(), one)
  })

  await t.test('another recording has another key, a broken one is told', async (t) => {
    const other = await startRecorder(t, upstream.url)
    await ask(other.url, ['x-api-key: sk-1'])
    const [record] = await other.finish()
    t.not(record!.key_hmac, one)
    const options = { recordingFile, proxyBaseUrl: upstream.url, port: 0 }
    copyFileSync(key, `${key}.kept`)
    writeFileSync(key, 'torn')
    await t.rejects(startRolltape(options), {
      code: 'recording_unwritable',
      message: /hmac\.key cannot be used: it does not hold 64 hex digits/,
    })
    rmSync(key)
    const rolltape = await startRolltape({ ...options, logLevel: 'error' })
    t.match(readFileSync(key, 'latin1'), /^[0-9a-f]{64}\n$/, 'and one that is gone is made anew')
    await rolltape.close()
  })
})

t.test('a lane remembers no more digests than it may', async (t) => {
  const keys = new KeyHmac('00'.repeat(32))
  const first = keys.of('/', ['x-api-key', 'k0'])
  for (let i = 1; i < KEY_HMACS_MAX; i++) keys.of('/', ['x-api-key', `k${i}`])
  t.equal(keys.size, KEY_HMACS_MAX)
  keys.of('/', ['x-api-key', 'one more'])
  t.equal(keys.size, 1)
  t.equal(keys.of('/', ['x-api-key', 'k0']), first)
})
