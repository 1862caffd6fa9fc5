// As many exchanges run as may; the others wait in line or are told so. Whatever becomes of them, no
// place is lost.
import { hash } from 'node:crypto'
import { join } from 'node:path'
import { BroadcastChannel } from 'node:worker_threads'
import * as fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { ScriptedExchange } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { RawClient, post, rawRequest, valueOf } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }
const MORTAL = new URL('../support/mortal-lane.ts', import.meta.url)
const CHAT = '/v1/chat/completions'
const JSON_2 = responseHead(200, 'OK', [['Content-Length', '2']])

/** Answers once the gate is open, and notes how many it had at once. */
async function setUp(t: Test, options: RolltapeOptions, entry?: URL) {
  const gate = Promise.withResolvers<void>()
  const seen = { now: 0, most: 0, bodies: [] as string[] }
  const upstream = await startScriptedUpstream(async (x) => {
    seen.most = Math.max(seen.most, ++seen.now)
    seen.bodies.push(x.body.length < 100 ? x.body.toString() : `${x.body.length}`)
    await gate.promise
    seen.now--
    return x.send(JSON_2, '{}')
  })
  t.teardown(() => upstream.close())
  const started = await start(t, upstream.url, options, entry)
  return { ...started, upstream, gate, seen }
}

async function start(t: Test, upstream: string, options: RolltapeOptions, entry?: URL) {
  const file = join(makeFolder(t), 'a.jsonl')
  const config = resolveOptions({
    options: {
      port: 0,
      proxyBaseUrl: upstream,
      recordingFile: file,
      drainTimeout: '1s',
      ...options,
    },
  })
  const supervisor = new Supervisor(config, SILENT, entry ? { entry } : {})
  await supervisor.start()
  t.teardown(() => supervisor.close())
  const { tickets } = supervisor
  const url = `http://127.0.0.1:${supervisor.port}`
  const sums = (): number[] => [tickets.inFlight, tickets.inFlightKib, tickets.waiting]
  const isIdle = (): boolean => sums().every((sum) => sum === 0)
  /** Waits until it is so. */
  const until = async (is: () => boolean): Promise<void> => {
    while (!is()) await new Promise((resolve) => setTimeout(resolve, 2))
  }
  return { supervisor, tickets, url, file, sums, isIdle, until }
}

/** Bytes that tell where they stand. */
function patterned(bytes: number): Buffer {
  return Buffer.from(
    Array.from({ length: bytes / 5 + 1 }, (_, i) => `${10_000 + (i % 89_999)}`).join(''),
  ).subarray(0, bytes)
}

t.test('L24: over max_in_flight requests wait, and no more than that run at once', async (t) => {
  const options = { maxInFlight: 2 }
  const { url, gate, seen, sums, isIdle, until, tickets } = await setUp(t, options)
  const asked = []
  for (let i = 0; i < 8; i++) {
    asked.push(rawRequest(url, post(CHAT, `${i}`)))
    await until(() => tickets.inFlight + tickets.waiting === i + 1)
  }
  t.strictSame(sums(), [2, 130, 6])
  gate.resolve()
  const answers = await Promise.all(asked)
  t.strictSame(new Set(answers.map(({ status }) => status)), new Set([200]))
  t.strictSame(seen.bodies.toSorted(), ['0', '1', '2', '3', '4', '5', '6', '7'])
  t.equal(seen.most, 2)
  await until(isIdle)
})

t.test('L24: who waits goes on in the order in which it came', async (t) => {
  const { url, gate, seen, until, tickets } = await setUp(t, { maxInFlight: 1 })
  const asked = []
  for (let i = 0; i < 8; i++) {
    asked.push(rawRequest(url, post(CHAT, `${i}`)))
    await until(() => tickets.inFlight + tickets.waiting === i + 1)
  }
  gate.resolve()
  await Promise.all(asked)
  t.strictSame(seen.bodies, ['0', '1', '2', '3', '4', '5', '6', '7'])
})

