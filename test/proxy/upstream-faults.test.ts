// An upstream that fails at every place an answer has: what the client sees, what the record says,
// and that neither its sockets nor the requests after it suffer.
import t from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { ScriptedExchange, Step } from '../../src/inference/raw.ts'
import { INTERIM_ANSWERS_MAX, RESPONSE_HEAD_BYTES_MAX } from '../../src/limits.ts'
import type { HeaderPair } from '../../src/tape/exchange.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const OK = '{"ok":1}'
const EVENT = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
const MARK = 'data: [DONE]\n\n'

type Script = (x: ScriptedExchange) => unknown

/** `what` the client sees: status, or status and how much of a body that is cut; the error's code. */
type Seen = readonly [status: number, body: string, whole: boolean]

interface Fault {
  readonly name: string
  readonly script: Script
  readonly seen: Seen
  /** Code in the record's error; undefined where the answer is complete. */
  readonly code?: string
}

const sized = (length: number | string, ...more: HeaderPair[]): Buffer =>
  responseHead(200, 'OK', [['Content-Length', `${length}`], ...more])
const JSON_HEAD = sized(OK.length)
const STREAM = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const raw = (text: string): string => `${text}\r\nContent-Length: ${OK.length}\r\n\r\n${OK}`

/** Sends this, and then nothing more. */
const send =
  (...steps: Step[]): Script =>
  (x) =>
    x.send(...steps)

/** Sends this, then closes with FIN. */
const fin =
  (...steps: Step[]): Script =>
  async (x) => {
    await x.send(...steps)
    await x.end()
  }

/** Goes on until it is closed. */
const flood =
  (first: Step[], again: string): Script =>
  async (x) => {
    let open = await x.send(...first)
    while (open) open = await x.send(again)
  }

const BROKEN = { seen: [502, 'upstream_reset', true], code: 'upstream_reset' } as const
const UNSOUND = { seen: [502, 'upstream_invalid', true], code: 'upstream_invalid' } as const
const cut = (body: string, code = 'upstream_reset') => ({ seen: [200, body, false], code }) as const
const fine = (body = OK) => ({ seen: [200, body, true] }) as const

/** Places in an answer, and what has come of it by then. */
const PLACES: readonly (readonly [
  where: string,
  sent: Step[],
  after: typeof BROKEN | ReturnType<typeof cut>,
])[] = [
  ['before the head', [], BROKEN],
  ['in the status line', ['HTTP/1.1 2'], BROKEN],
  ['in the head', ['HTTP/1.1 200 OK\r\nContent-Le'], BROKEN],
  ['after an interim head', ['HTTP/1.1 103 Early Hints\r\n\r\n'], BROKEN],
  ['after the head, with a length', [sized(9)], cut('')],
  ['after the head, chunked', [STREAM], cut('')],
  ['amid the body, with a length', [sized(9), '{"a"'], cut('{"a"')],
  ['in the size of a chunk', [STREAM, chunkOf(EVENT), '1'], cut(EVENT)],
  ['amid a chunk', [STREAM, chunkOf(EVENT).subarray(0, 20)], cut(EVENT.slice(0, 16))],
  ['before the last chunk', [STREAM, chunkOf(EVENT)], cut(EVENT)],
  ['in the last chunk', [STREAM, chunkOf(EVENT), '0\r\n'], cut(EVENT)],
]

