/** M65 R5: clients hold keys to rolltape: who may come in, to which sessions, and what goes further. */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI from 'openai'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { CLIENT_KEYS_MAX } from '../../src/limits.ts'
import { ControlClient } from '../support/control-client.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const digest = (key: string): string => createHash('sha256').update(key).digest('hex')
const folder = makeFolder(t)
const keysFile = join(folder, 'keys.txt')
const write = (...lines: string[]): void => writeFileSync(keysFile, `${lines.join('\n')}\n`)
const TRAINER = `trainer ${digest('open sesame')}`
const AGENTS = `agents\t${digest('swordfish').toUpperCase()}  sessions=rollout-`

/** A rolltape with keys, before an upstream that tells what it was sent. */
async function setUp(t: Test, options: RolltapeOptions = {}) {
  write('# who may come in', '', TRAINER, AGENTS)
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
  )
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { keysFile, ...options })
  const ask = async (path: string, ...headers: string[]) => {
    const {
      status,
      body,
      headers: pairs,
    } = await rawRequest(recorder.url, post(path, '{}', headers))
    return { status, body: JSON.parse(body.toString()) as Record<string, unknown>, pairs }
  }
  return { upstream, recorder, ask }
}

t.test(
  'M65: Bearer, x-api-key, x-goog-api-key and ?key= open, and nothing of them goes on',
  async (t) => {
    const { upstream, recorder, ask } = await setUp(t)
    const key = 'open sesame'
    for (const [path, ...headers] of [
      [CHAT, `authorization: Bearer ${key}`],
      [CHAT, `Authorization: bearer  ${key}`],
      ['/v1/messages', `x-api-key: ${key}`, 'authorization: Bearer none'],
      ['/v1beta/models/m:generateContent', `x-goog-api-key: ${key}`],
      [`/v1beta/models/m:generateContent?key=${encodeURIComponent(key)}&alt=json`],
    ] as string[][]) {
      t.equal((await ask(path ?? '', ...headers, 'cookie: a=b')).status, 200, headers.join())
    }
    for (const { head } of upstream.exchanges) {
      const names = head.headers.map(([name]) => name.toLowerCase())
      const kept = names.filter((name) => /^(?:authorization|cookie|x-api-key|x-goog)/.test(name))
      t.strictSame([kept, head.target.includes('sesame')], [[], false])
    }
    t.equal(upstream.exchanges.at(-1)?.head.target, '/v1beta/models/m:generateContent?alt=json')
    const records = await recorder.finish()
    t.strictSame(
      new Set(records.map(({ session }) => session)),
      new Set([`key-${digest(key).slice(0, 12)}`]),
    )
  },
)

t.test(
  'M65: without a key, or with another, nothing is asked, recorded or told of keys',
  async (t) => {
    const { upstream, recorder, ask } = await setUp(t)
    const none = await ask(CHAT)
    t.match(
      [none.status, none.body],
      [401, { error: { code: 'unauthenticated', message: /asks clients for a key/ } }],
    )
    t.ok(none.pairs.some(([name, value]) => name === 'www-authenticate' && value === 'Bearer'))
    for (const shown of [
      'Bearer wrong',
      'Bearer',
      'Basic b3BlbiBzZXNhbWU=',
      `Bearer ${digest('open sesame')}`,
    ]) {
      t.equal((await ask(CHAT, `authorization: ${shown}`)).status, 401, shown)
    }
    const anthropic = await ask('/v1/messages', 'x-api-key: wrong')
    t.match(anthropic.body, { type: 'error', error: { type: 'authentication_error' } })
    const gemini = await ask('/v1beta/models/m:generateContent?key=wrong')
    t.match(gemini.body, { error: { status: 'UNAUTHENTICATED' } })
    t.equal((await fetch(`${recorder.url}/healthz`)).status, 200, 'health stays open')
    t.equal(upstream.exchanges.length, 0)
    t.strictSame(await recorder.finish(), [])
  },
)