const SHAPES = [
  [CHAT, { error: { code: 'over_capacity', type: 'invalid_request_error' } }],
  ['/v1/messages', { type: 'error', error: { code: 'over_capacity', type: 'rate_limit_error' } }],
  ['/v1beta/models/m:generateContent', { error: { status: 'RESOURCE_EXHAUSTED' } }],
] as const

t.test('L24: over max_queue requests get 429 in their own shape, with Retry-After', async (t) => {
  const options = { maxInFlight: 1, maxQueue: 0 }
  const { url, gate, upstream, file, supervisor } = await setUp(t, options)
  const first = rawRequest(url, post(CHAT, '{}'))
  await upstream.exchange(0)
  for (const [path, shape] of SHAPES) {
    const { status, headers, body } = await rawRequest(url, post(path, '{}'))
    t.equal(status, 429, path)
    t.match(valueOf(headers, 'retry-after'), /^\d+$/)
    t.match(JSON.parse(body.toString()), shape)
  }
  gate.resolve()
  t.equal((await first).status, 200)
  await supervisor.close()
  const outcomes = (await recordsOf(file)).map(({ outcome }) => outcome)
  t.strictSame(outcomes, ['complete', 'refused', 'refused', 'refused'])
})

t.test('L24: who waits for queue_timeout in vain gets 429, and is not forwarded', async (t) => {
  const options = { maxInFlight: 1, queueTimeout: '100ms' }
  const { url, gate, upstream, isIdle, until } = await setUp(t, options)
  const first = rawRequest(url, post(CHAT, '{}'))
  await upstream.exchange(0)
  const { status, body } = await rawRequest(url, post(CHAT, '{}'))
  t.equal(status, 429)
  t.match(body.toString(), /no place came free within queue_timeout \(100 ms\)/)
  gate.resolve()
  await first
  await until(isIdle)
  t.equal(upstream.exchanges.length, 1)
})

t.test('L24: clients that leave the line cost nothing, and no upstream is asked', async (t) => {
  const { url, gate, upstream, until, tickets, supervisor, file } = await setUp(t, {
    maxInFlight: 1,
  })
  const first = rawRequest(url, post(CHAT, '{}'))
  await upstream.exchange(0)
  const waiting = await Promise.all(Array.from({ length: 20 }, () => RawClient.open(url)))
  for (const client of waiting) client.send(post(CHAT, '{"left":1}'))
  await until(() => tickets.waiting === 20)
  waiting.forEach((client, i) => client.close(i % 2 === 0 ? 'end' : 'reset'))
  await until(() => tickets.waiting === 0)
  gate.resolve()
  t.equal((await first).status, 200)
  t.equal(upstream.exchanges.length, 1)
  await supervisor.close()
  const outcomes = (await recordsOf(file)).map(({ outcome }) => outcome)
  t.equal(outcomes.filter((outcome) => outcome === 'client_gone').length, 20)
})

for (const maxAttempts of [1, 2]) {
  const how = maxAttempts > 1 ? 'kept whole' : 'streamed'
  t.test(
    `L24: clients with long bodies (${how}) leave the line, and others come whole`,
    { timeout: 60_000 },
    async (t) => {
      // Nobody else takes them out of the line.
      const options = { maxInFlight: 1, maxQueue: 6, maxAttempts, queueTimeout: 0 }
      const { url, gate, upstream, until, tickets, seen } = await setUp(t, options)
      const first = rawRequest(url, post(CHAT, '{}'))
      await upstream.exchange(0)
      const gone = await Promise.all(Array.from({ length: 4 }, () => RawClient.open(url)))
      for (const client of gone) client.send(post(CHAT, Buffer.alloc(300_000, 'x')))
      await until(() => tickets.waiting === 4)
      const stays = [70_000, 3 << 20].map((bytes) => rawRequest(url, post(CHAT, patterned(bytes))))
      await until(() => tickets.waiting === 6)
      gone.forEach((client, i) => client.close(i % 2 === 0 ? 'end' : 'reset'))
      await until(() => tickets.waiting === 2)
      gate.resolve()
      for (const { status } of await Promise.all([first, ...stays])) t.equal(status, 200)
      t.equal(seen.bodies.length, 3)
      const bodies = await Promise.all([1, 2].map((n) => upstream.exchange(n)))
      const came = bodies.map(({ body }) => hash('sha1', body)).sort()
      t.strictSame(came, [70_000, 3 << 20].map((bytes) => hash('sha1', patterned(bytes))).sort())
    },
  )
}

