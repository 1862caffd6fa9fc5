/**
 * The real program on a disk that is full, made of a limit on the size of files: clients, exit code
 * and what is said, by policy.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'

import t, { type Test } from 'tap'

import { startInferenceServer } from '../../src/inference/server.ts'
import { MAIN } from '../cli/harness.ts'
import { makeFolder } from '../support/recorder.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

/** Starts `serve` with room for 8 KiB in each file; `end` stops it and gives exit code and log. */
async function serve(t: Test, policy: 'refuse' | 'passthrough') {
  const file = join(makeFolder(t), 'a.jsonl')
  const flags = [
    '--port',
    '0',
    '--control',
    'off',
    '--proxy-base-url',
    upstream.url,
    '--recording-file',
    file,
  ]
  // The test runner's hooks would write files of their own.
  const script = 'ulimit -f 8; unset NODE_OPTIONS; exec "$@"'
  const argv = [process.execPath, MAIN, 'serve', ...flags, '--on-tape-failure', policy]
  const child = spawn('bash', ['-c', script, 'bash', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const log = text(child.stderr)
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return {
    url: line.split(' ')[3]!,
    async end() {
      child.kill('SIGTERM')
      const [code] = (await exited) as [number]
      return { code, log: await log }
    },
  }
}

/** Asks for an answer of about 14 KiB. */
function ask(url: string): Promise<Response> {
  const messages = [{ role: 'user', content: 'Hi' }]
  const body = { model: 'demo', stream: true, messages, scenario: { words: 60 } }
  return fetch(`${url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(body) })
}

t.test('refuse: the answer is cut, the next request gets 503, serve ends with 1', async (t) => {
  const { url, end } = await serve(t, 'refuse')
  await t.rejects((await ask(url)).text(), 'an answer that is not on tape never ends cleanly')
  const asked = upstream.requests.length
  const response = await ask(url)
  t.equal(response.status, 503)
  t.match(await response.json(), { error: { code: 'tape_unavailable', message: /short write/ } })
  t.equal(upstream.requests.length, asked, 'the upstream was not asked')
  const { code, log } = await end()
  t.equal(code, 1)
  t.match(log, /\nrolltape: the tape could not be written to its end: \d+ bytes .*\n$/)
})

t.test('passthrough: clients see nothing of it, serve ends with 1 all the same', async (t) => {
  const { url, end } = await serve(t, 'passthrough')
  for (let index = 0; index < 3; index += 1) {
    t.match(await (await ask(url)).text(), /data: \[DONE\]\n\n$/)
  }
  const { code, log } = await end()
  t.equal(code, 1)
  t.match(log, /the tape cannot be written/)
})
