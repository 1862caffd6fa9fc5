/** Trainers pull trajectories as they finish: nothing is lost, what was acknowledged stays away. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { ANNOTATION_TAGS_MAX, FINISHES_AT_ONCE, TRAJECTORY_PIECE_BYTES } from '../../src/limits.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { ControlClient, encode, read, textOf } from '../support/control-client.ts'
import type { Fields } from '../support/control-client.ts'
import { ask, bufCurl, startControlled, testWithBuf } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'
import { Consumer, acknowledge, getTrajectory } from '../support/trajectory-client.ts'
import type { Given } from '../support/trajectory-client.ts'

const TRAJECTORIES = 'rolltape.trajectory.v1.TrajectoryService'

const upstream = await startInferenceServer({ paceMs: 0 })
t.teardown(() => upstream.close())

async function start(t: Test, options: RolltapeOptions = {}) {
  const file = options.recordingFile ?? join(makeFolder(t), 'a.jsonl')
  const { rolltape, url, address } = await startControlled(t, {
    proxyBaseUrl: upstream.url,
    lanes: 1,
    ...options,
    recordingFile: file,
  })
  const client = new ControlClient(t, address)
  const call = async (session: string, content = 'hi'): Promise<void> => {
    const { status } = await rawRequest(url, post(`/sessions/${session}${CHAT}`, bodyOf(content)))
    t.equal(status, 200)
  }
  const finish = async (session: string): Promise<void> => {
    await call(session)
    await client.call('CloseSession', { 1: session })
  }
  return { rolltape, address, client, call, finish, file, consumer: make(t, client) }
}

/** A consumer that is gone at the end. */
function make(t: Test, client: ControlClient) {
  return (
    ...asked: ConstructorParameters<typeof Consumer> extends [unknown, ...infer R] ? R : []
  ) => {
    const consumer = new Consumer(client, ...asked)
    t.teardown(() => consumer.kill())
    return consumer
  }
}

const sessionsOf = (given: readonly Given[]): string[] => given.map(({ session }) => session)
const seqsOf = ({ lines }: Given): number[] =>
  lines.map((line) => (JSON.parse(line) as { seq: number }).seq)

t.test(
  'O30: what finishes comes in that order, whole, with what was said and what it comes to',
  async (t) => {
    const { client, call, consumer, file } = await start(t)
    const stream = consumer()
    for (const session of ['a', 'b', 'a', 'c', 'b']) await call(session)
    await client.call('AnnotateSession', {
      1: 'c',
      2: encode({ 1: 'env', 2: 'dev' }),
      5: 'well done',
    })
    await client.call('AnnotateSession', { 1: 'c', 4: 1 })
    await client.call('CloseSession', { 1: 'a' })
    await client.call('CloseSession', { 1: 'b', 2: 1 })
    const given = await stream.take(3)
    t.strictSame(sessionsOf(given), ['c', 'a', 'b'])
    t.strictSame(given.map(seqsOf), [[4], [1, 3], [2, 5]])
    t.match(given, [
      { isDone: true, note: 'well done', frozen: '', version: 1, summary: [1, 1, 0, 0] },
      { isDone: false, frozen: '', summary: [2, 2, 0, 0] },
      { frozen: given[2]!.sha256, isChanged: false },
    ])
    const inFile = readFileSync(file, 'utf8').split('\n')
    t.ok(
      given.flatMap(({ lines }) => lines).every((line) => inFile.includes(line)),
      'lines as they are',
    )
    const tokens = given.flatMap(({ summary }) => summary.slice(4))
    t.ok(
      tokens.every((count) => count > 0),
      'tokens are summed up',
    )
  },
)

