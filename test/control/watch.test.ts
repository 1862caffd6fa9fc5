/** WatchExchanges: who sees what, who is too slow, who comes back, and what is left when all go. */
import { once } from 'node:events'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import type { ClientReadableStream } from '@grpc/grpc-js'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { WATCH_EVENTS_KEPT_MAX } from '../../src/limits.ts'
import { ExchangeWatch } from '../../src/supervisor/exchange-watch.ts'
import type { WatchItem } from '../../src/supervisor/exchange-watch.ts'
import type { WatchedBegin } from '../../src/supervisor/watched.ts'
import { WatchOutlet } from '../../src/supervisor/watched.ts'
import type { WatchBatch } from '../../src/supervisor/watched.ts'
import { collectGarbage } from '../support/memory.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import type { Fields, Sent } from '../support/control-client.ts'
import { startControlled } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'
import { startSteered } from '../support/steered.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const CHAT = '/v1/chat/completions'
const NAMES = ['', '', 'started', 'began', 'ended', 'gap'] as const

/** What a watcher has been told, as it comes. */
class Seen {
  readonly events: [what: string, event: Fields][] = []
  token = ''
  readonly stream: ClientReadableStream<Fields>

  constructor(client: ControlClient, request: Sent = {}) {
    this.stream = client.watch(request)
    this.stream.on('error', () => undefined)
    this.stream.on('data', (message: Fields) => {
      this.token = textOf(message, 1)
      const field = [2, 3, 4, 5].find((number) => message.has(number)) ?? 0
      this.events.push([NAMES[field] ?? '', messageOf(message, field) ?? new Map()])
    })
  }

  /** Waits for so many events. */
  async until(count: number): Promise<[string, Fields][]> {
    while (this.events.length < count) await once(this.stream, 'data')
    return this.events
  }
}

function chat(url: string, session: string, more: object = {}): Promise<unknown> {
  const body = { model: 'demo', messages: [{ role: 'user', content: 'Hi' }], ...more }
  return rawRequest(url, post(`/sessions/${session}${CHAT}`, JSON.stringify(body)))
}

async function recording(t: Test) {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  return startControlled(t, { proxyBaseUrl: upstream.url, recordingFile })
}

t.test('recorded exchanges begin, and end with what their record tells', async (t) => {
  const { address, url } = await recording(t)
  const seen = new Seen(new ControlClient(t, address))
  await seen.until(1)
  await chat(url, 'a')
  const [[first], [began, begin], [ended, end]] = (await seen.until(3)) as [
    [string, Fields],
    [string, Fields],
    [string, Fields],
  ]
  t.strictSame([first, began, ended], ['started', 'began', 'ended'])
  t.strictSame(
    [numberOf(begin, 1), textOf(begin, 2), textOf(begin, 3), textOf(begin, 4)],
    [1, 'a', 'POST', CHAT],
  )
  t.strictSame(
    [numberOf(end, 1), textOf(end, 2), numberOf(end, 6), numberOf(end, 8)],
    [1, 'a', 200, 1],
    'the same exchange, status 200, complete',
  )
  const record = messageOf(end, 9)!
  t.match(textOf(record, 1), /-1$/)
  t.strictSame([numberOf(record, 2), textOf(record, 3)], [1, 'demo'])
  t.ok(numberOf(record, 8) > 0, 'output tokens')
})

t.test('filters by session, model and outcome leave the rest out', async (t) => {
  const { address, url } = await recording(t)
  const client = new ControlClient(t, address)
  const bySession = new Seen(client, { 1: 'b' })
  const byModel = new Seen(client, { 3: 'other' })
  const failed = new Seen(client, { 2: 5 })
  for (const seen of [bySession, byModel, failed]) await seen.until(1)
  await chat(url, 'a')
  await chat(url, 'b')
  await chat(url, 'c', { model: 'other' })
  const sessions = (await bySession.until(3)).slice(1)
  t.strictSame(
    sessions.map(([what, event]) => [what, textOf(event, 2)]),
    [
      ['began', 'b'],
      ['ended', 'b'],
    ],
  )
  const models = (await byModel.until(2)).slice(1)
  t.strictSame(
    models.map(([what, event]) => [what, textOf(event, 2)]),
    [['ended', 'c']],
  )
  await client.call('FlushRecording')
  t.strictSame(
    failed.events.map(([what]) => what),
    ['started'],
    'nothing timed out',
  )
})

