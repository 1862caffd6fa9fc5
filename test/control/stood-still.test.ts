/** The main thread itself stands still: that is no reason to take its lanes and appender for silent. */
import { join } from 'node:path'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { STATE_WAIT_MS_MAX } from '../../src/limits.ts'
import { Probe } from '../../src/supervisor/probe.ts'
import { makeFolder } from '../support/recorder.ts'
import { ask } from '../support/replayer.ts'
import { startSteered } from '../support/steered.ts'

/** Long enough for all others to answer meanwhile. */
const STILL_MS = 4 * STATE_WAIT_MS_MAX

/** Once what was asked is on its way. */
async function standStill(): Promise<void> {
  await new Promise(setImmediate)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STILL_MS)
}

t.test('what they have said meanwhile counts', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const options = { proxyBaseUrl: upstream.url, recordingFile, lanes: 2 }
  const { supervisor, url } = await startSteered(t, options)
  await ask(url, 'hi')
  while ((await supervisor.records())?.lines !== 1) continue
  const probe = new Probe(supervisor)
  const asked = probe.states()
  await standStill()
  const states = await asked
  t.ok(states.every((state) => state !== undefined))
  const told = probe.recording(states)
  await standStill()
  t.match(await told, { records: 1, writable: true })
})