t.test(
  'a consumer that is killed comes back: nothing is lost, nothing acknowledged comes again',
  async (t) => {
    const first = await start(t)
    const sessions = Array.from({ length: 12 }, (_, n) => `s${String(n).padStart(2, '0')}`)
    for (const session of sessions.slice(0, 6)) await first.finish(session)
    const killed = first.consumer()
    const [one, two] = await killed.take(3)
    t.strictSame([one!.session, two!.session], ['s00', 's01'])
    t.equal(await acknowledge(first.client, two!.token), two!.token)
    killed.kill()
    for (const session of sessions.slice(6, 9)) await first.finish(session)
    const back = first.consumer()
    const after = await back.take(4)
    t.equal(back.started, two!.token)
    t.strictSame(sessionsOf(after), sessions.slice(2, 6), 'the third was given, not acknowledged')
    await acknowledge(first.client, after[1]!.token)
    t.equal(await acknowledge(first.client, one!.token), after[1]!.token, 'a place never goes back')
    t.strictSame(sessionsOf(await back.take(3)), sessions.slice(6, 9))
    await first.rolltape.close()
    t.strictSame(await back.take(), [], 'and the stream ends')

    const second = await start(t, { recordingFile: first.file })
    for (const session of sessions.slice(9)) await second.finish(session)
    const again = await second.consumer({ once: true }).take()
    t.strictSame(sessionsOf(again), sessions.slice(4), 'after a restart from where it was')
    t.strictSame(
      again.slice(0, 2).map(({ lines }) => lines),
      after.slice(2).map(({ lines }) => lines),
    )
    await acknowledge(second.client, again.at(-1)!.token)
    t.strictSame(await second.consumer({ once: true }).take(), [])
    t.strictSame(
      sessionsOf(await second.consumer({ once: true, token: one!.token }).take()),
      sessions.slice(1),
    )
    const other = second.consumer({ consumer: 'other', once: true })
    t.strictSame(sessionsOf(await other.take()), sessions, 'each consumer has a place of its own')
    await acknowledge(second.client, '')
    t.strictSame(sessionsOf(await second.consumer({ once: true }).take()), sessions, 'forgotten')
  },
)

t.test('a session finishes once, and again only when it has gone on', async (t) => {
  const { client, call, consumer } = await start(t)
  const all = async () => consumer({ once: true }).take()
  await call('a')
  await client.call('FlushRecording')
  await client.call('AnnotateSession', { 1: 'a', 4: 1 })
  await client.call('AnnotateSession', { 1: 'a', 4: 1 })
  await client.call('CloseSession', { 1: 'a' })
  t.strictSame(
    (await all()).map(({ version }) => version),
    [1],
  )
  await t.rejects(client.call('CloseSession', { 1: 'a' }), { code: status.NOT_FOUND })
  await call('b')
  await call('a')
  await client.call('AnnotateSession', { 1: 'a', 3: 0.5 })
  await client.call('CloseSession', { 1: 'a' })
  const given = await all()
  t.strictSame(
    given.map(({ version }) => version),
    [1, 2],
  )
  t.strictSame(given.map(seqsOf), [[1], [1, 3]])
  t.strictSame(
    given.map(({ sinceSeq, reward }) => [sinceSeq, reward]),
    [
      [0, 0.5],
      [1, 0.5],
    ],
  )
  await client.call('CloseSession', { 1: 'a', 2: 1 })
  const frozen = await all()
  t.strictSame(
    frozen.map(({ version }) => version),
    [1, 2],
    'freezing it as it is adds none',
  )
  t.ok(frozen.every(({ isChanged }) => !isChanged))
})

t.test('more than is looked up at once, with as much said about them as may be', async (t) => {
  const { client, call, consumer } = await start(t)
  const sessions = Array.from({ length: FINISHES_AT_ONCE + 1 }, (_, n) => `s${100 + n}`)
  await Promise.all(sessions.map((session) => call(session)))
  const tags = Array.from({ length: ANNOTATION_TAGS_MAX }, (_, n) =>
    encode({ 1: `${n}`.padEnd(256, 'k'), 2: 'v'.repeat(256) }),
  )
  for (const session of sessions) {
    await client.call('AnnotateSession', {
      1: session,
      2: tags,
      4: 1,
    })
  }
  t.strictSame(sessionsOf(await consumer({ once: true }).take()), sessions)
  const listed: string[] = []
  let pages = 0
  for (let token: string | undefined = ''; token !== undefined; pages++) {
    const page: Fields = await client.call(`${TRAJECTORIES}/ListTrajectories`, { 2: token })
    listed.push(...(page.get(1) ?? []).map((one) => textOf(read(one as Buffer), 1)))
    token = page.has(2) ? textOf(page, 2) : undefined
  }
  t.strictSame(listed, sessions)
  t.equal(pages, 3, 'a page is cut where no client would take it')
})

t.test('a trajectory of many megabytes comes in pieces that any client takes', async (t) => {
  const { client, call, consumer, rolltape } = await start(t)
  const long = 'x'.repeat(3 * TRAJECTORY_PIECE_BYTES)
  for (const content of [long, 'hi', long]) await call('big', content)
  await rolltape.rotate()
  await call('big', long)
  await client.call('CloseSession', { 1: 'big' })
  const [given] = await consumer({ once: true }).take()
  t.strictSame(seqsOf(given!), [1, 2, 3, 4])
  t.equal(given!.pieces, 10)
  t.match(
    given!.lines.map((line) => (JSON.parse(line) as { turn: number }).turn),
    [1, 2, 3, 4],
  )
})

