// An upstream that takes no connections: its thread stands still and its accept queue is full, so
// the kernel answers no more SYNs.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import t from 'tap'
import { startRecorder } from '../support/recorder.ts'

/** It stands still in the turn in which it has begun to listen, before it can accept anybody. */
const SERVER = `
  const server = require('node:net').createServer()
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    require('node:fs').writeSync(1, server.address().port + '\\n')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })
`

t.test(
  'M44 M35: no connection within connect_timeout is 504 upstream_timeout_connect',
  async (t) => {
    const child = spawn(process.execPath, ['-e', SERVER], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => child.kill('SIGKILL'))
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const port = Number(line)
    const fillers: Socket[] = []
    t.teardown(() => fillers.forEach((socket) => socket.destroy()))
    for (let i = 0; i < 8; i++) {
      const socket = connect({ port, host: '127.0.0.1' })
      socket.on('error', () => undefined)
      fillers.push(socket)
    }
    await once(fillers[0]!, 'connect')
    const recorder = await startRecorder(t, `http://127.0.0.1:${port}`, { connectTimeout: '300ms' })
    const startMs = performance.now()
    const response = await fetch(`${recorder.url}/v1/chat/completions`, {
      method: 'POST',
      body: '{}',
    })
    t.equal(response.status, 504)
    t.match(await response.json(), { error: { code: 'upstream_timeout_connect' } })
    t.ok(performance.now() - startMs < 60_000, 'long before the total')
    const [record] = await recorder.finish()
    t.match(record, { outcome: 'timeout', http_status: 504, status: 'failure' })
  },
)
