// A reset that came while a connection was ending left its handle behind for good: now and then a
// test's process did not end, though all its tests had passed.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import t from 'tap'
import { reset } from '../../src/reset.ts'

async function pair(): Promise<[one: Socket, other: Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const other = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [one] = (await once(server, 'connection')) as [Socket]
  server.close()
  one.on('error', () => undefined)
  return [one, other]
}

t.test('an open connection is reset', async (t) => {
  const [one, other] = await pair()
  const failed = once(other, 'error')
  reset(one)
  t.match(await failed, [{ code: 'ECONNRESET' }])
})

t.test('one whose end is on its way closes', async (t) => {
  const [one, other] = await pair()
  other.resume()
  one.end('the last of it')
  const closed = once(one, 'close')
  reset(one)
  await closed
  t.ok(one.destroyed)
})