const FAULTS: Fault[] = [
  ...PLACES.map(([where, sent, after]) => ({
    name: `R14 R15: FIN ${where}`,
    script: fin(...sent),
    ...after,
  })),
  {
    name: 'R18: FIN after the terminal mark, before the last chunk: complete, and cut off',
    script: fin(STREAM, chunkOf(EVENT), chunkOf(MARK)),
    seen: [200, EVENT + MARK, false],
  },
  { name: 'a length that is too long', script: fin(sized(OK.length + 1), OK), ...cut(OK) },
  { name: 'a length that is too short', script: send(JSON_HEAD, `${OK}more`), ...fine() },
  {
    name: 'another answer behind the length goes to nobody',
    script: send(JSON_HEAD, `${OK}${raw('HTTP/1.1 200 OK')}`),
    ...fine(),
  },
  ...['-2', 'abc', '', '8, 9', '0x8', '1180591620717411303424'].map((length) => ({
    name: `Content-Length ${JSON.stringify(length)}`,
    script: fin(sized(length), OK),
    ...UNSOUND,
  })),
  {
    name: 'two lengths that differ',
    script: fin(sized(OK.length, ['Content-Length', '9']), OK),
    ...UNSOUND,
  },
  ...['chunked', 'gzip, chunked'].flatMap((coding) => [
    {
      name: `a length and the transfer coding ${coding}`,
      script: fin(sized(9, ['Transfer-Encoding', coding]), chunkOf(OK), lastChunk()),
      ...UNSOUND,
    },
    {
      name: `the transfer coding ${coding} and a length`,
      script: fin(
        responseHead(200, 'OK', [
          ['Transfer-Encoding', coding],
          ['Content-Length', '9'],
        ]),
        chunkOf(OK),
        lastChunk(),
      ),
      ...UNSOUND,
    },
  ]),
  {
    name: 'a transfer coding that is not passed on is none the client could know of',
    script: send(responseHead(200, 'OK', [['Transfer-Encoding', 'gzip, chunked']]), chunkOf(OK)),
    ...UNSOUND,
  },
  ...['zz\r\n', '-1\r\n', `${'f'.repeat(17)}\r\n`].map((size) => ({
    name: `a chunk of size ${size.trim()}`,
    script: send(STREAM, chunkOf(EVENT), size),
    ...cut(EVENT, 'upstream_invalid'),
  })),
  ...[
    'SSH-2.0-OpenSSH_9.6',
    '<html>hello</html>',
    '\u0015\u0003\u0003\u0000\u0002\u0002\u0028',
    'HTTP/3.0 200 OK',
    'HTTP/1.1 abc OK',
    'HTTP/1.1 99 OK',
    'HTTP/1.1 099 OK',
    'HTTP/1.1 000 OK',
    'HTTP/1.1 9999 OK',
    'HTTP/1.1 200 OK\r\nno colon',
    'HTTP/1.1 200 OK\r\nfoo: a\u0000b',
    'HTTP/1.1 200 OK\r\nfoo: a\r\n folded',
    'HTTP/1.1 200 OK\nfoo: bare LF',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade',
  ].map((text) => ({ name: `${JSON.stringify(text)}`, script: send(raw(text)), ...UNSOUND })),
  { name: 'HTTP/1.0', script: fin(raw('HTTP/1.0 200 OK')), ...fine() },
  { name: 'a status line without a reason', script: send(raw('HTTP/1.1 200')), ...fine() },
  {
    name: `${INTERIM_ANSWERS_MAX} interim answers, and one`,
    script: send('HTTP/1.1 102 P\r\n\r\n'.repeat(INTERIM_ANSWERS_MAX), JSON_HEAD, OK),
    ...fine(),
  },
  {
    name: 'interim answers without an end',
    script: flood([], 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(100)),
    ...UNSOUND,
  },
  {
    name: '10,000 headers within the bound',
    script: send(raw(`HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(9_999)}a: b`)),
    ...fine(),
  },
  {
    name: 'a head over the bound',
    script: send(raw(`HTTP/1.1 200 OK\r\na: ${'b'.repeat(RESPONSE_HEAD_BYTES_MAX)}`)),
    ...UNSOUND,
  },
  {
    name: 'headers without an end',
    script: flood(['HTTP/1.1 200 OK\r\n'], 'a: b\r\n'),
    ...UNSOUND,
  },
  {
    name: 'a header without an end',
    script: flood(['HTTP/1.1 200 OK\r\na: '], 'b'.repeat(1_000)),
    ...UNSOUND,
  },
  {
    name: 'trailers without an end, after the terminal mark',
    script: flood([STREAM, chunkOf(EVENT), chunkOf(MARK), '0\r\n'], 'a: b\r\n'),
    seen: [200, EVENT + MARK, false],
  },
  {
    name: 'a body where there is none',
    script: send(`HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}`),
    seen: [204, '', true],
  },
]

/** Client and record of a fault. */
t.test('M39: whatever an upstream does, the client is told and one record says so', async (t) => {
  let script: Script = send(JSON_HEAD, OK)
  const upstream = await startScriptedUpstream((x) => script(x))
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  const all: Seen[] = []
  for (const fault of FAULTS) {
    script = fault.script
    const client = await RawClient.open(recorder.url)
    client.send(post(CHAT, '{}'))
    const { status, body, whole } = await client.answer()
    const own = status === 502 ? JSON.parse(body.toString()).error.code : body.toString()
    all.push([status, own, whole])
    client.close()
    script = send(JSON_HEAD, OK)
    const next = await rawRequest(recorder.url, post(CHAT, '{}'))
    t.strictSame([next.status, next.body.toString()], [200, OK], `after ${fault.name}`)
  }
  // At most the one to be used again is left, once this side has seen the others go.
  while (upstream.open > 1) await new Promise((resolve) => setImmediate(resolve))
  const records = await recorder.finish()
  t.equal(records.length, FAULTS.length * 2, 'one record each')
  for (const [i, { name, seen, code }] of FAULTS.entries()) {
    t.strictSame(all[i], seen, name)
    const record = records[2 * i]
    const outcome = code === undefined ? 'complete' : 'upstream_error'
    t.strictSame([record?.outcome, record?.http_status], [outcome, seen[0]], name)
    if (code !== undefined) t.match(record?.error, code, name)
  }
})

