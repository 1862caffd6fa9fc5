/**
 * `serve --detach`, `status` and `stop`: what they do with the process and its state file.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'

import t, { type Test } from 'tap'

import { isAlive, processStart, type State } from '../../src/cli/state.ts'
import { MAIN, rolltape } from './harness.ts'

const FAKE = new URL('fake-serve.ts', import.meta.url).pathname
const SERVE = [
  'serve',
  '--detach',
  '--proxy-base-url',
  'http://a',
  '--recording-file',
  '/r/a.jsonl',
]

/** Runs commands of one user, who has a runtime folder of their own; ends what they started. */
function user(t: Test, fake = '') {
  const started: State[] = []
  t.teardown(() => {
    for (const each of started) if (isAlive(each)) process.kill(each.pid, 'SIGKILL')
  })
  const folder = t.testdir()
  const file = `${folder}/rolltape/state.json`
  const env = { XDG_RUNTIME_DIR: folder, FAKE: fake }
  const state = (from = file) => JSON.parse(readFileSync(from, 'utf8')) as State
  const run = async (argv: string[], stopping?: AbortSignal) => {
    const self = [process.execPath, FAKE]
    const outcome = await rolltape(argv, { env, self, ...(stopping && { stopping }) })
    const given = argv.indexOf('--state-file')
    if (argv[0] === 'serve' && outcome.code === 0) {
      started.push(state(given < 0 ? file : argv[given + 1]))
    }
    return outcome
  }
  return { file, folder, run, state }
}

t.test('R35: detach waits for readiness, status finds it, stop ends it', async (t) => {
  const { file, run, state } = user(t)
  const started = await run(SERVE)
  const { pid, url, started_at, process_start, ...rest } = state()
  t.strictSame(started, {
    code: 0,
    stdout: `rolltape listening on ${url} control 127.0.0.1:50051 mode record\n`,
    stderr: `rolltape runs in the background: pid ${pid}, log ${rest.log_file}\n`,
  })
  t.strictSame(rest, {
    version: 1,
    control: '127.0.0.1:50051',
    control_token_file: null,
    mode: 'record',
    recording_file: '/r/a.jsonl',
    log_file: file.replace('.json', '.log'),
    drain_timeout_ms: 30_000,
  })
  t.equal(process_start, processStart(pid))
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.equal(statSync(rest.log_file).mode & 0o777, 0o600)

  t.strictSame(await run(['status']), {
    code: 0,
    stdout: `rolltape is running: pid ${pid}, ready at ${url}, control 127.0.0.1:50051, mode record, recording /r/a.jsonl, since ${started_at}\n`,
    stderr: '',
  })
  const json = JSON.parse((await run(['status', '--json'])).stdout) as object
  t.strictSame(json, { running: true, ready: true, ...state() })

  t.strictSame(await run(SERVE), {
    code: 1,
    stdout: '',
    stderr: `rolltape: already running: pid ${pid}, at ${url} (\`rolltape stop\` ends it; a second one needs its own --state-file)\n`,
  })

  const stopped = await run(['stop'])
  t.equal(stopped.code, 0)
  t.match(stopped.stdout, new RegExp(`^rolltape stopped: pid ${pid}, after \\d\\.\\d s\n$`))
  t.notOk(existsSync(file))
  t.notOk(isAlive({ pid, process_start }))
  t.strictSame(await run(['status']), { code: 1, stdout: 'rolltape is not running\n', stderr: '' })
  t.strictSame(await run(['stop']), {
    code: 1,
    stdout: '',
    stderr: `rolltape: not running (no live process in ${file})\n`,
  })
})

t.test('R35: a start that fails says why and leaves no state', async (t) => {
  const dies = user(t, 'dies')
  t.strictSame(await dies.run(SERVE), {
    code: 1,
    stdout: '',
    stderr: 'rolltape: did not start: it ended with code 7\nlisten EADDRINUSE\nsecond line\n',
  })
  t.notOk(existsSync(dies.file))
  const babbles = user(t, 'babbles')
  const { code, stderr } = await babbles.run(SERVE)
  t.equal(code, 1)
  t.match(stderr, 'rolltape: did not start: it said hello\n')
  t.notOk(existsSync(babbles.file))
})

t.test('R35: a state whose process is gone, or is another one, is cleaned', async (t) => {
  const { file, folder, run } = user(t)
  const own = { pid: process.pid, process_start: processStart(process.pid) }
  const stale: Record<string, object | string> = {
    gone: { pid: 2 ** 22 + 1, process_start: null },
    'pid now of another process': { ...own, process_start: 'other-boot 1' },
    'not JSON': '{"pid": 1',
    'no pid': {},
  }
  mkdirSync(`${folder}/rolltape`)
  for (const [name, state] of Object.entries(stale)) {
    writeFileSync(file, typeof state === 'string' ? state : JSON.stringify(state))
    utimesSync(file, 0, 0)
    t.equal((await run(['stop'])).code, 1, name)
    t.notOk(existsSync(file), name)
  }
  t.ok(isAlive(own))
  writeFileSync(file, JSON.stringify({ ...own, url: '' }))
  const held = await run(SERVE)
  t.equal(held.code, 1)
  t.match(held.stderr, `already running: pid ${process.pid}, starting`)
})

t.test('R35: stop that is interrupted says that the process goes on', async (t) => {
  const { run, state, file } = user(t, 'stubborn')
  t.equal((await run(SERVE)).code, 0)
  const { pid, log_file } = state()
  const { code, stderr } = await run(['stop'], AbortSignal.abort())
  t.equal(code, 1)
  const told = new RegExp(`^rolltape: pid ${pid} has not ended after \\d\\.\\d s; see (.*)\n$`)
  t.equal(told.exec(stderr)?.[1], log_file, stderr)
  t.ok(existsSync(file))
})

t.test('R35: --state-file keeps two apart, and two starts at once give one', async (t) => {
  const { run, folder } = user(t)
  const files = [`${folder}/one.json`, `${folder}/two.json`]
  const codes = await Promise.all(
    [files[0]!, files[0]!, files[1]!].map(
      async (file) => (await run([...SERVE, '--state-file', file])).code,
    ),
  )
  t.strictSame(codes.slice(0, 2).sort(), [0, 1])
  t.equal(codes[2], 0)
  for (const file of files) t.equal((await run(['status', '--state-file', file])).code, 0)
})

t.test('an old Node is told what is needed, before anything is loaded', async (t) => {
  const pretend = 'Object.defineProperty(process.versions,"node",{value:"20.19.0"})'
  const child = spawn(process.execPath, ['--import', `data:text/javascript,${pretend}`, MAIN])
  let stderr = ''
  child.stderr.on('data', (text) => {
    stderr += String(text)
  })
  const [code] = (await once(child, 'close')) as [number]
  t.strictSame([code, stderr], [1, 'rolltape needs Node 24 or newer, and this is Node 20.19.0\n'])
})
