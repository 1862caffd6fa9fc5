/** M27: `rolltape scan` finds credentials in a recording, and takes nothing else for one. */
import { join } from 'node:path'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { writeFileSync } from 'node:fs'
import { jsonl, recordOf, rolltape } from '../cli/harness.ts'
import { post, rawRequest } from '../support/raw-client.ts'

/** Put together here, so that no scanner takes this file for a leak. */
const KEYS = {
  github: `ghp_${'16C7e42F292c6912E7710c838347Ae178B4a'}`,
  anthropic: `sk-ant-api03-${'a1B2c3D4e5'.repeat(9)}abc-aaaaaAA`,
  huggingface: `hf_${'abcdefghijklmnopqrstuvwxyzABCDEFGH'}`,
  named_secret: 'q7Zk2WfP0xVb9LmT4yRc',
}

interface Told {
  readonly kind: string
  readonly pointer: string
  readonly starts: string
  readonly seq: number
}

async function scan(path: string): Promise<{ code: number; told: Told[]; stderr: string }> {
  const { code, stdout, stderr } = await rolltape(['scan', path, '--json'])
  const lines = stdout.trim() === '' ? [] : stdout.trim().split('\n')
  return { code, told: lines.map((line) => JSON.parse(line) as Told), stderr }
}

function fileOf(content: string): string {
  const file = join(makeFolder(t), 'a.jsonl')
  const request = { model: 'm', messages: [{ role: 'user', content }] }
  writeFileSync(file, jsonl([recordOf(1), recordOf(2, { request })]))
  return file
}

for (const [kind, key] of Object.entries(KEYS)) {
  t.test(`M27: ${kind} in a prompt is found, and never shown whole`, async (t) => {
    const file = fileOf(`please run it with API_KEY=${key} and tell me`)
    const { code, told, stderr } = await scan(file)
    t.equal(code, 1)
    t.ok(
      told.some((one) => one.kind === kind),
      JSON.stringify(told),
    )
    t.match(told[0], {
      seq: 2,
      pointer: '/request/messages/0/content',
      starts: `${key.slice(0, 4)}…`,
    })
    const shown = await rolltape(['scan', file])
    for (const text of [shown.stdout, shown.stderr, stderr, JSON.stringify(told)]) {
      t.notMatch(text, key.slice(0, 12))
    }
    t.match(shown.stderr, /^2 exchanges searched; \d credentials were found\n$/)
  })
}

t.test('a named member, a private key, a header of the client’s own', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const pem = `-----BEGIN RSA PRIVATE KEY-----\n${'MIIEowIBAAKCAQEA7bq'.repeat(8)}\n-----END RSA PRIVATE KEY-----`
  const request = { tools: [{ config: { api_key: KEYS.named_secret } }], note: pem }
  writeFileSync(file, jsonl([recordOf(1, { request })]))
  const { told } = await scan(file)
  t.strictSame(
    told.map(({ kind, pointer }) => [kind, pointer]),
    [
      ['named_secret', '/request/tools/0/config/api_key'],
      ['privatekey', '/request/note'],
    ],
  )
})

t.test('M27: a key is found however deep it is nested', async (t) => {
  const levels = 100_000
  const file = join(makeFolder(t), 'a.jsonl')
  for (const [open, close] of [
    ['[', ']'],
    ['{"a":', '}'],
  ] as const) {
    const nested = `${open.repeat(levels)}"${KEYS.github}"${close.repeat(levels)}`
    writeFileSync(
      file,
      `{"session":"s","seq":3,"request":${nested},"tail":"${KEYS.huggingface}"}\n`,
    )
    const { code, told, stderr } = await scan(file)
    t.equal(code, 1, stderr)
    t.strictSame(
      told.map(({ kind, seq }) => [kind, seq]),
      [
        ['github', 3],
        ['huggingface', 3],
      ],
    )
    t.equal(told[0]?.pointer.split('/').length, levels + 2)
  }
})

t.test('log-probs, ids, digests and prose are no credentials', async (t) => {
  const logprobs = { content: [{ token: KEYS.github, logprob: -1, bytes: null }] }
  const response = { choices: [{ index: 0, message: { content: 'ok' }, logprobs }] }
  const request = {
    model: 'm',
    max_tokens: 4096,
    secret: 'the secret of a good soup is time and patience',
    messages: [
      {
        role: 'user',
        content:
          'The password: correct-horse-battery-staple, they say; or password=aaaaaaaaaaaaaaaaaaaa1.',
      },
      {
        role: 'tool',
        content: `sha256 ${'0f'.repeat(32)} commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904`,
      },
    ],
  }
  const file = join(makeFolder(t), 'a.jsonl')
  const tokens = [
    {
      index: 0,
      prompt_token_ids: null,
      token_ids: [7],
      logprobs: null,
      tokens: [KEYS.github],
      aligned: false,
    },
  ]
  writeFileSync(file, jsonl([recordOf(1, { request, response, tokens })]))
  const { code, told, stderr } = await scan(file)
  t.strictSame([code, told, stderr], [0, [], '1 exchanges searched; no credential was found\n'])
})

t.test('M27: of a tape headers are searched too, and what is redacted is not there', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'Hi' }] })
  const headers = [`authorization: Bearer ${KEYS.anthropic}`, `x-gitlab: ${KEYS.github}`]
  await rawRequest(
    recorder.url,
    post(`/v1/chat/completions?key=${KEYS.huggingface}`, body, headers),
  )
  await recorder.finish()
  t.strictSame(await scan(recorder.file).then(({ told }) => told), [])
  const { told } = await scan(recorder.folder)
  t.match(told, [{ kind: 'github', pointer: '/request_headers/x-gitlab/0' }])
  t.equal(told.length, 1)
})

t.test('one that is stopped does not say that nothing was found', async (t) => {
  const stopping = AbortSignal.abort()
  const { code, stderr } = await rolltape(['scan', fileOf('hello'), '--json'], { stopping })
  t.strictSame([code, stderr], [1, 'rolltape: stopped before all was read\n'])
})

t.test('what is not there is told', async (t) => {
  const { code, stderr } = await rolltape(['scan', '/no/such.jsonl'])
  t.match([code, stderr], [1, /no such file/])
})
