/** `rolltape ctl`: what each verb prints for people and for scripts, and what its exit code says. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { startControlled } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { MAIN, rolltape } from '../cli/harness.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const CHAT = '/v1/chat/completions'
const BODY = '{"model":"demo","messages":[{"role":"user","content":"Hi"}]}'

t.test('status, config, upstreams and flush, for people and as JSON', async (t) => {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { address, url } = await startControlled(t, { proxyBaseUrl: upstream.url, recordingFile })
  await rawRequest(url, post(CHAT, BODY))
  const ctl = (...argv: string[]) => rolltape(['ctl', ...argv, '--control', address])
  const json = async (...argv: string[]): Promise<unknown> =>
    JSON.parse((await ctl(...argv, '--json')).stdout)

  t.match(await ctl('flush'), { code: 0, stdout: /\nrecords +1 since the start/, stderr: '' })
  t.match(await json('flush'), { recording: { records: 1, lagExchanges: 0, writable: true } })
  const { code, stdout } = await ctl('status')
  t.equal(code, 0)
  for (const line of [
    /^rolltape  +\d+\.\d+\.\d+, pid \d+, http:\/\/127/m,
    /^state +serving for /m,
    /^mode +record, generation 1$/m,
    /^lane 0 +0 in flight, loop \d+ % busy, /m,
    /^segments +0-000001\.tape$/m,
    /^counters +exchanges 1, egress 1$/m,
  ]) {
    t.match(stdout, line)
  }
  t.match(await json('status'), { mode: 'MODE_RECORD', counters: { exchanges: 1, refused: 0 } })
  t.match(await ctl('config'), { stdout: /^proxy_base_url +option +\["http/m })
  t.notMatch((await ctl('config')).stdout, /^heartbeat/m)
  t.match(await ctl('config', '--all'), { stdout: /^heartbeat +default +"0s"$/m })
  t.match(await ctl('upstreams'), { stdout: /^http:\/\/127\S+ +0 +1 +0 +-$/m })
  t.match(await json('upstreams'), { baseUrl: upstream.url, requests: 1 })
})

t.test('tail shows what begins and ends, until it is interrupted', async (t) => {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { address, url } = await startControlled(t, { proxyBaseUrl: upstream.url, recordingFile })
  const stopping = new AbortController()
  let shown = ''
  const outcome = await rolltape(['ctl', 'tail', '--json', '--control', address], {
    stopping: stopping.signal,
    onOutput: (line) => {
      shown += line
      if (line.includes('"started"')) void rawRequest(url, post(`/sessions/s7${CHAT}`, BODY))
      if (line.includes('"ended"')) stopping.abort()
    },
  })
  t.equal(outcome.code, 0)
  const events = shown
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object)
  t.match(events, [
    { started: { mode: 'MODE_RECORD' } },
    { began: { session: 's7', seq: 1 } },
    { ended: { session: 's7', seq: 1, outcome: 'OUTCOME_COMPLETE', record: { model: 'demo' } } },
  ])
})

t.test('explain reads a body from stdin; 0 when it is recorded, else 1', async (t) => {
  const recorder = await startRecorder(t, upstream.url)
  await rawRequest(recorder.url, post(CHAT, BODY))
  await recorder.finish()
  const { address } = await startControlled(t, { replayFile: recorder.file })
  const explain = async (body: string): Promise<[unknown, string]> => {
    const child = spawn(process.execPath, [MAIN, 'ctl', 'explain', '--control', address])
    child.stdin.end(body)
    const [out, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
    return [code, out]
  }
  t.match(await explain(BODY), [0, /^recorded as /])
  t.match(await explain(BODY.replace('Hi', 'Ho')), [1, /\/messages\/0\/content: recorded "Hi"/])
})

t.test('exit codes say the kind of failure', async (t) => {
  const folder = t.testdir({ right: 'tok-1', wrong: 'tok-2' })
  const { address } = await startControlled(t, {
    proxyBaseUrl: upstream.url,
    controlTokenFile: `${folder}/right`,
  })
  const right = ['--control', address, '--control-token-file', `${folder}/right`]
  const wrong = ['--control', address, '--control-token-file', `${folder}/wrong`]
  const cases: [string[], number, RegExp][] = [
    [['status', ...right], 0, /^$/],
    [['status', '--control', '127.0.0.1:9'], 3, /^rolltape: nobody answers at 127\.0\.0\.1:9: /],
    [['status', '--control', address], 4, /brings none.*\[UNAUTHENTICATED\]/],
    [['status', ...wrong], 4, /the token is not the one/],
    [['flush', ...right], 5, /nothing is recorded .*\[FAILED_PRECONDITION\]/],
    [['explain', '--help'], 0, /^$/],
    [['status', '--control', 'nonsense'], 2, /'nonsense' is no address/],
    [['status', '--timeout', 'soon', ...right], 2, /--timeout/],
    [
      ['shutdown', '--drain-timeout', 'soon', ...right],
      2,
      /--drain-timeout: 'soon' is not a duration/,
    ],
    [['tail', '--resume', 'x', ...right], 2, /resume_token .*\[INVALID_ARGUMENT\]/],
    [['stauts'], 2, /unknown command 'stauts', did you mean status\? \(`rolltape ctl --help`/],
    [['tail', '--faild'], 2, /did you mean --failed\? \(`rolltape ctl tail --help`/],
  ]
  for (const [argv, code, stderr] of cases) {
    t.match(await rolltape(['ctl', ...argv]), { code, stderr }, argv.join(' '))
  }
})

t.test('the address comes from the flag, the variable, or the state file', async (t) => {
  const { address } = await startControlled(t, { proxyBaseUrl: upstream.url })
  const folder = makeFolder(t)
  const stateFile = join(folder, 'state.json')
  const state = { pid: process.pid, process_start: null, url: '', control: address }
  writeFileSync(stateFile, JSON.stringify(state))
  t.match(await rolltape(['ctl', 'status', '--state-file', stateFile]), { code: 0 })
  const env = { ROLLTAPE_CONTROL: address, XDG_RUNTIME_DIR: folder }
  t.match(await rolltape(['ctl', 'status'], { env }), { code: 0 })
  const flag = ['ctl', 'status', '--control', '127.0.0.1:9']
  t.match(await rolltape(flag, { env }), { code: 3 }, 'the flag beats the variable')
})

t.test('completion offers what there is, at each place', async (t) => {
  const script = async (shell: string) => (await rolltape(['completion', shell])).stdout
  const bash = await script('bash')
  const offered = (line: string): string[] => {
    const words = line.split(' ')
    const ask = `${bash}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')})
COMP_CWORD=${words.length - 1}; _rolltape; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout, stderr } = spawnSync('bash', ['-c', ask], { encoding: 'utf8' })
    t.equal(stderr, '')
    return stdout.trim().split('\n')
  }
  t.ok(offered('rolltape ').includes('serve'))
  t.strictSame(offered('rolltape ct'), ['ctl'])
  t.strictSame(offered('rolltape ctl fl'), ['flush'])
  t.strictSame(offered('rolltape ctl tail --fa'), ['--failed'])
  t.strictSame(offered('rolltape serve --durability '), ['memory', 'written', 'synced'])
  t.strictSame(offered('rolltape serve --recording-file '), [''], 'a file, which bash completes')
  for (const shell of ['zsh', 'fish']) {
    const text = await script(shell)
    for (const word of ['ctl', 'tail', 'failed', 'durability', 'synced']) t.match(text, word, shell)
    if (spawnSync(shell, ['--version']).status !== 0) continue
    const { status, stderr } = spawnSync(shell, ['-n'], { input: text, encoding: 'utf8' })
    t.strictSame([status, stderr], [0, ''], `${shell} reads it`)
  }
  t.match(await rolltape(['completion', 'tcsh']), { code: 2, stderr: /'tcsh' is no shell/ })
})
