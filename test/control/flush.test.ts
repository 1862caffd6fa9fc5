/** FlushRecording is a barrier: what a client saw end before has its record in the file after. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import t from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { ControlClient } from '../support/control-client.ts'
import { startControlled } from '../support/control.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'

for (const durability of ['memory', 'written', 'synced'] as const) {
  t.test(`with durability ${durability}, under load`, async (t) => {
    const upstream = await startInferenceServer()
    t.teardown(() => upstream.close())
    const recordingFile = join(makeFolder(t), 'a.jsonl')
    const options = { proxyBaseUrl: upstream.url, recordingFile, durability }
    const { address, url } = await startControlled(t, options)
    const client = new ControlClient(t, address)
    const missing: string[] = []
    const rollout = async (id: string): Promise<void> => {
      for (let turn = 1; turn <= 5; turn++) {
        const body = { model: 'demo', stream: true, messages: [{ role: 'user', content: id }] }
        await rawRequest(url, post(`/sessions/${id}${CHAT}`, JSON.stringify(body)))
        await client.call('FlushRecording')
        const own = readFileSync(recordingFile, 'utf8').split(`"session":"${id}"`).length - 1
        if (own < turn) missing.push(`${id} turn ${turn}`)
      }
    }
    await Promise.all(Array.from({ length: 20 }, (_, i) => rollout(`r${i}-`)))
    t.strictSame(missing, [])
  })
}

t.test('running exchanges are not waited for, and a deadline is kept', async (t) => {
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('part')),
  )
  t.teardown(() => upstream.close())
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { address, url } = await startControlled(t, {
    proxyBaseUrl: upstream.url,
    recordingFile,
    drainTimeout: 0,
  })
  const open = await RawClient.open(url)
  open.send(post(CHAT, '{}'))
  await open.until((bytes) => bytes.includes('part'))
  const client = new ControlClient(t, address)
  await client.call('FlushRecording')
  t.equal(readFileSync(recordingFile, 'utf8'), '')
  await t.rejects(client.call('FlushRecording', {}, 0), { code: status.DEADLINE_EXCEEDED })
  open.close()
})
