/** A lane is given another configuration while its disk fails: it goes by it from then on. */
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { packConfig, resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { HeldDisk, startLane } from '../support/lane.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'

const CHAT = '/v1/chat/completions'

async function setUp(t: Test, held: HeldDisk, first: RolltapeOptions) {
  const upstream = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
  )
  t.teardown(() => upstream.close())
  const { lane, url, file } = await startLane(t, upstream.url, held, first)
  const reconfigure = async (options: RolltapeOptions): Promise<void> => {
    const base = { port: 0, proxyBaseUrl: upstream.url, recordingFile: file }
    const config = resolveOptions({ options: { ...base, ...first, ...options } })
    const { generation, rules, overrides, policyVersion, recorder } = lane.serving
    await lane.serve({
      generation: generation + 1,
      config: packConfig(config),
      mode: rules.mode,
      onMiss: rules.onMiss,
      endsLive: rules.endsLive,
      overrides,
      policyVersion,
      replay: 'kept',
      recording: {
        folder: recorder!.folder,
        recordingId: 'test',
        firstSegment: 1,
        appender: 0,
        part: 1,
        memory: recorder!.tables as never,
        hmacKey: '',
      },
    })
  }
  const status = async (): Promise<number> => (await rawRequest(url, post(CHAT, '{}'))).status
  return { reconfigure, status, url, lane }
}

t.test('on_tape_failure: refused before, let through after', async (t) => {
  const held = new HeldDisk()
  const { reconfigure, status, lane } = await setUp(t, held, {})
  t.equal(await status(), 200)
  held.failing = 'EIO'
  // The first to meet the failing disk is cut or refused; from then on it is known.
  await status().catch(() => 0)
  t.equal(await status(), 503)
  const { recorder } = lane.serving
  await reconfigure({ onTapeFailure: 'passthrough' })
  t.equal(lane.serving.recorder, recorder, 'the recorder is kept')
  t.equal(await status(), 200)
  held.failing = undefined
})

t.test('commit_timeout: an answer that waits for the disk is cut from then on', async (t) => {
  const held = new HeldDisk()
  const { reconfigure, url } = await setUp(t, held, { commitTimeout: '0' })
  t.teardown(() => held.release())
  held.hold()
  const before = await RawClient.open(url)
  before.send(post(CHAT, '{}'))
  await held.heldWrite()
  await reconfigure({ commitTimeout: '100ms' })
  const after = await RawClient.open(url)
  after.send(post(CHAT, '{}'))
  await after.closed
  t.notOk(after.bytes.includes('{}'))
  await before.closed
  t.notOk(before.bytes.includes('{}'), 'the disk is one: who waited for it already is cut too')
})
