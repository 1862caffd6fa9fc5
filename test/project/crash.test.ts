/**
 * The trace survives: what a client saw finish is there after `kill -9`, for any reader at once and
 * whole after the next start.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import t from 'tap'

import { startInferenceServer } from '../../src/inference/server.ts'
import { readRecords } from '../../src/rolltape.ts'
import { gather, MAIN, rolltape } from '../cli/harness.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'

t.test('O24 O25: after kill -9 nothing that a client saw finish is missing', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
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
  const child = spawn(process.execPath, [MAIN, 'serve', ...flags], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const url = line.split(' ')[3]!
  const ask = (session: string, scenario: object) =>
    fetch(`${url}/sessions/${session}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({
        model: 'demo',
        stream: true,
        messages: [{ role: 'user', content: 'Hi' }],
        scenario,
      }),
    })

  const open = await ask('open', { stall_after: 3 })
  const broken = t.rejects(open.text())
  // Nobody waits for what stands before an answer to be written: it may take a moment more.
  for (let exchanges = 0; exchanges < 1;) {
    const { stdout } = await rolltape(['verify', file, '--json'])
    ;({ exchanges } = JSON.parse(stdout) as { exchanges: number })
  }
  const whole = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => (await ask(`s${index}`, {})).text()),
  )
  child.kill('SIGKILL')
  await Promise.all([once(child, 'exit'), broken])
  t.ok(whole.every((body) => body.endsWith('data: [DONE]\n\n')))

  // Any number of lines may be there already, each whole or torn and left out.
  for (const record of await gather(readRecords(file))) t.equal(record.outcome, 'complete')
  const recorder = await startRecorder(t, upstream.url, { recordingFile: file })
  t.match(recorder.rolltape.recovery, { isNew: false })
  const records = await recorder.finish()
  t.strictSame(
    records.map(({ session, outcome }) => `${session} ${outcome}`).sort(),
    ['open incomplete', ...whole.map((_, index) => `s${index} complete`)].sort(),
  )
  t.equal(new Set(records.map(({ seq }) => seq)).size, 21)
})