t.test('parts that were closed before, and while it is asked, are read', async (t) => {
  const first = await start(t)
  for (const session of ['a', 'b', 'a']) await first.call(session)
  await first.rolltape.rotate()
  await first.call('a')
  t.strictSame(seqsOf(await getTrajectory(first.client, 'a')), [1, 3, 4])
  await first.rolltape.rotate()
  await first.call('a')
  t.strictSame(seqsOf(await getTrajectory(first.client, 'a')), [1, 3, 4, 5])
  await first.finish('a')
  await first.rolltape.close()
  const second = await start(t, { recordingFile: first.file })
  t.strictSame(seqsOf(await getTrajectory(second.client, 'a')), [1, 3, 4, 5, 6])
  t.strictSame(seqsOf((await second.consumer({ once: true }).take())[0]!), [1, 3, 4, 5, 6])
})

t.test('a second stream of a consumer takes the place of the first', async (t) => {
  const { client, finish, consumer } = await start(t)
  await finish('a')
  const first = client.watch({}, `${TRAJECTORIES}/StreamTrajectories`)
  const ended = new Promise((resolve) => first.on('error', resolve))
  first.resume()
  const second = consumer()
  t.strictSame(sessionsOf(await second.take(1)), ['a'])
  t.match(await ended, { code: status.ABORTED, details: 'the consumer has opened another stream' })
  await finish('b')
  t.strictSame(sessionsOf(await second.take(1)), ['b'])
})

t.test(
  'records elsewhere: the stream ends, and the next one is of the new recording',
  async (t) => {
    const { client, finish, consumer, file } = await start(t)
    await finish('a')
    const stream = consumer()
    const [given] = await stream.take(1)
    await acknowledge(client, given!.token)
    await client.call('SetMode', { 1: 2, 8: join(makeFolder(t), 'b.jsonl') })
    t.strictSame(await stream.take(), [], 'it ends in order')
    await finish('b')
    t.strictSame(sessionsOf(await consumer({ once: true }).take()), ['b'])
    await t.rejects(acknowledge(client, given!.token), {
      code: status.INVALID_ARGUMENT,
      details: /^token is of another recording/,
    })
    await client.call('SetMode', { 1: 2, 8: file })
    t.strictSame(await consumer({ once: true }).take(), [], 'places are kept by recording')
  },
)

t.test('places that cannot be read are begun anew, so that nothing is lost', async (t) => {
  const first = await start(t)
  for (const session of ['a', 'b']) await first.finish(session)
  const given = await first.consumer({ once: true }).take()
  await acknowledge(first.client, given[1]!.token)
  await first.rolltape.close()
  const places = first.file.replace('.jsonl', '.consumers.json')
  const kept = readFileSync(places, 'utf8')
  for (const text of ['{"places":', kept.replace(/"recording":"[^"]+"/, '"recording":"x"')]) {
    t.not(text, kept)
    writeFileSync(places, text)
    const next = await start(t, { recordingFile: first.file })
    t.strictSame(sessionsOf(await next.consumer({ once: true }).take()), ['a', 'b'])
    await next.rolltape.close()
  }
})

testWithBuf('buf lists pages, gets one, streams and acknowledges', async (t) => {
  const { address, finish } = await start(t)
  for (const session of ['c', 'a', 'b']) await finish(session)
  const list = (data: object) => ask(address, `${TRAJECTORIES}/ListTrajectories`, data)
  const page = await list({ page_size: 2 })
  t.match(page, {
    trajectories: [{ session: 'c', version: '1', finishTime: /^20/ }, { session: 'a' }],
  })
  const rest = await list({ page_size: 2, page_token: page['nextPageToken'] })
  t.match(rest, { trajectories: [{ session: 'b' }] })
  t.notOk('nextPageToken' in rest)
  const { messages } = await bufCurl(address, `${TRAJECTORIES}/GetTrajectory`, { session: 'a' })
  t.match(messages, [
    { head: { session: 'a' } },
    {},
    { end: { summary: { records: '1', turns: '1' } } },
  ])
  const line = Buffer.from(String(messages[1]!['records']), 'base64').toString()
  t.match(JSON.parse(line), { session: 'a', turn: 1 })
  const stream = async () =>
    (await bufCurl(address, `${TRAJECTORIES}/StreamTrajectories`, { once: true })).messages
  const ends = (await stream()).flatMap(({ end = [] }) => end) as { token: string }[]
  t.equal(ends.length, 3)
  await ask(address, `${TRAJECTORIES}/AckTrajectories`, { token: ends[1]!.token })
  t.match(await stream(), [
    { started: { token: ends[1]!.token } },
    { head: { session: 'b' } },
    {},
    {},
  ])
})
