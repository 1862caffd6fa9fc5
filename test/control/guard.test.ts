/** Who may reach the control API, and over what: tokens, certificates, sockets, addresses. */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, lstatSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { credentials, status } from '@grpc/grpc-js'
import t from 'tap'
import { resolveOptions } from '../../src/options.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { rolltape } from '../cli/harness.ts'
import { ControlClient, numberOf } from '../support/control-client.ts'
import { ask, bufCurl, refusal, startControlled, testWithBuf } from '../support/control.ts'
import { makeFolder } from '../support/recorder.ts'

const UPSTREAM = { proxyBaseUrl: 'http://127.0.0.1:9' }
const HEALTH = 'grpc.health.v1.Health/Check'

testWithBuf('without the token every call but health is UNAUTHENTICATED', async (t) => {
  const folder = t.testdir({ token: 'f3a9-token\n' })
  const { address } = await startControlled(t, { ...UPSTREAM, controlTokenFile: `${folder}/token` })
  for (const [name, given, message] of [
    ['none', {}, /needs a token, and brings none/],
    ['wrong', { token: 'f3a9-tokeN' }, /the token is not the one/],
    ['longer', { token: 'f3a9-token2' }, /the token is not the one/],
    ['empty', { token: '' }, /token/],
  ] as const) {
    const client = new ControlClient(t, address, given)
    const refused = { code: status.UNAUTHENTICATED, details: message }
    await t.rejects(client.call('GetStatus'), refused, name)
    await t.rejects(client.call('Shutdown'), refused, `${name}: Shutdown`)
    t.equal(numberOf(await client.call(HEALTH), 1), 1, `${name}: health is SERVING`)
    const stream = client.watch()
    const ended = new Promise((resolve) => stream.on('error', resolve))
    stream.resume()
    t.match(await ended, refused, `${name}: a stream`)
  }
  t.equal((await refusal(address, 'grpc.reflection.v1.ServerReflection/X'))[0] === '', false)
  const client = new ControlClient(t, address, { token: 'f3a9-token' })
  t.equal(numberOf(await client.call('GetStatus'), 5), 1, 'mode passthrough')
  const header = 'authorization: Bearer f3a9-token'
  t.match(await bufCurl(address, 'GetStatus', {}, '--header', header, '--reflect-header', '*'), {
    code: 0,
  })
})

t.test('a token that cannot be one is refused at the start', async (t) => {
  const folder = t.testdir({ empty: ' \n', two: 'a b' })
  for (const [file, message] of [
    ['missing', /cannot be read/],
    ['empty', /is empty/],
    ['two', /a header cannot carry/],
  ] as const) {
    const options = { ...UPSTREAM, port: 0, control: '127.0.0.1:0', logLevel: 'silent' } as const
    const started = startRolltape({ ...options, controlTokenFile: `${folder}/${file}` })
    await t.rejects(started, { code: 'bad_option', message }, file)
  }
})

t.test('what everybody could reach needs TLS or a token', async (t) => {
  const hint = /--control-token-file/
  for (const control of ['0.0.0.0:0', '[::]:50051', '192.0.2.7:50051', 'gpu-box:50051']) {
    t.throws(() => resolveOptions({ options: { ...UPSTREAM, control } }), {
      code: 'bad_option',
      message: `control ${control} is not a loopback address, and everybody who reaches it could steer rolltape`,
      hint,
    })
    for (const enough of [{ controlTokenFile: 'a' }, { controlTlsCert: 'a', controlTlsKey: 'b' }]) {
      t.doesNotThrow(() => resolveOptions({ options: { ...UPSTREAM, control, ...enough } }))
    }
  }
  for (const control of ['127.0.0.1:0', '[::1]:1', 'localhost:1', 'unix:/run/a.sock', 'off']) {
    t.doesNotThrow(() => resolveOptions({ options: { ...UPSTREAM, control } }), control)
  }
  const control = '127.0.0.1:1'
  for (const half of [{ controlTlsCert: 'a' }, { controlTlsKey: 'a' }, { controlClientCa: 'a' }]) {
    const options = { ...UPSTREAM, control, ...half }
    t.throws(() => resolveOptions({ options }), { code: 'bad_option' }, JSON.stringify(half))
  }
  for (const control of ['127.0.0.1', ':1', '127.0.0.1:99999', 'unix:', 'a b:1', '::1:50051']) {
    t.throws(() => resolveOptions({ options: { ...UPSTREAM, control } }), { code: 'bad_option' })
  }
})

t.test('a port that is taken is told with what to do', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await new Promise((resolve) => taken.once('listening', resolve))
  const { port } = taken.address() as { port: number }
  const control = `127.0.0.1:${port}`
  const started = startRolltape({ ...UPSTREAM, port: 0, control, logLevel: 'silent' })
  await t.rejects(started, {
    code: 'listen_failed',
    message: new RegExp(`^the control API cannot listen on ${control}: `),
    hint: /another --control, such as 127\.0\.0\.1:0 \(picks a port\) or off/,
  })
})

