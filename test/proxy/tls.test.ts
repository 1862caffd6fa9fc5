/** Clients are served over TLS: the same bytes, cut answers seen as cut, a renewed certificate used. */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { get, request } from 'node:https'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import OpenAI from 'openai'
import t from 'tap'
import { isReady } from '../../src/cli/detach.ts'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { readCertificate, watchCertificate } from '../../src/lane/certificate.ts'
import type { Certificate } from '../../src/lane/certificate.ts'
import { openListener } from '../../src/lane/listener.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'

const skip = spawnSync('openssl', ['version']).status !== 0 && 'openssl is not here'
const folder = makeFolder(t)
const file = (name: string): string => join(folder, name)

function makeCertificate(name: string): void {
  const subject = ['-subj', '/CN=rolltape', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']
  const files = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)]
  const pair = ['-newkey', 'rsa:2048', '-nodes', '-days', '2']
  execFileSync('openssl', ['req', '-x509', ...pair, ...files, ...subject], { stdio: 'pipe' })
}

if (skip === false) for (const name of ['one', 'two']) makeCertificate(name)
const tls = { tlsCert: file('one.pem'), tlsKey: file('one.key') }

/** The files in use, which are now one and then another. */
const files = { cert: file('used.pem'), key: file('used.key'), lookMs: 10 }

function use(name: string): void {
  copyFileSync(file(`${name}.pem`), files.cert)
  copyFileSync(file(`${name}.key`), files.key)
}

interface Got {
  readonly status: number | undefined
  readonly body: string
  /** Undefined when it came to its end. */
  readonly failure: string | undefined
}

/** Asks over TLS, trusting the first certificate. */
function ask(url: string, body: object): Promise<Got> {
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', ca: readFileSync(file('one.pem')), agent: false }
    const asked = request(`${url}/v1/chat/completions`, options, (response) => {
      let text = ''
      const end = (failure?: string): void =>
        resolve({ status: response.statusCode, body: text, failure })
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.once('end', () => end())
      response.once('error', (error: NodeJS.ErrnoException) => end(error.code))
    })
    asked.once('error', reject)
    asked.end(JSON.stringify(body))
  })
}

t.test('the real SDK streams over TLS, and the exchange is recorded', { skip }, async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, tls)
  t.match(recorder.url, /^https:\/\/127\.0\.0\.1:\d+$/)
  // Whoever waits for its start sees it.
  while (!(await isReady(recorder.url)));
  const body = { model: 'demo', stream: true, messages: [{ role: 'user', content: 'Hi' }] }
  const { status, body: text, failure } = await ask(recorder.url, body)
  t.strictSame([status, failure, text.endsWith('data: [DONE]\n\n')], [200, undefined, true])
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
  t.teardown(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'])
  const client = new OpenAI({ baseURL: `${recorder.url}/v1`, apiKey: 'x', maxRetries: 0 })
  const stream = await client.chat.completions.create({
    model: 'demo',
    stream: true,
    messages: [{ role: 'user', content: 'Hi' }],
  })
  let content = ''
  for await (const chunk of stream) content += chunk.choices[0]?.delta.content ?? ''
  const records = await recorder.finish()
  t.match(records, [{ outcome: 'complete' }, { outcome: 'complete' }])
  t.ok(content.length > 0)
})

t.test(
  'an answer that broke off is none that ended, with and without a length',
  { skip },
  async (t) => {
    for (const headers of [[['Transfer-Encoding', 'chunked']], []] as [string, string][][]) {
      const upstream = await startScriptedUpstream(async (x) => {
        const part = headers.length > 0 ? chunkOf('half of it') : 'half of it'
        await x.send(responseHead(200, 'OK', headers), part)
        x.reset()
      })
      t.teardown(() => upstream.close())
      const recorder = await startRecorder(t, upstream.url, tls)
      const { status, failure } = await ask(recorder.url, {})
      t.strictSame([status, failure], [200, 'ECONNRESET'])
      t.match(await recorder.finish(), [{ partial: true }])
    }
  },
)

t.test('a renewed certificate is used, a broken one is not', { skip }, async (t) => {
  use('one')
  let isWarned = false
  const quiet = (): void => undefined
  const log = { debug: quiet, warn: () => void (isWarned = true), error: quiet }
  const listener = await openListener({
    host: '127.0.0.1',
    port: 0,
    reusePort: false,
    tls: files,
    log,
    headMsMax: 60_000,
    isReady: () => true,
    onRequest: (_, res) => res.end(),
  })
  t.teardown(() => listener.close())
  const shown = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const url = `https://127.0.0.1:${listener.port}/healthz`
      get(url, { rejectUnauthorized: false, agent: false }, (response) => {
        resolve((response.socket as TLSSocket).getPeerCertificate().serialNumber)
        response.resume()
      }).once('error', reject)
    })
  const first = await shown()
  writeFileSync(files.cert, 'none')
  while (!isWarned) await new Promise((resolve) => setTimeout(resolve, files.lookMs))
  t.equal(await shown(), first)
  use('two')
  let second = first
  while (second === first) second = await shown()
  t.match(second, /^[0-9A-F]+$/)
})

t.test('a certificate that changes before the first look is seen', { skip }, async (t) => {
  use('one')
  const log = { debug: () => undefined, warn: () => undefined, error: () => undefined }
  const found = Promise.withResolvers<Certificate>()
  const told: Certificate[] = []
  const unwatch = watchCertificate(files, readCertificate(files), log, (certificate) => {
    told.push(certificate)
    found.resolve(certificate)
  })
  t.teardown(unwatch)
  use('two')
  const alive = setInterval(() => undefined, 1_000)
  t.teardown(() => clearInterval(alive))
  t.strictSame((await found.promise).key, readFileSync(file('two.key')))
  t.equal(told.length, 1)
})

t.test('what cannot be a certificate is refused at the start', { skip }, async (t) => {
  const options = { port: 0, proxyBaseUrl: 'http://127.0.0.1:9', logLevel: 'silent' } as const
  const start = (more: object): Promise<unknown> => startRolltape({ ...options, ...more })
  await t.rejects(start({ tlsCert: file('one.pem') }), {
    code: 'bad_option',
    message: 'tls_cert is given without its other half',
  })
  for (const tlsKey of [file('two.key'), file('none.key'), file('one.pem')]) {
    await t.rejects(start({ tlsCert: file('one.pem'), tlsKey }), {
      code: 'bad_option',
      message: /^tls_cert .*one\.pem and tls_key .* cannot be used: /,
    })
  }
})
