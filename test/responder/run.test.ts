/** `rolltape run` with a responder as its model: when the command ends, its sessions end. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { makeFolder } from '../support/recorder.ts'
import { untilFolder } from '../support/segments.ts'
import { TestResponder } from '../support/responder.ts'

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname

/** Asks once in the background, and leaves: what asks goes on for a minute. */
const AGENT =
  'curl -s -m 60 -d "{}" "$OPENAI_BASE_URL/chat/completions" > /dev/null & read line; exit 3'

t.test('R42: the end of the command ends its sessions, whoever still waits', async (t) => {
  const folder = makeFolder(t)
  const socket = join(folder, 'c.sock')
  const control = `unix:${socket}`
  const flags = ['--proxy-base-url', 'responder:', '--control', control]
  const child = spawn(process.execPath, [MAIN, 'run', ...flags, '--', 'sh', '-c', AGENT], {
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['pipe', 'ignore', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  await untilFolder(folder, (names) => names.includes('c.sock'))
  const responder = await new TestResponder(t, control).hello()
  const { id, session } = await responder.given()
  const exited = once(child, 'exit')
  child.stdin.end('over\n')
  t.equal((await responder.next('cancelled')).id, id)
  t.strictSame(await responder.next('ended'), { kind: 'ended', session, why: 3 })
  t.strictSame((await exited)[0], 3, 'at once, with the exit code of the command')
})

t.test('without the control API a responder cannot come in, and that is said', async (t) => {
  const child = spawn(
    process.execPath,
    [MAIN, 'run', '--proxy-base-url', 'responder:', '--', 'true'],
    {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  let stderr = ''
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  await once(child, 'close')
  t.match(stderr, /queue default is served over the control API, and that is off.*--control/s)
})
