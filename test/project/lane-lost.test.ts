/** The real program, when it cannot serve any more: it says so and ends, instead of living on. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'

import t from 'tap'

import { MAIN } from '../cli/harness.ts'
import { makeFolder } from '../support/recorder.ts'
import { squat } from '../support/squat.ts'

const KILLER = new URL('../support/lane-killer.ts', import.meta.url).href

t.test('serve whose lane died and whose port is taken ends with 1 and says why', async (t) => {
  const folder = makeFolder(t)
  const gate = join(folder, 'gate')
  const flags = ['--proxy-base-url', 'http://127.0.0.1:9', '--port', '0', '--control', 'off']
  const argv = ['--import', KILLER, MAIN, 'serve', ...flags]
  const child = spawn(
    process.execPath,
    [...argv, '--recording-file', join(folder, 'a.jsonl'), '--log-level', 'silent'],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LANE_GATE: gate } },
  )
  t.teardown(() => child.kill('SIGKILL'))
  const log = text(child.stderr)
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const port = Number(new URL(line.split(' ')[3]!).port)
  const robbed = squat(t, port)
  child.kill('SIGUSR2')
  await robbed
  writeFileSync(gate, '')
  t.strictSame(await exited, [1, null])
  const said = await log
  t.match(said, /^rolltape: no lane serves, and for 30 s none could be started: .*EADDRINUSE.*\n$/)
  t.notMatch(said, /\n./, 'one line')
  t.notOk(existsSync(join(folder, 'a.tape', 'lock')))
})
