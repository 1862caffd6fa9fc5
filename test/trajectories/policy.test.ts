/**
 * The policy changes in the middle of 64 sessions with 8 samples each: every sampled token has the
 * version that it was sampled under, in the records, in the export, and in what is streamed.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { Sample } from '../../src/samples/sample.ts'
import type { ExchangeRecord } from '../../src/trajectory/record.ts'
import { rolltape as cli } from '../cli/harness.ts'
import { ControlClient, numberOf, read } from '../support/control-client.ts'
import { startControlled } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT } from '../support/replayer.ts'
import { startTokenEngine } from '../support/token-engine.ts'
import { Consumer } from '../support/trajectory-client.ts'

const SESSIONS = Array.from({ length: 64 }, (_, n) => `task-${String(n).padStart(2, '0')}`)
/** Samples 0–2 are done before the pause, 3 is in flight, 4–7 are asked while it holds. */
const [DONE, IN_FLIGHT, ALL] = [3, 3, 8]
const POLICY = { hold: 1, drain: 3 } as const

/** An engine that answers sample 3 of each session only once the gate is open. */
async function setUp(t: Test) {
  const gate = Promise.withResolvers<void>()
  let waiting = 0
  const engine = await startTokenEngine(t, async ({ user = '' }) => {
    if (user.endsWith(` ${IN_FLIGHT}`)) {
      waiting++
      await gate.promise
    }
    return { content: `sample ${user} ends here` }
  })
  const file = join(makeFolder(t), 'a.jsonl')
  const { address, url, rolltape } = await startControlled(t, {
    proxyBaseUrl: engine.url,
    recordingFile: file,
    lanes: 2,
  })
  const client = new ControlClient(t, address)
  const ask = async (session: string, sample: number): Promise<number> => {
    const messages = [{ role: 'user', content: `Solve ${session}` }]
    const capture = { logprobs: true, return_token_ids: true }
    const body = { model: 'demo', user: `${session} ${sample}`, messages, ...capture }
    const path = `/sessions/${session}${CHAT}`
    return (await rawRequest(url, post(path, JSON.stringify(body)))).status
  }
  const askAll = (from: number, to: number): Promise<number>[] =>
    SESSIONS.flatMap((session) =>
      Array.from({ length: to - from }, (_, n) => ask(session, from + n)),
    )
  return { engine, client, gate, askAll, file, rolltape, waiting: () => waiting }
}

async function until(test: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await test())) await new Promise((resolve) => setImmediate(resolve))
}

/** Requests that wait for admission, over all lanes; -1 while no pause holds. */
async function heldNow(client: ControlClient): Promise<number> {
  const status = await client.call('GetStatus')
  if (!status.has(13)) return -1
  const lanes = (status.get(9) ?? []).map((lane) => read(lane as Buffer))
  return lanes.reduce((sum, lane) => sum + numberOf(lane, 6), 0)
}

/** Changes the policy under a pause; what was recorded, exported and streamed. */
async function changePolicy(t: Test, how: keyof typeof POLICY) {
  const { engine, client, gate, askAll, file, rolltape, waiting } = await setUp(t)
  await client.call('SetPolicyVersion', { 1: 'step-1' })
  const statuses = await Promise.all(askAll(0, DONE))
  const running = askAll(IN_FLIGHT, IN_FLIGHT + 1)
  await until(() => waiting() === SESSIONS.length)
  const pause = client.call('PauseAdmission', { 1: POLICY[how] }, 60_000)
  await until(async () => (await heldNow(client)) === 0)
  const held = askAll(IN_FLIGHT + 1, ALL)
  await until(async () => (await heldNow(client)) === held.length)
  if (how === 'drain') gate.resolve()
  await pause
  await client.call('SetPolicyVersion', { 1: 'step-2' })
  gate.resolve()
  statuses.push(...(await Promise.all(running)))
  await client.call('ResumeAdmission')
  statuses.push(...(await Promise.all(held)))
  t.strictSame(new Set(statuses), new Set([200]))

  for (const session of SESSIONS) await client.call('CloseSession', { 1: session })
  const given = await new Consumer(client, { once: true }).take()
  await rolltape.close()
  const out = join(makeFolder(t), 'samples.jsonl')
  t.equal((await cli(['export', file, '--out', out])).code, 0)
  const samples = readFileSync(out, 'utf8').trimEnd().split('\n')
  return {
    engine,
    given,
    records: await recordsOf(file),
    samples: samples.map((line) => JSON.parse(line) as Sample),
  }
}

/** The number of a record's sample. */
function numberIn({ request }: ExchangeRecord): number {
  return Number((request as { user: string }).user.split(' ')[1])
}

for (const how of ['drain', 'hold'] as const) {
  t.test(`${how}: each token has the version it was sampled under, and none is lost`, async (t) => {
    const { engine, given, records, samples } = await changePolicy(t, how)
    const overlap = how === 'hold' ? 'step-2' : 'step-1'
    const inFlight = { dispatch: 'step-1', first_byte: overlap, end: overlap }
    const whole = (version: string) => ({ dispatch: version, first_byte: version, end: version })
    const stamped = (sample: number): object => {
      const before = sample < IN_FLIGHT ? whole('step-1') : inFlight
      const at = sample > IN_FLIGHT ? whole('step-2') : before
      return { ...at, engine: null, mixed: sample === IN_FLIGHT && how === 'hold' }
    }
    const wrong = records.filter((record) => {
      return JSON.stringify(record.policy) !== JSON.stringify(stamped(numberIn(record)))
    })
    t.strictSame(
      wrong.map(({ policy }) => policy),
      [],
      'records',
    )
    t.equal(records.length, SESSIONS.length * ALL)

    const bySeq = new Map(records.map((record) => [record.seq, numberIn(record)]))
    t.equal(samples.length, SESSIONS.length * ALL)
    const odd = samples.filter(({ token_ids: ids, loss_mask: mask, policy_version, turns }) => {
      const sample = bySeq.get(turns[0]?.seq ?? 0) ?? -1
      const version = sample > IN_FLIGHT ? 'step-2' : 'step-1'
      const isMixed = sample === IN_FLIGHT && how === 'hold'
      const [span, ...more] = policy_version
      const isCovered = mask.every((one, at) => one === 0 || (at >= span!.start && at < span!.end))
      const isRight = span?.version === version && span.mixed === isMixed
      return !isRight || !isCovered || more.length > 0 || ids.length !== mask.length
    })
    t.strictSame(
      odd.map(({ policy_version }) => policy_version),
      [],
      'samples',
    )
    const trained = samples.flatMap(({ loss_mask: mask }) => mask).filter((one) => one === 1)
    t.equal(trained.length, engine.sampled, 'each token once')
    const mixed = samples.filter(({ labels }) => labels.includes('mixed_policy')).length
    t.equal(mixed, how === 'hold' ? SESSIONS.length : 0)

    t.strictSame(
      given.map(({ session }) => session),
      SESSIONS,
    )
    t.ok(
      given.every(({ lines }) => lines.length === ALL),
      'and each is streamed whole',
    )
  })
}