t.test('M65: a key is good for the sessions of its prefix, and for its own', async (t) => {
  const { ask, recorder } = await setUp(t, {
    sessionSources: ['path', 'header', 'body'],
    sessionBodyField: 'sid',
  })
  const key = 'authorization: Bearer swordfish'
  t.equal((await ask(`/sessions/rollout-1${CHAT}`, key)).status, 200)
  t.equal((await ask(CHAT, key, 'x-session-id: rollout-2')).status, 200)
  t.equal((await ask(CHAT, key)).status, 200)
  for (const other of ['other', 'Rollout-1', 'xrollout-1']) {
    const { status, body } = await ask(`/sessions/${other}${CHAT}`, key)
    t.match([status, body], [403, { error: { code: 'session_forbidden' } }], other)
  }
  const inBody = await rawRequest(recorder.url, post(CHAT, '{"sid":"other"}', [key]))
  t.equal(inBody.status, 403)
  const sessions = (await recorder.finish()).map(({ session }) => session)
  t.strictSame(sessions, ['rollout-1', 'rollout-2', `key-${digest('swordfish').slice(0, 12)}`])
})

t.test('R5: the real SDK holds a key to rolltape, rolltape the key of the upstream', async (t) => {
  write(TRAINER)
  const server = await startInferenceServer()
  t.teardown(() => server.close())
  const recorder = await startRecorder(t, server.url, { keysFile })
  const make = (apiKey: string) =>
    new OpenAI({ baseURL: `${recorder.url}/v1`, apiKey, maxRetries: 0 }).chat.completions.create({
      model: 'demo',
      messages: [{ role: 'user', content: 'Hi' }],
    })
  t.ok((await make('open sesame')).choices[0]?.message.content)
  await t.rejects(make('sesame'), { status: 401, code: 'unauthenticated' })
})

t.test('keys that are taken out or put in count after a reload', async (t) => {
  const { ask, recorder } = await setUp(t, { control: '127.0.0.1:0' })
  t.equal(
    (await ask(CHAT, 'authorization: Bearer swordfish', 'x-session-id: rollout-1')).status,
    200,
  )
  write(TRAINER, `new ${digest('new one')}`)
  const control = new ControlClient(t, recorder.rolltape.controlAddress ?? '')
  const reply = await control.call('ReloadConfig')
  t.strictSame(reply.get(1)?.map(String), ['keys_file'])
  t.equal(
    (await ask(CHAT, 'authorization: Bearer swordfish', 'x-session-id: rollout-1')).status,
    401,
  )
  t.equal((await ask(CHAT, 'authorization: Bearer new one')).status, 200)
})

t.test('what cannot be a file of keys is refused, and with keys any address will do', async (t) => {
  const resolve = (host = '127.0.0.1') =>
    resolveOptions({ options: { proxyBaseUrl: 'http://127.0.0.1:9', keysFile, host } })
  const digits = digest('x')
  for (const [lines, why] of [
    [['name'], /no key in line 1: a line is a name, 64 hex digits/],
    [['# a', `name ${digits.slice(1)}`], /no key in line 2/],
    [[`name ${digits} sessions=`], /no key in line 1/],
    [[`name ${digits} scope=a`], /no key in line 1/],
    [['# nothing'], /has no key in it/],
    [
      Array.from({ length: CLIENT_KEYS_MAX + 1 }, (_, n) => `k${n} ${digits}`),
      /10001 keys, and 10000 is the most/,
    ],
  ] as [string[], RegExp][]) {
    write(...lines)
    t.throws(resolve, { code: 'bad_option', message: why })
  }
  write(TRAINER)
  t.equal(resolve('0.0.0.0').host, '0.0.0.0')
  t.throws(() => resolveOptions({ options: { keysFile: '/no/such' } }), {
    message: /cannot be read/,
  })
})
