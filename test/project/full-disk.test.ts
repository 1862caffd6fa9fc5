/**
 * The real program on a disk that is full, made of a limit on the size of files: clients, exit code
 * and what is said, by policy.
 */
import { join } from 'node:path'

import t, { type Test } from 'tap'

import { startInferenceServer } from '../../src/inference/server.ts'
import { serveLimited } from '../support/limited.ts'
import { makeFolder } from '../support/recorder.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

/** With room for 8 KiB in each file. */
function serve(t: Test, policy: 'refuse' | 'passthrough') {
  const file = join(makeFolder(t), 'a.jsonl')
  const recorded = ['--proxy-base-url', upstream.url, '--recording-file', file]
  return serveLimited(t, '-f 8', [...recorded, '--on-tape-failure', policy])
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
