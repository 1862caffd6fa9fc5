/** A responder whose machine has gone without a word: its silence is noticed. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { CONTROL_PING_MS, CONTROL_PING_WAIT_MS } from '../../src/limits.ts'
import { startControlled } from '../support/control.ts'
import { TestResponder } from '../support/responder.ts'

t.setTimeout(60_000)

t.test('R41: its requests go to another responder within the bound', async (t) => {
  const { url, address } = await startControlled(t, { proxyBaseUrl: 'responder:' })
  let isSilent = false
  const between = createServer((near) => {
    const far = connect(Number(address.split(':')[1]), '127.0.0.1')
    near.on('data', (bytes: Buffer) => isSilent || far.write(bytes))
    far.on('data', (bytes: Buffer) => isSilent || near.write(bytes))
    for (const socket of [near, far]) socket.on('error', () => undefined)
    t.teardown(() => [near, far].forEach((socket) => socket.destroy()))
  })
  between.listen(0, '127.0.0.1')
  await once(between, 'listening')
  t.teardown(() => between.close())
  const lost = new TestResponder(t, `127.0.0.1:${(between.address() as AddressInfo).port}`)
  await lost.hello('', 1)
  const asking = fetch(`${url}/v1/completions`, { method: 'POST', body: '{}' })
  const { id } = await lost.given()
  isSilent = true
  const sinceMs = performance.now()
  const second = await new TestResponder(t, address).hello()
  t.match(await second.given(), { id, delivery: 2 })
  t.ok(performance.now() - sinceMs < CONTROL_PING_MS + CONTROL_PING_WAIT_MS + 2_000)
  second.answer(id, '{}')
  t.equal((await asking).status, 200)
})
