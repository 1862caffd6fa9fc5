/** A lane dies while a call waits for it: its successor answers, and is as the call asked. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BroadcastChannel } from 'node:worker_threads'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { ControlClient, numberOf, read, textOf } from '../support/control-client.ts'
import type { Fields } from '../support/control-client.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'
import { startSteered } from '../support/steered.ts'

const ENTRY = new URL('../support/mortal-lane.ts', import.meta.url)
const CONNECTIONS = 24

/** Which lanes answer, by a status. */
function responsive(status: Fields): boolean[] {
  return (status.get(9) ?? []).map((lane) => numberOf(read(lane as Buffer), 5) === 1)
}

t.test(
  'a flush, a switch, a reload and a policy version outlive the lane that they ask',
  async (t) => {
    const upstream = await startInferenceServer()
    t.teardown(() => upstream.close())
    const recordingFile = join(makeFolder(t), 'a.jsonl')
    const configFile = join(makeFolder(t), 'rolltape.yaml')
    writeFileSync(configFile, 'ttfb_timeout: 50s\n')
    const options = { proxyBaseUrl: upstream.url, recordingFile, configFile, lanes: 2 }
    const { url, address, supervisor } = await startSteered(t, options, { entry: ENTRY })
    const client = new ControlClient(t, address)
    for (let i = 0; i < 10; i++) await rawRequest(url, post(CHAT, bodyOf('before')))
    // One that does not say in time how it is counts as silent, and may be only slow.
    const bothRespond = async (): Promise<void> => {
      while (responsive(await client.call('GetStatus')).join() !== 'true,true') continue
    }
    await bothRespond()

    const channel = new BroadcastChannel('mortal-lane')
    t.teardown(() => channel.close())
    const hangs = new Promise((resolve) => (channel.onmessage = resolve))
    channel.postMessage('hang 1')
    await hangs
    while (responsive(await client.call('GetStatus'))[1] === true) continue
    writeFileSync(configFile, 'ttfb_timeout: 40s\n')
    const recordsNow = async (): Promise<number> => (await recordsOf(recordingFile)).length
    const [flushed, switched, stamped, reloaded] = await Promise.all([
      client.call('FlushRecording').then(recordsNow),
      client.call('SetMode', { 1: 1 }),
      client.call('SetPolicyVersion', { 1: 'step-2' }),
      client.call('ReloadConfig'),
    ])
    t.equal(flushed, 10, 'what had ended before has its record')
    t.strictSame(
      [1, 2, 3].map((field) => numberOf(switched, field)),
      [2, 1, 2],
    )
    t.ok(stamped.has(1))
    t.equal(textOf(reloaded, 1), 'ttfb_timeout')
    await bothRespond()
    t.pass('a successor serves')
    // The kernel hashes connections over both lanes; none records any more.
    const asks = Array.from({ length: CONNECTIONS }, async () => {
      const connection = await RawClient.open(url)
      connection.send(post(CHAT, bodyOf('after')))
      const { status } = await connection.answer()
      connection.close()
      return status
    })
    t.strictSame(new Set(await Promise.all(asks)), new Set([200]))
    const shares = [0, 1].map((lane) => supervisor.laneCounters(lane).get('exchanges'))
    t.ok(
      shares.every((count) => count > 0),
      `both lanes served: ${shares.join(', ')}`,
    )
    t.match(await supervisor.close(), { records: 10, trouble: null })
    t.equal((await recordsOf(recordingFile)).length, 10)
  },
)