t.test('L24: two lanes share one bound', async (t) => {
  const options = { maxInFlight: 3, lanes: 2 }
  const { url, gate, seen, isIdle, until, tickets } = await setUp(t, options)
  const asked = Array.from({ length: 60 }, (_, i) => rawRequest(url, post(CHAT, `${i}`)))
  await until(() => tickets.waiting === 57 && seen.now === 3)
  gate.resolve()
  const answers = await Promise.all(asked)
  t.ok(answers.every(({ status }) => status === 200))
  t.equal(seen.most, 3)
  await until(isIdle)
})

t.test('L24: bodies that are kept whole share a budget, and wait unread', async (t) => {
  const MiB = 1 << 20
  const options = { maxInFlightBytes: '20MiB', requestBodyBytesMax: '16MiB', maxAttempts: 2 }
  const { url, gate, seen, sums, isIdle, until } = await setUp(t, options)
  const body = Buffer.alloc(8 * MiB, 'x')
  const asked = Array.from({ length: 6 }, () => rawRequest(url, post(CHAT, body)))
  // Whoever looks for a place counts for a moment, also where there is none.
  const held = [2, 2 * (8 * 1024 + 64), 4]
  await until(() => seen.now === 2 && sums().join() === held.join())
  gate.resolve()
  t.ok((await Promise.all(asked)).every(({ status }) => status === 200))
  t.equal(seen.most, 2)
  t.strictSame(new Set(seen.bodies), new Set([`${8 * MiB}`]))
  await until(isIdle)
})

t.test('L24: a body of no known length that outgrows the budget gets 429', async (t) => {
  const options = { maxInFlightBytes: '5MiB', requestBodyBytesMax: '4MiB', maxAttempts: 2 }
  const { url, gate, seen, isIdle, until } = await setUp(t, options)
  const first = rawRequest(url, post(CHAT, Buffer.alloc(3 << 20, 'x')))
  await until(() => seen.now === 1)
  const client = await RawClient.open(url)
  client.send(`POST ${CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`)
  for (let i = 0; i < 3; i++) client.send(chunkOf(Buffer.alloc(1 << 20, 'y')))
  const { status, body } = await client.answer()
  t.equal(status, 429)
  t.match(body.toString(), /grown beyond what max_in_flight_bytes leaves/)
  client.close()
  gate.resolve()
  t.equal((await first).status, 200)
  await until(isIdle)
})

t.test('L24: a body of no known length fits in its budget, in however small pieces', async (t) => {
  const options = { maxInFlightBytes: '5MiB', requestBodyBytesMax: '4MiB', maxAttempts: 2 }
  const { url, gate, seen, isIdle, until } = await setUp(t, options)
  gate.resolve()
  const client = await RawClient.open(url)
  const pieces = 24 << 10
  client.send(`POST ${CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`)
  client.send(`40\r\n${'y'.repeat(64)}\r\n`.repeat(pieces) + '0\r\n\r\n')
  t.equal((await client.answer()).status, 200)
  client.close()
  t.strictSame(seen.bodies, [`${pieces * 64}`])
  await until(isIdle)
})

