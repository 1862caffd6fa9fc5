/**
 * The real program with fewer descriptors than clients: those that find none are turned away, the
 * others have their answers, and all is as before once there is room.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { MAIN, rolltape } from '../cli/harness.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'

const CLIENTS = 400
const DESCRIPTORS = 200

t.test('clients beyond the descriptors there are cost the others nothing', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const script = `ulimit -n ${DESCRIPTORS}; unset NODE_OPTIONS; exec "$@"`
  const flags = ['--port', '0', '--control', 'off', '--recording-file', file]
  const argv = [process.execPath, MAIN, 'serve', ...flags, '--proxy-base-url', upstream.url]
  const child = spawn('bash', ['-c', script, 'bash', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const log = text(child.stderr)
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const url = line.split(' ')[3]!
  const { port } = new URL(url)

  const ask = async (): Promise<number> => {
    const messages = [{ role: 'user', content: 'Hi' }]
    const init = { method: 'POST', body: JSON.stringify({ model: 'm', messages }) }
    const response = await fetch(`${url}/v1/chat/completions`, init)
    await response.text()
    return response.status
  }
  t.equal(await ask(), 200)

  const idle: Socket[] = []
  let turnedAway = 0
  const away = Promise.withResolvers<void>()
  for (let i = 0; i < CLIENTS; i++) {
    const socket = connect(Number(port), '127.0.0.1')
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (++turnedAway === CLIENTS - DESCRIPTORS) away.resolve()
    })
    socket.resume()
    idle.push(socket)
  }
  await away.promise
  // Whatever this one comes to, it is no crash.
  await ask().catch(() => 0)

  const closed = idle.filter(({ closed }) => !closed).map((socket) => once(socket, 'close'))
  for (const socket of idle) socket.destroy()
  await Promise.all(closed)
  let status = 0
  while (status !== 200) status = await ask().catch(() => 0)
  child.kill('SIGTERM')
  const [code] = (await exited) as [number]
  t.equal(code, 0, await log)
  const outcomes = (await recordsOf(file)).map(({ outcome }) => outcome)
  t.equal(outcomes.at(0), 'complete')
  t.equal(outcomes.at(-1), 'complete')
  t.match(await rolltape(['verify', file]), { code: 0 })
})
