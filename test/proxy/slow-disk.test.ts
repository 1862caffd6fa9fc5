// A disk that hangs or falls behind: told, acted on by policy, and over when it is over.
import t from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { HeldDisk, startLane } from '../support/lane.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { recordsOf } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'

/** Its answers come in one write: a head that came by itself would go on by itself. */
async function upstreamOf(t: Parameters<typeof startLane>[0], bytes: number) {
  const head = responseHead(200, 'OK', [['Content-Length', `${bytes}`]])
  const answer = Buffer.concat([head, Buffer.alloc(bytes, 'b')])
  const upstream = await startScriptedUpstream((x) => x.send(answer))
  t.teardown(() => upstream.close())
  return upstream
}

t.test('a write that hangs counts as failing: new exchanges get 503 at once', async (t) => {
  const upstream = await upstreamOf(t, 5)
  const held = new HeldDisk()
  // Longer than a thread stands still now and then: once the disk works no write may take so long.
  const lane = await startLane(t, upstream.url, held, { commitTimeout: '3s' })
  held.hold()
  const client = await RawClient.open(lane.url)
  client.send(post(CHAT, '{}'))
  await client.closed
  t.equal(client.bytes.length, 0, 'what could not be committed was cut')
  const refused = await fetch(lane.url + CHAT, { method: 'POST', body: '{}' })
  t.equal(refused.status, 503)
  await refused.text()
  t.equal(upstream.exchanges.length, 1, 'the upstream was asked once')
  held.release()
  await served(lane.url)
  await lane.finish()
  const [cut, whole] = await recordsOf(lane.file)
  t.match(cut, { status: 'failure', error: /tape_unavailable/ })
  t.not(cut?.outcome, 'complete', 'its client never had it')
  t.match(whole, { outcome: 'complete' })
})

t.test('passthrough: a disk that fails stops nobody, however much waits for it', async (t) => {
  const upstream = await upstreamOf(t, 4 << 20)
  const held = new HeldDisk()
  held.failing = 'ENOSPC'
  const lane = await startLane(t, upstream.url, held, { onTapeFailure: 'passthrough' })
  for (let i = 0; i < 30; i++) {
    const response = await fetch(lane.url + CHAT, { method: 'POST', body: '{}' })
    t.equal((await response.arrayBuffer()).byteLength, 4 << 20, `answer ${i}`)
  }
  t.ok(lane.lane.counters.get('untaped') > 0, 'what the tape lacks is counted')
  held.failing = undefined
  await lane.finish()
})

t.test('a slow reader has all of its answer when rolltape drains', async (t) => {
  const bytes = 6 << 20
  const upstream = await upstreamOf(t, bytes)
  const lane = await startLane(t, upstream.url, new HeldDisk())
  const client = await RawClient.open(lane.url)
  client.socket.pause()
  client.send(post(CHAT, '{}'))
  await upstream.exchange(0)
  const finished = lane.finish()
  client.socket.resume()
  const answer = await client.answer()
  t.strictSame([answer.whole, answer.body.length], [true, bytes])
  client.close()
  await finished
  t.equal((await recordsOf(lane.file))[0]?.outcome, 'complete')
})

/** Asks until it is served again. */
async function served(url: string): Promise<void> {
  for (;;) {
    const response = await fetch(url + CHAT, { method: 'POST', body: '{}' })
    await response.text()
    if (response.status === 200) return
  }
}