t.test('L24: a lane that is lost gives its places back', async (t) => {
  const started = await setUp(t, { maxInFlight: 2 }, MORTAL)
  const { url, gate, upstream, until, isIdle, tickets } = started
  const lost = await Promise.all(Array.from({ length: 5 }, () => RawClient.open(url)))
  for (const client of lost) client.send(post(CHAT, '{}'))
  await upstream.exchange(1)
  await until(() => tickets.waiting === 3)
  const channel = new BroadcastChannel('mortal-lane')
  channel.postMessage('exit')
  await Promise.all(lost.map(({ closed }) => closed))
  channel.close()
  await until(isIdle)
  gate.resolve()
  let status = 0
  while (status !== 200) {
    status = await rawRequest(url, post(CHAT, '{}')).then(
      (answer) => answer.status,
      () => 0,
    )
  }
  await until(isIdle)
})

/** What an upstream does with a request that says so. */
const UPSTREAM: Record<string, (x: ScriptedExchange) => unknown> = {
  whole: (x) => x.send(JSON_2, '{}'),
  'reset before the head': (x) => x.reset(),
  'reset amid the body': async (x) => {
    await x.send(responseHead(200, 'OK', [['Content-Length', '9']]), '{"a":')
    x.reset()
  },
  'not HTTP': (x) => x.send('SSH-2.0-OpenSSH_9.6\r\n\r\n'),
  'never answers': () => undefined,
  'stalls amid the body': (x) =>
    x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('a')),
}

/** What a client does. */
const CLIENT: Record<string, (url: string) => Promise<void>> = {
  'leaves at once': async (url) => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, 'never answers'))
    client.close()
  },
  'leaves amid its body': async (url) => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, 'whole, never').subarray(0, -5))
    await fetch(`${url}/health`)
    client.close('reset')
  },
  'leaves amid the answer': async (url) => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, 'stalls amid the body'))
    await client.until((bytes) => bytes.length > 0)
    client.close()
  },
  'stops amid its body': async (url) => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, 'whole, never').subarray(0, -5))
    await client.until((bytes) => bytes.includes('\r\n\r\n'))
    client.close()
  },
  'sends too much': async (url) => {
    const client = await RawClient.open(url)
    client.send(`POST ${CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n`)
    await client.answer()
    client.close()
  },
  'has a bad session': async (url) => {
    await rawRequest(url, post(CHAT, '{}', [`x-session-id: ${'s'.repeat(300)}`]))
  },
  'pipelines three': async (url) => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, 'whole'), post(CHAT, 'whole'), post(CHAT, 'whole'))
    // One that takes too long is cut, and those after it with it.
    for (let i = 0; i < 3; i++) await client.answer().catch(() => undefined)
    client.close()
  },
}

for (const what of Object.keys(UPSTREAM)) {
  CLIENT[`is there when the upstream: ${what}`] = async (url) => {
    const client = await RawClient.open(url)
    client.send(post(CHAT, what))
    await client.until((bytes) => bytes.includes('\r\n\r\n'))
    client.close()
  }
}

t.test('L24: whatever becomes of exchanges, at the end no place is taken', async (t) => {
  const upstream = await startScriptedUpstream((x) => UPSTREAM[x.body.toString()]?.(x))
  t.teardown(() => upstream.close())
  const { url, supervisor, isIdle, until } = await start(t, upstream.url, {
    maxInFlight: 3,
    maxQueue: 6,
    maxInFlightBytes: '1MiB',
    requestBodyBytesMax: '64KiB',
    lanes: 2,
    queueTimeout: '150ms',
    ttfbTimeout: '100ms',
    stallTimeout: '100ms',
    clientBodyTimeout: '100ms',
  })
  const fate = fc.constantFrom(...Object.keys(CLIENT))
  await fc.assert(
    fc.asyncProperty(fc.array(fate, { minLength: 8, maxLength: 24 }), async (fates) => {
      await Promise.all(fates.map((name) => CLIENT[name]?.(url)))
      // Some may still be on their way in; a place that is lost stays taken for good.
      await until(() => supervisor.counter('inFlight') === 0 && isIdle())
    }),
    { numRuns: 5, endOnFailure: true },
  )
})