t.test('exchanges that are not recorded end too, told apart by their watch id', async (t) => {
  const { address, url } = await startControlled(t, { proxyBaseUrl: upstream.url })
  const seen = new Seen(new ControlClient(t, address))
  await seen.until(1)
  await chat(url, 'a')
  const [, [began, begin], [ended, end]] = (await seen.until(3)) as [
    [string, Fields],
    [string, Fields],
    [string, Fields],
  ]
  t.strictSame([began, ended], ['began', 'ended'])
  t.ok(numberOf(begin, 6) > 0)
  t.strictSame(
    [numberOf(end, 10), numberOf(end, 1), numberOf(end, 6), numberOf(end, 8), end.has(9)],
    [numberOf(begin, 6), 0, 200, 0, false],
  )
})

t.test('one who comes back with its token has missed nothing', async (t) => {
  const { address, url } = await recording(t)
  const client = new ControlClient(t, address)
  const before = new Seen(client)
  await before.until(1)
  await chat(url, 'a')
  await before.until(3)
  const { token } = before
  before.stream.cancel()
  await chat(url, 'b')
  await chat(url, 'c')
  const after = new Seen(client, { 4: token })
  const events = (await after.until(5)).slice(1)
  t.strictSame(events.map(([what, event]) => `${what} ${textOf(event, 2)}`).sort(), [
    'began b',
    'began c',
    'ended b',
    'ended c',
  ])

  const old = new Seen(client, { 4: 'AAAAAAAA.17' })
  const [, [gap, lost]] = (await old.until(2)) as [[string, Fields], [string, Fields]]
  t.strictSame([gap, numberOf(lost, 1)], ['gap', 0], 'what an earlier instance told is not known')

  for (const bad of [{ 4: 'no token' }, { 2: 0 }, { 2: 99 }]) {
    const stream = client.watch(bad)
    stream.resume()
    const [error] = (await once(stream, 'error').catch((thrown: unknown) => [thrown])) as [Error]
    t.match(error, { code: status.INVALID_ARGUMENT, details: /^(?:resume_token|outcomes) / })
  }
})

t.test('one who reads too slowly has a gap, and costs no memory', async (t) => {
  const watch = new ExchangeWatch(() => undefined)
  const slow = watch.open()
  const fast = watch.open()
  const count = WATCH_EVENTS_KEPT_MAX + 500
  let read = 0
  for (let seq = 1; seq <= count; seq++) {
    watch.take({ events: [beginOf(seq)], lost: 0 })
    while (fast.next() !== undefined) read++
  }
  t.equal(read, count, 'who keeps up gets all')
  t.strictSame(slow.next()?.item, { kind: 'gap', lost: 500 })
  const first = slow.next()?.item as WatchedBegin
  t.equal(first.seq, 501)
  let rest = 1
  while (slow.next() !== undefined) rest++
  t.equal(rest, WATCH_EVENTS_KEPT_MAX, 'no more are kept')
  // What threads had to leave out comes as a gap of its own.
  watch.take({ events: [beginOf(1)], lost: 3 })
  t.strictSame(kinds([slow.next()?.item, slow.next()?.item]), ['gap', 'began'])
})

t.test('a thread whose batches are not taken counts what it leaves out', async (t) => {
  const sent: WatchBatch[] = []
  const outlet = new WatchOutlet((batch) => sent.push(batch))
  for (let seq = 1; seq <= 2_000; seq++) outlet.add(beginOf(seq))
  t.equal(sent.length, 1, 'one batch is under way')
  outlet.onTaken()
  t.strictSame(
    sent.map(({ events, lost }) => [events.length, lost]),
    [
      [1, 0],
      [1_024, 975],
    ],
  )
  outlet.onTaken()
  outlet.add(beginOf(1))
  t.equal(sent.length, 3)
})

