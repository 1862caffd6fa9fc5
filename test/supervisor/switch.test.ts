// Modes are switched while requests stream: each is served in the mode it came in, to its end.
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }
const STREAMS = 200
const SWITCHES = 50
const CHUNK_MS = 3

/** An upstream that streams its name in three paced chunks. */
async function startNamed(t: Test, name: string) {
  const upstream = await startScriptedUpstream(async (x) => {
    const head = responseHead(200, 'OK', [
      ['Content-Type', 'text/event-stream'],
      ['Connection', 'close'],
    ])
    const event = `data: {"choices":[{"index":0,"delta":{"content":"${name}"}}]}\n\n`
    await x.send(head, event, () => setTimeout(CHUNK_MS), event)
    await x.send(() => setTimeout(CHUNK_MS), 'data: [DONE]\n\n')
    x.end()
  })
  t.teardown(() => upstream.close())
  return upstream.url
}

/** Recording A, and a supervisor that records into B. */
async function setUp(t: Test, options: RolltapeOptions = {}) {
  const a = await startRecorder(t, await startNamed(t, 'recorded'))
  await rawRequest(a.url, post(CHAT, bodyOf('hi', { stream: true })))
  await a.finish()
  const b = join(makeFolder(t), 'b.jsonl')
  const proxyBaseUrl = await startNamed(t, 'live')
  const more = { onExhausted: 'repeat_last', match: 'pooled', pace: 'original' } as const
  const config = resolveOptions({
    options: { port: 0, proxyBaseUrl, recordingFile: b, ...more, ...options },
  })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  return { a: a.file, b, supervisor, url: `http://127.0.0.1:${supervisor.port}` }
}

/** Who answered, by what the answer says. */
async function askOnce(client: RawClient): Promise<string> {
  client.send(post(CHAT, bodyOf('hi', { stream: true })))
  const { status, body } = await client.answer()
  return status === 200 && body.includes('[DONE]')
    ? (/"content":"(\w+)"/.exec(body.toString())?.[1] ?? 'nobody')
    : `status ${status}`
}

for (const lanes of [1, 2]) {
  t.test(`record and replay switched ${SWITCHES} times under load, lanes ${lanes}`, async (t) => {
    const { a, b, supervisor, url } = await setUp(t, { lanes })
    t.equal(supervisor.lanes, lanes)
    // Who may answer from when on; while a switch is under way both may.
    const eras = [{ fromMs: 0, who: ['live'] }]
    const wrong: unknown[] = []
    const came = { live: 0, recorded: 0 }
    let over = false
    const worker = async (): Promise<void> => {
      const client = await RawClient.open(url)
      while (!over) {
        const sentMs = performance.now()
        const who = await askOnce(client)
        const first = eras.findLastIndex(({ fromMs }) => fromMs <= sentMs)
        const allowed = eras.slice(first).flatMap((era) => era.who)
        if (who === 'live' || who === 'recorded') came[who]++
        if (!allowed.includes(who)) wrong.push([who, allowed])
      }
      client.close()
    }
    const workers = Array.from({ length: STREAMS }, worker)
    const generations: number[] = []
    for (let i = 0; i < SWITCHES; i++) {
      const mode = i % 2 === 0 ? 'replay' : 'record'
      eras.push({ fromMs: performance.now(), who: ['live', 'recorded'] })
      const { modes, previousMode } = await supervisor.switch({ mode, replayFile: a })
      eras.push({ fromMs: performance.now(), who: [mode === 'replay' ? 'recorded' : 'live'] })
      generations.push(modes.generation)
      t.equal(previousMode, mode === 'replay' ? 'record' : 'replay')
      // However slow the machine is, some are served in each.
      const mine = mode === 'replay' ? 'recorded' : 'live'
      const enough = came[mine] + STREAMS / 20
      await setTimeout(20)
      while (came[mine] < enough) await setTimeout(2)
    }
    over = true
    await Promise.all(workers)
    t.strictSame(wrong, [])
    t.strictSame(
      generations,
      Array.from({ length: SWITCHES }, (_, i) => i + 2),
    )
    const { verdict, records, trouble } = await supervisor.close()
    t.strictSame([records, trouble], [came.live, null])
    t.ok(verdict !== undefined && verdict.servedExact > STREAMS && came.live > STREAMS)
    const kept = await recordsOf(b)
    t.equal(kept.length, came.live)
    t.equal(new Set(kept.map(({ seq }) => seq)).size, came.live)
    t.strictSame(
      kept.filter(({ outcome }) => outcome !== 'complete'),
      [],
    )
  })
}

t.test('a switch that cannot be had changes nothing', async (t) => {
  const { a, b, supervisor } = await setUp(t)
  const refused = async (change: Parameters<Supervisor['switch']>[0], code: string) => {
    await t.rejects(supervisor.switch(change), { code })
    t.match(supervisor.modes, { generation: 1, mode: 'record' })
  }
  await refused({ mode: 'replay' }, 'mode_unavailable')
  await refused({ mode: 'replay', replayFile: b }, 'recording_conflict')
  await refused({ mode: 'replay', replayFile: `${a}.gone` }, 'not_found')
  await refused({ mode: 'passthrough', expectedGeneration: 7 }, 'generation_conflict')
  const { modes } = await supervisor.switch({ mode: 'passthrough', expectedGeneration: 1 })
  t.match(modes, { generation: 2, mode: 'passthrough' })
})

t.test('one session is switched and the others stay', async (t) => {
  const { a, supervisor, url } = await setUp(t)
  const askAs = async (id: string): Promise<string> => {
    const client = await RawClient.open(`${url}`)
    client.send(post(CHAT, bodyOf('hi', { stream: true }), [`x-session-id: ${id}`]))
    const { body } = await client.answer()
    client.close()
    return /"content":"(\w+)"/.exec(body.toString())?.[1] ?? 'nobody'
  }
  await supervisor.switch({ replayFile: a, session: { id: 's', own: { mode: 'replay' } } })
  t.strictSame([await askAs('s'), await askAs('other')], ['recorded', 'live'])
  await supervisor.switch({ session: { id: 's', own: null } })
  t.equal(await askAs('s'), 'live')
  t.equal(supervisor.modes.overrides.size, 0)
})

t.test('another recording is taken up while streams of the old one run to their end', async (t) => {
  const { b, supervisor, url } = await setUp(t)
  const c = join(makeFolder(t), 'c.jsonl')
  const running = Array.from({ length: 20 }, async () => {
    const client = await RawClient.open(url)
    const who = await askOnce(client)
    client.close()
    return who
  })
  while (supervisor.counter('egress') < 20) await new Promise((resolve) => setImmediate(resolve))
  await supervisor.switch({ recordingFile: c })
  const client = await RawClient.open(url)
  t.equal(await askOnce(client), 'live')
  client.close()
  t.strictSame(new Set(await Promise.all(running)), new Set(['live']))
  t.match(await supervisor.close(), { records: 21, trouble: null })
  t.strictSame([(await recordsOf(b)).length, (await recordsOf(c)).length], [20, 1])
  t.match(await recordsOf(c), [{ seq: 1, turn: 1 }], 'numbers and turns are of a recording')
})
