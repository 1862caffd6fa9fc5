/** `rolltape ctl trajectories`: what has finished, listed or given line by line and acknowledged. */
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { TrajectoryLine } from '../../src/cli/ctl/trajectories.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { TRAJECTORY_PIECE_BYTES } from '../../src/limits.ts'
import { rolltape as cli } from '../cli/harness.ts'
import { ControlClient } from '../support/control-client.ts'
import { startControlled } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

interface Line {
  readonly trajectory: { session: string; version: string; annotations: object }
  readonly records: { seq: number; session: string; request: { messages: object[] } }[]
  readonly end: { token: string; summary: object }
}

const upstream = await startInferenceServer({ paceMs: 0 })
t.teardown(() => upstream.close())

async function start(t: Test) {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const { address, url, rolltape } = await startControlled(t, {
    proxyBaseUrl: upstream.url,
    recordingFile,
    lanes: 1,
  })
  const client = new ControlClient(t, address)
  const call = (session: string, content = 'hi') =>
    rawRequest(url, post(`/sessions/${session}${CHAT}`, bodyOf(content)))
  const finish = async (session: string): Promise<void> => {
    await call(session)
    await client.call('CloseSession', { 1: session })
  }
  const ctl = (argv: string[], options?: Parameters<typeof cli>[1]) =>
    cli(['ctl', 'trajectories', ...argv, '--control', address], options)
  return { client, call, finish, ctl, rolltape }
}

const linesOf = (stdout: string): Line[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)

t.test('lists what has finished, for people and as JSON', async (t) => {
  const { client, call, finish, ctl } = await start(t)
  await finish('a')
  await call('b')
  await client.call('AnnotateSession', { 1: 'b', 3: 0.5, 4: 1 })
  const { code, stdout } = await ctl([])
  t.equal(code, 0)
  t.match(
    stdout,
    /^FINISHED +SESSION +VERSION +REWARD +FROZEN AS\n20\S+ +a +1 +- +-\n20\S+ +b +1 +0\.5 +-$/m,
  )
  const json = await ctl(['--json'])
  t.match(
    json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object),
    [{ session: 'a' }, { session: 'b', annotations: { reward: 0.5, done: true } }],
  )
})

t.test('--follow gives each as it finishes, and acknowledges it', async (t) => {
  const { call, client, finish, ctl, rolltape } = await start(t)
  for (const content of ['one', 'two', 'x'.repeat(2 * TRAJECTORY_PIECE_BYTES)])
    await call('a', content)
  await client.call('CloseSession', { 1: 'a' })
  const stopping = new AbortController()
  let ends = 0
  const followed = await ctl(['--follow'], {
    stopping: stopping.signal,
    onOutput: (text) => {
      if (!text.startsWith('],"end":')) return
      if (++ends === 1) void finish('b')
      else void finish('c').then(() => stopping.abort())
    },
  })
  t.equal(followed.code, 0)
  // The third may be cut where it was stopped.
  const [a, b] = linesOf(followed.stdout.split('\n').slice(0, 2).join('\n'))
  t.match(a, { trajectory: { session: 'a', version: '1' }, end: { summary: { records: '3' } } })
  t.strictSame(
    a!.records.map(({ seq }) => seq),
    [1, 2, 3],
  )
  t.match(b, { trajectory: { session: 'b' }, records: [{ session: 'b' }] })
  const once = await ctl(['--once'])
  t.equal(once.code, 0)
  const left = once.stdout === '' ? [] : linesOf(once.stdout)
  t.notOk(
    left.some(({ trajectory }) => trajectory.session === 'a'),
    'it was acknowledged',
  )
  t.equal((await ctl(['--once'])).stdout, '')
  t.equal(linesOf((await ctl(['--once', '--consumer', 'other'])).stdout).length, 3)
  await rolltape.close()
  t.equal((await ctl([])).code, 3)
})

t.test('records are joined to one line wherever their pieces are cut', async (t) => {
  const records = [{ seq: 1, text: 'größe, "und"\n' }, { seq: 2 }, { seq: 3 }]
  const bytes = Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''))
  for (let first = 0; first <= bytes.length; first++) {
    for (const second of [first, first + 1, bytes.length]) {
      const cuts = [0, first, Math.min(second, bytes.length), bytes.length]
      const pieces = cuts.slice(1).map((to, at) => bytes.subarray(cuts[at], to))
      const line = new TrajectoryLine()
      const head = line.take({ $case: 'head', value: HEAD })
      t.ok(line.isTorn)
      const middle = pieces
        .filter(({ length }) => length > 0)
        .flatMap((value) => line.take({ $case: 'records', value }))
      const end = line.take({ $case: 'end', value: END })
      t.notOk(line.isTorn)
      const text = Buffer.concat([...head, ...middle, ...end].map((part) => Buffer.from(part)))
      const read = JSON.parse(text.toString()) as { records: object[] }
      t.strictSame(read.records, records)
    }
  }
})

const HEAD = {
  session: 's',
  version: 1,
  finishTime: undefined,
  sinceSeq: 0,
  annotations: undefined,
  snapshot: undefined,
}
const END = { token: 'x.1', summary: undefined, sha256: '', snapshotChanged: false }
