/**
 * The real program as a process: ready line, signals, exit codes, and `--detach` with a proxy that
 * takes traffic.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

import t, { type Test } from 'tap'

import { isAlive } from '../../src/cli/state.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { readRecords } from '../../src/trajectory/jsonl.ts'
import { gather, MAIN, rolltape } from './harness.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const MESSAGES = [{ role: 'user', content: 'Hi' }]

function ask(url: string, scenario: object) {
  return fetch(`${url}/sessions/s1/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ model: 'demo', stream: true, messages: MESSAGES, scenario }),
  })
}

/** Starts `serve` and waits for its ready line. */
async function serve(t: Test, ...flags: string[]) {
  const own = ['--port', '0', '--control', 'off', '--proxy-base-url', upstream.url]
  const argv = [MAIN, 'serve', ...own, ...flags]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  const lines: string[] = []
  const reader = createInterface({ input: child.stdout })
  reader.on('line', (line) => lines.push(line))
  await once(reader, 'line')
  return { child, lines, exited, url: lines[0]!.split(' ')[3]! }
}

t.test('serve prints one line when ready, and a signal ends it with 0', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { child, lines, exited, url } = await serve(t, '--log-level', 'warn')
    t.match(url, /^http:\/\/127\.0\.0\.1:\d+$/)
    t.equal((await fetch(`${url}/readyz`)).status, 200)
    t.match(await (await ask(url, {})).text(), /\[DONE\]/)
    child.kill(signal)
    t.strictSame(await exited, [0, null], signal)
    t.strictSame(lines, [`rolltape listening on ${url} mode passthrough`])
  }
})

t.test('a signal lets running exchanges finish, a second one does not wait for them', async (t) => {
  const { child, exited, url } = await serve(t, '--log-level', 'silent')
  const response = await ask(url, { stall_after: 1 })
  const broken = t.rejects(response.text())
  child.kill('SIGTERM')
  child.kill('SIGINT')
  const [code] = (await exited) as [number]
  t.ok([130, 143].includes(code), `exit code ${code}`)
  await broken
})

t.test('R35: a detached proxy, configured by YAML, records until it is stopped', async (t) => {
  const folder = t.testdir({
    'a.yaml': `port: 0\ncontrol: 127.0.0.1:0\nproxy_base_url: ${upstream.url}\nlog_level: warn\n`,
  })
  const env = { XDG_RUNTIME_DIR: folder }
  const recording = `${folder}/runs/a.jsonl`
  const flags = ['--config-file', `${folder}/a.yaml`, '--recording-file', recording]
  const started = await rolltape(['serve', '--detach', ...flags], { env })
  t.equal(started.code, 0, started.stderr)
  const status = JSON.parse((await rolltape(['status', '--json'], { env })).stdout) as {
    url: string
    control: string
    recording_file: string
    pid: number
    process_start: string
  }
  t.teardown(() => isAlive(status) && process.kill(status.pid, 'SIGKILL'))
  t.equal(status.recording_file, recording)
  t.match(status.control, /^127\.0\.0\.1:[1-9]\d+$/)
  t.match(await (await ask(status.url, {})).text(), /\[DONE\]/)
  t.equal((await rolltape(['stop'], { env })).code, 0)
  const records = await gather(readRecords(recording))
  t.match(records, [{ session: 's1', turn: 1, outcome: 'complete' }])
  t.equal((await rolltape(['status'], { env })).code, 1)
})

t.test('a port that is taken is told in one line with exit code 1', async (t) => {
  const { code, stdout, stderr } = await rolltape([
    'serve',
    '--control',
    'off',
    '--proxy-base-url',
    upstream.url,
    '--port',
    String(upstream.port),
    '--log-level',
    'silent',
  ])
  t.equal(code, 1)
  t.equal(stdout, '')
  t.match(stderr, new RegExp(`^rolltape: .*${upstream.port}.*\n$`))
})