testWithBuf(
  'a unix socket is its owner’s alone, and takes only a place that is free',
  async (t) => {
    const folder = makeFolder(t)
    const path = join(folder, 'c.sock')
    const control = `unix:${path}`
    const first = await startControlled(t, { ...UPSTREAM, control })
    t.equal(first.address, control)
    t.equal(lstatSync(path).mode & 0o777, 0o600)
    t.match(await ask(control, 'GetStatus'), { state: 'STATE_SERVING' })

    const options = { ...UPSTREAM, port: 0, logLevel: 'silent' } as const
    const second = startRolltape({ ...options, control })
    await t.rejects(second, { code: 'listen_failed', message: /another process listens there/ })
    t.match(
      await ask(control, 'GetStatus'),
      { state: 'STATE_SERVING' },
      'the first one is untouched',
    )

    await first.rolltape.close()
    t.notOk(existsSync(path), 'it goes with its server')
    writeFileSync(path, 'precious')
    const third = startRolltape({ ...options, control })
    await t.rejects(third, { code: 'listen_failed', message: /a file that is no socket/ })
    t.equal(readFileSync(path, 'utf8'), 'precious')
  },
)

testWithBuf('a socket that a crash left behind is replaced', async (t) => {
  const folder = makeFolder(t)
  const path = join(folder, 'c.sock')
  const listen = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', listen], { env: {} })
  t.ok(statSync(path).isSocket(), 'it is still there')
  chmodSync(path, 0o666)
  const { address } = await startControlled(t, { ...UPSTREAM, control: `unix:${path}` })
  t.equal(lstatSync(path).mode & 0o777, 0o600)
  t.match(await ask(address, 'GetStatus'), { state: 'STATE_SERVING' })
})

const noOpenssl = spawnSync('openssl', ['version']).status !== 0 && 'openssl is not here'

t.test('over TLS, and with certificates on both sides', { skip: noOpenssl }, async (t) => {
  const folder = makeFolder(t)
  const openssl = (...args: string[]): void =>
    void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const pair = ['-newkey', 'rsa:2048', '-nodes', '-days', '2']
  openssl('req', '-x509', ...pair, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test ca')
  for (const name of ['server', 'client']) {
    openssl('req', ...pair, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
    writeFileSync(join(folder, 'san'), 'subjectAltName=IP:127.0.0.1,DNS:localhost')
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2']
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      ...signed,
      '-out',
      `${name}.pem`,
      '-extfile',
      'san',
    )
  }
  const file = (name: string): string => join(folder, name)
  const pem = (name: string): Buffer => readFileSync(file(name))
  const tls = { controlTlsCert: file('server.pem'), controlTlsKey: file('server.key') }

  const open = await startControlled(t, { ...UPSTREAM, ...tls })
  t.match(await bufCurl(open.address, 'GetStatus', {}, '--cacert', file('ca.pem')), { code: 0 })
  // A name, since TLS has none for an address of numbers.
  const named = (address: string): string => address.replace('127.0.0.1', 'localhost')
  const plain = new ControlClient(t, open.address)
  await t.rejects(plain.call('GetStatus'), { code: status.UNAVAILABLE }, 'not in clear')
  const stranger = new ControlClient(t, named(open.address), { tls: credentials.createSsl() })
  await t.rejects(stranger.call('GetStatus'), { code: status.UNAVAILABLE }, 'not by any authority')

  const mutual = await startControlled(t, { ...UPSTREAM, ...tls, controlClientCa: file('ca.pem') })
  const without = new ControlClient(t, named(mutual.address), {
    tls: credentials.createSsl(pem('ca.pem')),
  })
  await t.rejects(without.call('GetStatus'), { code: status.UNAVAILABLE })
  const own = credentials.createSsl(pem('ca.pem'), pem('client.key'), pem('client.pem'))
  const known = new ControlClient(t, named(mutual.address), { tls: own })
  t.equal(numberOf(await known.call('GetStatus'), 5), 1)
  const ctl = ['ctl', 'status', '--control', mutual.address, '--tls-ca', file('ca.pem')]
  const client = ['--tls-cert', file('client.pem'), '--tls-key', file('client.key')]
  t.match(await rolltape([...ctl, ...client]), { code: 0, stdout: /^rolltape / })
  t.match(await rolltape(ctl), { code: 3, stderr: /^rolltape: nobody answers at / })

  for (const broken of [{ controlTlsKey: file('client.key') }, { controlTlsCert: file('san') }]) {
    const options = { ...UPSTREAM, port: 0, control: '127.0.0.1:0', logLevel: 'silent' } as const
    const started = startRolltape({ ...options, ...tls, ...broken })
    await t.rejects(started, /./, JSON.stringify(Object.keys(broken)))
  }
})
