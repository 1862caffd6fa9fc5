/** How upstreams that are responders are given, and who may serve them. */
import { once } from 'node:events'
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { Pool } from 'undici'
import { unixConnector } from '../../src/lane/unix-connector.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { resolveOptions } from '../../src/options.ts'
import { ControlClient } from '../support/control-client.ts'
import { startControlled } from '../support/control.ts'
import { makeFolder } from '../support/recorder.ts'
import { TestResponder } from '../support/responder.ts'

const OFF = /queue default is served over the control API, and that is off/

t.test('R39: base URLs of responders, and what is none', async (t) => {
  const of = (proxyBaseUrl: string) => resolveOptions({ options: { proxyBaseUrl } }).proxyBaseUrl
  for (const base of ['responder:', 'responder:judge', 'responder:a.b-c_1']) {
    t.strictSame(of(base), [base])
  }
  for (const base of [
    'responder',
    'responder://a',
    'responder:-a',
    'responder:a b',
    'responder:/',
  ]) {
    t.throws(() => of(base), { code: 'bad_option' }, base)
  }
  const options = { proxyBaseUrl: 'responder:', control: 'off' }
  t.throws(() => resolveOptions({ options }), { code: 'bad_option', message: OFF })
  await t.rejects(startRolltape({ proxyBaseUrl: 'responder:', port: 0 }), { message: OFF })
  t.match(resolveOptions({ options: { proxyBaseUrl: 'responder:', onNoResponder: 504 } }), {
    onNoResponder: 504,
  })
  t.throws(() => resolveOptions({ flags: { proxyBaseUrl: 'responder:', onNoResponder: '500' } }), {
    message: /'500' is not 503 or 504/,
  })
})

t.test('the socket is in a folder of its owner alone, which goes with rolltape', async (t) => {
  // Of its own, as others that run meanwhile make and remove theirs in the common one.
  const { TMPDIR: before } = process.env
  t.teardown(() => {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
  })
  const own = makeFolder(t)
  process.env['TMPDIR'] = own
  const { rolltape } = await startControlled(t, { proxyBaseUrl: 'responder:' })
  const [name = '', ...more] = readdirSync(own)
  t.strictSame(more, [])
  t.match(name, /^rolltape-/)
  t.ok(existsSync(join(own, name, 'r.sock')))
  t.equal(statSync(join(own, name)).mode & 0o777, 0o700)
  await rolltape.close()
  t.strictSame(readdirSync(own), [])
})

t.test('a token holds for responders too', async (t) => {
  const controlTokenFile = join(makeFolder(t), 'token')
  writeFileSync(controlTokenFile, 'secret')
  const { address } = await startControlled(t, { proxyBaseUrl: 'responder:', controlTokenFile })
  const stranger = new TestResponder(t, address)
  stranger.greet()
  t.equal((await stranger.next('gone')).code, 16)
  await new TestResponder(t, address, 'secret').hello()
})

t.test('a reload makes a responder the upstream', async (t) => {
  const configFile = join(makeFolder(t), 'a.yaml')
  writeFileSync(configFile, 'proxy_base_url: http://127.0.0.1:9')
  const { url, address } = await startControlled(t, { configFile })
  writeFileSync(configFile, 'proxy_base_url: "responder:"')
  await new ControlClient(t, address).call('ReloadConfig')
  const responder = await new TestResponder(t, address).hello()
  const asking = fetch(`${url}/v1/models?key=sk-1`)
  const { id, method, path } = await responder.given()
  t.strictSame([method, path], ['GET', '/v1/models?key=[redacted]'])
  responder.answer(id, '[]')
  t.strictSame(await (await asking).json(), [])
})

t.test('where a unix socket has no room for a connection, it is tried again', async (t) => {
  const path = join(makeFolder(t), 's')
  // Room for one that waits, in a thread that takes none until it is told.
  const script = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { createServer } = require('node:http')
    const server = createServer((req, res) => res.end('ok'))
    server.listen({ path: workerData, backlog: 1 }, () => {
      parentPort.postMessage('listening')
      const gate = new Int32Array(new SharedArrayBuffer(4))
      Atomics.wait(gate, 0, 0, 300)
    })`
  const worker = new Worker(script, { eval: true, workerData: path })
  t.teardown(() => worker.terminate())
  await once(worker, 'message')
  const pool = new Pool('http://a', { connect: unixConnector(path, 60_000) })
  t.teardown(() => pool.destroy())
  const asks = Array.from({ length: 20 }, () => pool.request({ path: '/', method: 'GET' }))
  const answers = await Promise.all(asks.map(async (ask) => (await ask).body.text()))
  t.strictSame(new Set(answers), new Set(['ok']))
  const gone = new Pool('http://a', { connect: unixConnector(`${path}-none`, 5_000) })
  t.teardown(() => gone.destroy())
  await t.rejects(gone.request({ path: '/', method: 'GET' }), { code: 'ENOENT' })
})