t.test('events are wanted while somebody watches, and a while longer', async (t) => {
  const wanted: boolean[] = []
  const off = Promise.withResolvers<void>()
  const watch = new ExchangeWatch(
    (watched) => {
      wanted.push(watched)
      if (!watched) off.resolve()
    },
    { lingerMs: 1, watchersMax: 2 },
  )
  const one = watch.open()
  const two = watch.open()
  t.throws(() => watch.open(), { code: 'over_capacity' })
  watch.take({ events: [beginOf(1)], lost: 0 })
  one.close()
  two.close()
  two.close()
  t.strictSame([watch.watchers, wanted], [0, [true]])
  await off.promise
  const late = watch.open(one.token)
  watch.take({ events: [beginOf(2)], lost: 0 })
  t.strictSame(wanted, [true, false, true])
  t.strictSame(kinds([late.next()?.item, late.next()?.item, late.next()?.item]), [
    'began',
    'gap',
    'began',
  ])
  watch.close()
  t.ok(late.ended)
})

t.test('over a socket: one who never reads costs little, and has a gap', async (t) => {
  const { supervisor, address } = await startSteered(t, { proxyBaseUrl: upstream.url })
  const client = new ControlClient(t, address)
  const stream = client.watch()
  stream.on('error', () => undefined)
  const fast = new Seen(client)
  await fast.until(1)
  while (supervisor.watch.watchers < 2) await client.call('GetStatus')
  let seq = 0
  const tell = async (batches: number): Promise<void> => {
    for (let i = 0; i < batches; i++) {
      const events = Array.from({ length: 100 }, () => beginOf(++seq))
      supervisor.watch.take({ events, lost: 0 })
      await new Promise(setImmediate)
    }
  }
  // Fills what the sockets and the ring hold; from then on nothing may be added.
  await tell(200)
  fast.stream.cancel()
  const before = heapBytes()
  await tell(1_000)
  const grown = heapBytes() - before
  t.ok(grown < 4 * 2 ** 20, `${grown} bytes for ${100_000} events`)
  let [lost, came] = [0, 0]
  for await (const message of stream) {
    const [gap, began] = [5, 3].map((field) => messageOf(message as Fields, field))
    lost += numberOf(gap, 1)
    if (began !== undefined) came++
    if (numberOf(began, 1) === seq) break
  }
  t.equal(lost + came, seq, 'what it did not get it is told of')
  t.ok(lost > 90_000, `${lost} lost`)
})

t.test('a thousand watchers that come and go leave nothing behind', async (t) => {
  const { supervisor, url, address } = await startSteered(t, { proxyBaseUrl: upstream.url })
  const client = new ControlClient(t, address)
  let settled = 0
  for (let round = 0; round < 10; round++) {
    // What is made once has been made by then.
    if (round === 3) settled = heapBytes()
    const all = Array.from({ length: 100 }, () => new Seen(client))
    await Promise.all(all.map((seen) => seen.until(1)))
    t.equal(supervisor.watch.watchers, 100)
    await chat(url, `r${round}`)
    await Promise.all(all.map((seen) => seen.until(2)))
    await Promise.all(all.map(({ stream }) => cancel(stream)))
    while (supervisor.watch.watchers > 0) await client.call('GetStatus')
  }
  const grown = heapBytes() - settled
  t.ok(grown < 2 * 2 ** 20, `${grown} bytes are left of 700 watchers`)
  const last = new Seen(client)
  await last.until(1)
  await chat(url, 'last')
  const [, [, begin]] = (await last.until(2)) as [unknown, [string, Fields]]
  t.equal(textOf(begin, 2), 'last', 'and who comes after them is served')
})

/** The heap without what nobody holds. */
function heapBytes(): number {
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().heapUsed
}

function cancel(stream: ClientReadableStream<Fields>): Promise<void> {
  const closed = new Promise<void>((resolve) => stream.once('close', resolve))
  stream.cancel()
  return closed
}

function beginOf(seq: number): WatchedBegin {
  return { kind: 'began', watchId: 0, seq, session: 's', method: 'GET', path: '/', atMs: 0 }
}

function kinds(items: (WatchItem | undefined)[]): (string | undefined)[] {
  return items.map((item) => item?.kind)
}
