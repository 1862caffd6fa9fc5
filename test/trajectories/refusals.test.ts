/**
 * Every status that the comment of a call of the trajectory service promises is met, by real causes:
 * the proto itself says which those are.
 */
import { appendFileSync, mkdirSync, readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { BroadcastChannel } from 'node:worker_threads'
import { status as STATUS } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import t from 'tap'
import type { Test } from 'tap'
import { ROOT } from '../../tools/tree.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { CONSUMERS_MAX, TRAJECTORIES_READ_MAX } from '../../src/limits.ts'
import { ControlClient } from '../support/control-client.ts'
import type { Sent } from '../support/control-client.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'
import { squat } from '../support/squat.ts'
import { startSteered } from '../support/steered.ts'
import { Consumer } from '../support/trajectory-client.ts'

const PROTO = join(ROOT, 'proto/rolltape/trajectory/v1/trajectory.proto')
const SERVICE = 'rolltape.trajectory.v1.TrajectoryService'
const STREAMING = new Set(['GetTrajectory', 'StreamTrajectories'])
const ONCE: Sent = { 3: 1 }

/** What the comments of the calls promise besides OK. */
function promised(): string[] {
  const [, service = ''] = readFileSync(PROTO, 'utf8').split('service TrajectoryService {')
  const blocks = [...service.matchAll(/((?: *\/\/[^\n]*\n)+) *rpc (\w+)/g)]
  return blocks.flatMap(([, comment = '', method = '']) =>
    [...comment.matchAll(/\/\/ - ([A-Z_]+):/g)].flatMap(([, name = '']) =>
      name === 'OK' ? [] : [`${method} ${name}`],
    ),
  )
}

const met = new Set<string>()

/** Calls a method to its end, and checks the status that it ends with. */
async function check(
  t: Test,
  client: ControlClient,
  [method, name, request = {}]: readonly [method: string, name: string, request?: Sent],
): Promise<void> {
  let ended = 'OK'
  try {
    if (!STREAMING.has(method)) await client.call(`${SERVICE}/${method}`, request, 30_000)
    else for await (const _ of client.watch(request, `${SERVICE}/${method}`)) continue
  } catch (error) {
    ended = STATUS[(error as ServiceError).code]
  }
  met.add(`${method} ${ended}`)
  t.equal(ended, name, method)
}

const upstream = await startInferenceServer({ paceMs: 0 })
t.teardown(() => upstream.close())

/** Session a is recorded and closed. */
async function start(t: Test, rules: Parameters<typeof startSteered>[2] = {}) {
  const file = join(makeFolder(t), 'a.jsonl')
  const steered = await startSteered(t, { proxyBaseUrl: upstream.url, recordingFile: file }, rules)
  const client = new ControlClient(t, steered.address)
  await rawRequest(steered.url, post(`/sessions/a${CHAT}`, bodyOf('go')))
  await client.call('FlushRecording')
  await client.call('CloseSession', { 1: 'a' })
  const token = (place: number): string => `${steered.supervisor.recording!.recordingId}.${place}`
  return { ...steered, client, file, token }
}

t.test('of one that records', async (t) => {
  const { client, file, token, supervisor } = await start(t)
  for (const one of [
    ['ListTrajectories', 'INVALID_ARGUMENT', { 1: -1 }],
    ['ListTrajectories', 'INVALID_ARGUMENT', { 2: 'x' }],
    ['GetTrajectory', 'INVALID_ARGUMENT'],
    ['GetTrajectory', 'NOT_FOUND', { 1: 'none' }],
    ['StreamTrajectories', 'INVALID_ARGUMENT', { 1: 'x\u0001' }],
    ['StreamTrajectories', 'INVALID_ARGUMENT', { 2: 'x.1' }],
    ['AckTrajectories', 'INVALID_ARGUMENT', { 2: token(1_000_000) }],
    ['AckTrajectories', 'INVALID_ARGUMENT', { 1: 'x'.repeat(257), 2: token(1) }],
  ] as const) {
    await check(t, client, one)
  }
  for (let n = 0; n < CONSUMERS_MAX; n++) {
    await check(t, client, ['AckTrajectories', 'OK', { 1: `c${n}`, 2: token(1) }])
  }
  await check(t, client, ['AckTrajectories', 'RESOURCE_EXHAUSTED', { 1: 'more', 2: token(1) }])
  await check(t, client, ['AckTrajectories', 'OK', { 1: 'c0', 2: '' }])
  await check(t, client, ['AckTrajectories', 'OK', { 1: 'more', 2: token(1) }])
  mkdirSync(file.replace('.jsonl', '.consumers.json.new'))
  await check(t, client, ['AckTrajectories', 'UNAVAILABLE', { 1: 'more', 2: token(2) }])
  t.equal(supervisor.recording!.trajectories.placeOf('more'), 1, 'its place is as it was')
  appendFileSync(file.replace('.jsonl', '.000001.jsonl'), 'no record\n')
  await check(t, client, ['GetTrajectory', 'DATA_LOSS', { 1: 'a' }])
  await check(t, client, ['StreamTrajectories', 'DATA_LOSS', ONCE])
  await supervisor.close(0)
  await check(t, client, ['ListTrajectories', 'UNAVAILABLE'])
})

t.test('of one whose file of records is cut while it is read', async (t) => {
  const { client, file } = await start(t)
  await check(t, client, ['GetTrajectory', 'OK', { 1: 'a' }])
  const line = readFileSync(file)
  truncateSync(file, 0)
  appendFileSync(file, Buffer.alloc(line.length, ' '))
  await check(t, client, ['GetTrajectory', 'FAILED_PRECONDITION', { 1: 'a' }])
  for (const seq of [1, 7]) {
    truncateSync(file, 0)
    appendFileSync(file, line.toString().replace('"seq":1,', `"seq":${seq},`))
    const met = seq === 1 ? 'OK' : 'FAILED_PRECONDITION'
    await check(t, client, ['GetTrajectory', met, { 1: 'a' }])
  }
  // What it knew is forgotten, and read anew.
  await check(t, client, ['GetTrajectory', 'OK', { 1: 'a' }])
  appendFileSync(file, ' ')
})

t.test('of one that records nothing', async (t) => {
  const { address } = await startSteered(t, { proxyBaseUrl: upstream.url })
  const client = new ControlClient(t, address)
  for (const one of [
    ['ListTrajectories', 'FAILED_PRECONDITION'],
    ['GetTrajectory', 'FAILED_PRECONDITION', { 1: 'a' }],
    ['StreamTrajectories', 'FAILED_PRECONDITION'],
    ['AckTrajectories', 'FAILED_PRECONDITION', { 2: 'x.1' }],
  ] as const) {
    await check(t, client, one)
  }
})

t.test('of one with as many readers as may be, which none of them holds up', async (t) => {
  const { client, supervisor } = await start(t)
  const { trajectories } = supervisor.recording!
  const reading = Array.from({ length: TRAJECTORIES_READ_MAX }, () => trajectories.read('a'))
  const open = await Promise.all(reading)
  await check(t, client, ['GetTrajectory', 'RESOURCE_EXHAUSTED', { 1: 'a' }])
  await check(t, client, ['StreamTrajectories', 'RESOURCE_EXHAUSTED', ONCE])
  open[0]!.close()
  await check(t, client, ['GetTrajectory', 'OK', { 1: 'a' }])
  await check(t, client, ['StreamTrajectories', 'OK', ONCE])
  for (const one of open) one!.close()
  const first = check(t, client, ['StreamTrajectories', 'ABORTED'])
  const second = new Consumer(client)
  await second.take(1)
  second.kill()
  await first
})

t.test('of one whose lane has died and has no successor', async (t) => {
  const entry = new URL('../support/mortal-lane.ts', import.meta.url)
  const { client, supervisor } = await start(t, { entry, replaceMsMax: 1 })
  const channel = new BroadcastChannel('mortal-lane')
  t.teardown(() => channel.close())
  channel.postMessage('exit')
  await squat(t, supervisor.port)
  await supervisor.failed
  await check(t, client, ['GetTrajectory', 'UNAVAILABLE', { 1: 'a' }])
  await check(t, client, ['StreamTrajectories', 'UNAVAILABLE', ONCE])
  await t.rejects(client.call('CloseSession', { 1: 'a', 2: 1 }), { code: STATUS.UNAVAILABLE })
  t.equal(supervisor.recording!.tables.isFrozen('a'), false, 'what failed has frozen nothing')
})

t.test('each promise of a comment was met, and nothing else', async (t) => {
  const all = [...met].filter((one) => !one.endsWith(' OK'))
  t.strictSame(all.sort(), promised().sort())
})
