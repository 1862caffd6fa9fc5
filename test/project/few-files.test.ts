/**
 * The real program with fewer descriptors than clients: those that find none are turned away, the
 * others have their answers, and all is as before once there is room.
 */
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { rolltape } from '../cli/harness.ts'
import { serveLimited } from '../support/limited.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'

const CLIENTS = 400
const DESCRIPTORS = 200

t.test('clients beyond the descriptors there are cost the others nothing', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const flags = ['--recording-file', file, '--proxy-base-url', upstream.url]
  const { url, pid, end } = await serveLimited(t, `-n ${DESCRIPTORS}`, flags)
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
  for (let i = 0; i < CLIENTS; i++) {
    const socket = connect(Number(port), '127.0.0.1')
    socket.on('error', () => undefined)
    socket.on('close', () => turnedAway++)
    socket.resume()
    idle.push(socket)
  }
  // Those that find no descriptor are closed, or wait in the kernel, as libuv has one to spare or not.
  const open = (): number => readdirSync(`/proc/${pid}/fd`).length
  while (turnedAway === 0 && open() < DESCRIPTORS - 1) {
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  // Whatever this one comes to, it is no crash.
  const meanwhile = ask().catch(() => 0)

  const closed = idle.filter(({ closed }) => !closed).map((socket) => once(socket, 'close'))
  for (const socket of idle) socket.destroy()
  await Promise.all([meanwhile, ...closed])
  let status = 0
  while (status !== 200) status = await ask().catch(() => 0)
  const { code, log } = await end()
  t.equal(code, 0, log)
  const outcomes = (await recordsOf(file)).map(({ outcome }) => outcome)
  t.equal(outcomes.at(0), 'complete')
  t.equal(outcomes.at(-1), 'complete')
  t.match(await rolltape(['verify', file]), { code: 0 })
})