t.test('R14 R15: a reset is told like an end at the same place', async (t) => {
  let sent: readonly Step[] = []
  const upstream = await startScriptedUpstream((x) => x.send(...sent))
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  for (const [i, [where, steps, { seen }]] of PLACES.entries()) {
    sent = steps
    const client = await RawClient.open(recorder.url)
    client.send(post(CHAT, '{}'))
    const exchange = await upstream.exchange(i)
    const [status, body] = seen
    // A reset overtakes what was sent: it comes once the client has what is to come.
    if (status === 200) await client.until((bytes) => bytes.includes(body) && bytes.length > 0)
    exchange.reset()
    const answer = await client.answer()
    const got = status === 502 ? JSON.parse(answer.body.toString()).error.code : `${answer.body}`
    t.strictSame([answer.status, got, answer.whole], seen, where)
    client.close()
  }
  const records = await recorder.finish()
  t.equal(records.length, PLACES.length)
  for (const [i, [where, , { seen, code }]] of PLACES.entries()) {
    const expected = { outcome: 'upstream_error', http_status: seen[0], error: RegExp(code) }
    t.match(records[i], expected, where)
  }
})

t.test('R11: a dead idle socket is worth one try, also where that one dies too', async (t) => {
  let first = true
  const upstream = await startScriptedUpstream((x) => {
    if (!first) return x.reset()
    first = false
    return x.send(JSON_HEAD, OK)
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  t.equal((await rawRequest(recorder.url, post(CHAT, '{}'))).status, 200)
  const { status, body } = await rawRequest(recorder.url, post(CHAT, '{}'))
  t.strictSame([status, JSON.parse(body.toString()).error.code], [502, 'upstream_reset'])
  t.equal(upstream.exchanges.length, 3)
  t.equal(upstream.connections.length, 2)
  const [, record] = await recorder.finish()
  t.strictSame(
    record?.attempts.map(({ error }) => error),
    ['upstream_reset', 'upstream_reset'],
  )
})

t.test('R11: a reused socket that dies after a byte of an answer is not tried again', async (t) => {
  const upstream = await startScriptedUpstream(async (x) => {
    if (x.index === 0) return x.send(JSON_HEAD, OK)
    await x.send('HTTP/1.1 200 OK\r\n')
    return x.end()
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  t.equal((await rawRequest(recorder.url, post(CHAT, '{}'))).status, 200)
  t.equal((await rawRequest(recorder.url, post(CHAT, '{}'))).status, 502)
  t.strictSame([upstream.exchanges.length, upstream.connections.length], [2, 1])
  await recorder.finish()
})

t.test(
  'M35 M36: an upstream that is gone without a word is given up by its deadline',
  async (t) => {
    // The socket stays open and nothing comes any more: as for a host that has lost its network.
    const upstream = await startScriptedUpstream((x) => {
      if (x.body.includes('idle')) return x.send(JSON_HEAD, OK)
      return x.body.includes('amid') ? x.send(STREAM, chunkOf(EVENT)) : undefined
    })
    t.teardown(() => upstream.close())
    // Longer than a thread stands still now and then: what is answered must have its answer.
    const options = { ttfbTimeout: '2s', stallTimeout: '2s' }
    const recorder = await startRecorder(t, upstream.url, options)
    await rawRequest(recorder.url, post(CHAT, '{"on an":"idle socket"}'))
    const reused = await rawRequest(recorder.url, post(CHAT, '{}'))
    t.strictSame([reused.status, upstream.connections.length], [504, 1], 'not tried again')
    const amid = await rawRequest(recorder.url, post(CHAT, '{"amid":1}'))
    t.strictSame([amid.status, amid.whole, amid.body.toString()], [200, false, EVENT])
    await Promise.all(upstream.connections.map(({ closed }) => closed))
    const outcomes = (await recorder.finish()).map(({ outcome }) => outcome)
    t.strictSame(outcomes, ['complete', 'timeout', 'timeout'])
  },
)

t.test(
  'R14: connections that are reset as soon as they are there: 502, each recorded',
  async (t) => {
    const upstream = await startScriptedUpstream(() => undefined)
    t.teardown(() => upstream.close())
    const recorder = await startRecorder(t, upstream.url)
    for (let i = 0; i < 5; i++) {
      const asked = rawRequest(recorder.url, post(CHAT, '{}'))
      const { socket } = await upstream.connection(i)
      socket.resetAndDestroy()
      t.equal((await asked).status, 502)
    }
    const records = await recorder.finish()
    t.equal(records.filter(({ outcome }) => outcome === 'upstream_error').length, 5)
  },
)
