/**
 * Upstreams over TLS: trusted by the known authorities and those that --upstream-ca names, by their
 * host's name, and not at all otherwise, unless somebody says --upstream-insecure.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { MAIN } from '../cli/harness.ts'
import { bufCurl, testWithBuf } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'

const skip = spawnSync('openssl', ['version']).status !== 0 && 'openssl is not here'
const folder = makeFolder(t)
const file = (name: string): string => join(folder, name)
const ASK = post('/v1/chat/completions', '{"messages":[]}')

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe', cwd: folder })
}

/** An authority, and a certificate for 127.0.0.1 that it has signed. */
function makeAuthority(name: string): void {
  const pair = ['-newkey', 'rsa:2048', '-nodes', '-days', '2']
  const ca = ['-keyout', `${name}-ca.key`, '-out', `${name}-ca.pem`, '-subj', `/CN=${name} CA`]
  openssl('req', '-x509', ...pair, ...ca)
  openssl('req', ...pair, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
  writeFileSync(file('san'), 'subjectAltName=IP:127.0.0.1')
  const by = ['-CA', `${name}-ca.pem`, '-CAkey', `${name}-ca.key`, '-CAcreateserial']
  const out = ['-out', `${name}.pem`, '-days', '2', '-extfile', 'san']
  openssl('x509', '-req', '-in', `${name}.csr`, ...by, ...out)
}

if (skip === false) for (const name of ['ours', 'theirs']) makeAuthority(name)

/** An upstream with a certificate of the first authority; its port. */
async function startUpstream(t: Test): Promise<number> {
  const tls = { cert: readFileSync(file('ours.pem')), key: readFileSync(file('ours.key')) }
  const server = createServer(tls, (_, res) => {
    res.setHeader('content-type', 'application/json').end('{"choices":[]}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

t.test('an authority nobody knows is refused, with both ways out', { skip }, async (t) => {
  const upstream = `https://127.0.0.1:${await startUpstream(t)}`
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
  t.teardown(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'])
  const options = [{}, { upstreamCa: file('theirs-ca.pem') }, { maxAttempts: 3 }]
  for (const more of options) {
    const recorder = await startRecorder(t, upstream, more)
    const { status, body } = await rawRequest(recorder.url, ASK)
    t.equal(status, 502)
    t.match(JSON.parse(body.toString()), {
      error: {
        code: 'upstream_unreachable',
        message: /is not trusted: .*--upstream-ca.*--upstream-insecure/,
      },
    })
    const [record] = await recorder.finish()
    t.equal(record!.attempts.length, 1, 'and it is not tried again')
    t.match(record, { outcome: 'upstream_error', http_status: 502 })
  }
})

t.test('with the authority it works, connection after connection', { skip }, async (t) => {
  const upstream = `https://127.0.0.1:${await startUpstream(t)}`
  // Of several authorities in one file each counts.
  const both = ['theirs-ca.pem', 'ours-ca.pem'].map((name) => readFileSync(file(name), 'utf8'))
  writeFileSync(file('both.pem'), `some words\n${both.join('\n')}`)
  const recorder = await startRecorder(t, upstream, { upstreamCa: file('both.pem') })
  const answers = await Promise.all([1, 2, 3].map(() => rawRequest(recorder.url, ASK)))
  t.strictSame(
    answers.map(({ status }) => status),
    [200, 200, 200],
  )
  t.match(await recorder.finish(), [{ outcome: 'complete' }, {}, {}])
})

t.test('a certificate for another host is refused', { skip }, async (t) => {
  const upstream = `https://localhost:${await startUpstream(t)}`
  const recorder = await startRecorder(t, upstream, { upstreamCa: file('ours-ca.pem') })
  const { status, body } = await rawRequest(recorder.url, ASK)
  t.equal(status, 502)
  t.match(JSON.parse(body.toString()).error.message, /is not trusted: .*altnames.*proxy_base_url/s)
})

t.test('insecure takes any, and the log says so at each start', { skip }, async (t) => {
  const upstream = `https://localhost:${await startUpstream(t)}`
  const argv = ['serve', '--port', '0', '--control', 'off', '--proxy-base-url', upstream]
  for (const [flags, status] of [
    [['--upstream-insecure'], 200],
    [[], 502],
  ] as const) {
    const child = spawn(process.execPath, [MAIN, ...argv, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    const log = text(child.stderr)
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    t.equal((await rawRequest(line.split(' ')[3]!, ASK)).status, status)
    child.kill('SIGTERM')
    const said = [...(await log).matchAll(/certificates of upstreams are NOT verified/g)]
    t.equal(said.length, flags.length)
  }
})

testWithBuf('insecure is said at each reload too, and in the configuration', async (t) => {
  const yaml = file('insecure.yaml')
  writeFileSync(yaml, 'proxy_base_url: https://127.0.0.1:9\nupstream_insecure: true\nport: 0\n')
  const flags = ['--config-file', yaml, '--control', '127.0.0.1:0']
  const child = spawn(process.execPath, [MAIN, 'serve', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const log = text(child.stderr)
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const address = line.split(' ')[5]!
  const { messages } = await bufCurl(address, 'GetConfig')
  t.match(JSON.stringify(messages), /"upstream_insecure","value":true/)
  await bufCurl(address, 'ReloadConfig')
  child.kill('SIGTERM')
  t.equal([...(await log).matchAll(/NOT verified/g)].length, 2)
})

t.test('what cannot be an authority is refused at the start', { skip }, async (t) => {
  const start = (more: object): Promise<unknown> =>
    startRolltape({ proxyBaseUrl: 'https://127.0.0.1:9', port: 0, ...more })
  writeFileSync(file('broken.pem'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----')
  for (const name of ['none.pem', 'ours.key', 'broken.pem']) {
    await t.rejects(start({ upstreamCa: file(name) }), {
      code: 'bad_option',
      message: /^upstream_ca .* cannot be used: /,
    })
  }
  await t.rejects(start({ upstreamCa: file('ours-ca.pem'), upstreamInsecure: true }), {
    code: 'bad_option',
    message: /^upstream_insecure takes any certificate/,
  })
})

t.test('a redirect is passed, not followed', async (t) => {
  const asked: string[] = []
  const upstream = await startScriptedUpstream((exchange) => {
    asked.push(exchange.head.target)
    const to = `${upstream.url}/v1/elsewhere`
    exchange.send(
      responseHead(307, 'Temporary Redirect', [
        ['Location', to],
        ['Content-Length', '0'],
      ]),
    )
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  const { status, headers } = await rawRequest(recorder.url, ASK)
  t.equal(status, 307)
  t.match(Object.fromEntries(headers), { Location: `${upstream.url}/v1/elsewhere` })
  t.strictSame(asked, ['/v1/chat/completions'])
  t.match(await recorder.finish(), [{ http_status: 307 }])
})
