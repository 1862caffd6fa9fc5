/**
 * Load that is out of measure, on the real program: bounds hold, errors are clear, another client is
 * served all the while, and memory and handles come back. LONG=1 for the full figures.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { ScriptedExchange } from '../../src/inference/raw.ts'
import { MAIN, rolltape } from '../cli/harness.ts'
import { ControlClient } from '../support/control-client.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'

const isLong = process.env['LONG'] === '1'
const pick = (quick: number, long: number): number => (isLong ? long : quick)
t.setTimeout(isLong ? 1_800_000 : 120_000)

const MiB = 1 << 20
const CHAT = '/v1/chat/completions'
const EVENTS: [string, string][] = [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
]
const STREAM = responseHead(200, 'OK', EVENTS)
const JSON_2 = responseHead(200, 'OK', [['Content-Length', '2']])
const eventOf = (content: string): string =>
  `data: ${JSON.stringify({ id: 'c', choices: [{ index: 0, delta: { content } }] })}\n\n`
const MARK = chunkOf('data: [DONE]\n\n')
/** Memory is known where the kernel tells of a process. */
const isLinux = process.platform === 'linux'

/** What the upstream does, by session. */
const scripts = new Map<string, (x: ScriptedExchange) => unknown>()
const upstream = await startScriptedUpstream((x) => {
  const script = scripts.get(x.header('x-session-id') ?? '')
  return script === undefined ? x.send(JSON_2, '{}') : script(x)
})
t.teardown(() => upstream.close())

const COLLECTOR = new URL('../support/collector.ts', import.meta.url).href
const file = join(makeFolder(t), 'a.jsonl')
const flags = ['--port', '0', '--control', '127.0.0.1:0', '--log-level', 'error']
const more = ['--proxy-base-url', upstream.url, '--recording-file', file]
const child = spawn(process.execPath, ['--import', COLLECTOR, MAIN, 'serve', ...flags, ...more], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
t.teardown(() => child.kill('SIGKILL'))
const exited = once(child, 'exit')
const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
const url = /http:\S+/.exec(line)?.[0] ?? ''
const control = new ControlClient(t, /control (\S+)/.exec(line)?.[1] ?? '')

/** Bytes of memory: now, or at most since it was last asked. */
function memory(which: 'VmRSS' | 'VmHWM'): number {
  if (!isLinux) return 0
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Number(new RegExp(`${which}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) * 1024
}

const handles = (): number => (isLinux ? readdirSync(`/proc/${child.pid}/fd`).length : 0)
const shown = (bytes: number): string => `${Math.round(bytes / MiB)} MiB`
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5))

/** A request of this session. */
const request = (session: string, body: string | Buffer = '{}', more: string[] = []): Buffer =>
  post(CHAT, body, [`X-Session-Id: ${session}`, ...more])

/** What one form of load came to. */
interface Load {
  readonly name: string
  /** Memory it may take at its height, beyond what there was. */
  readonly bytesMax: number
  /** Does it, to its end. */
  readonly run: (t: Test) => Promise<void>
}

/** Asks again and again, in a thread of its own; tells how long each took once it is told to stop. */
const NEIGHBOUR = `
  const { parentPort, workerData } = require('node:worker_threads')
  let isOver = false
  parentPort.once('message', () => (isOver = true))
  const headers = { 'x-session-id': 'neighbour' }
  async function run() {
    const waits = []
    while (!isOver || waits.length === 0) {
      const sinceMs = performance.now()
      const response = await fetch(workerData, { method: 'POST', body: '{}', headers })
      await response.text()
      waits.push({ ms: performance.now() - sinceMs, status: response.status })
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    parentPort.postMessage(waits)
  }
  void run()
`

/**
 * Memory beyond that at first that may be left after all of it, once garbage is collected; a derive
 * worker that is idle sleeps, and keeps that of its last answers.
 */
const LEFT_BYTES_MAX = pick(768, 1_024) * MiB

const first = { handles: 0, bytes: 0 }

/** The records of the largest load are made in less. */
const FLUSH_MS_MAX = pick(60_000, 600_000)

/** Memory beyond that which making those may take. */
const RECORDS_BYTES_MAX = 384 * MiB

/** Handles beyond those at first: idle connections of clients here, segments that are open. */
const HANDLES_MORE = 24

/** Waits until handles have come back: idle sockets to the upstream end by themselves within 4 s. */
async function returned(): Promise<number> {
  while (handles() > first.handles + HANDLES_MORE) await turn()
  return handles() - first.handles
}

/** Runs it while another client asks; looks at memory and handles. */
function under({ name, bytesMax, run }: Load): void {
  t.test(name, async (t) => {
    await rawRequest(url, request('before'))
    if (first.bytes === 0) Object.assign(first, { handles: handles(), bytes: memory('VmRSS') })
    const bytesBefore = memory('VmRSS')
    // From now on: what it takes at most.
    if (isLinux) writeFileSync(`/proc/${child.pid}/clear_refs`, '5')
    const neighbour = new Worker(NEIGHBOUR, { eval: true, workerData: url + CHAT })
    await run(t)
    const height = memory('VmHWM') - bytesBefore
    neighbour.postMessage('stop')
    const [waits] = (await once(neighbour, 'message')) as [{ ms: number; status: number }[]]
    // What its records take is not the next load's.
    await control.call('FlushRecording', {}, FLUSH_MS_MAX)
    const recorded = memory('VmHWM') - bytesBefore
    const times = waits.map(({ ms }) => ms).sort((a, b) => a - b)
    const left = isLong ? await returned() : handles() - first.handles
    t.comment(
      `${waits.length} exchanges of the neighbour, half within ${times[times.length >> 1]?.toFixed(0)} ms, ` +
        `all within ${times.at(-1)?.toFixed(0)} ms; ${shown(height)} at its height, ${shown(recorded)} with its records, ` +
        `${shown(memory('VmRSS') - bytesBefore)} after; ${left} handles more than at first`,
    )
    t.ok(
      waits.every(({ status }) => status === 200),
      'the neighbour is served all the while',
    )
    t.ok(height < bytesMax, `${shown(height)} of ${shown(bytesMax)}`)
    const most = bytesMax + RECORDS_BYTES_MAX
    t.ok(recorded < most, `${shown(recorded)} of ${shown(most)} with its records`)
  })
}

const STREAMS = pick(300, 4_000)
under({
  name: `${STREAMS} paced streams at once`,
  bytesMax: pick(256, 1_024) * MiB,
  async run(t) {
    const open: ScriptedExchange[] = []
    scripts.set('paced', async (x) => {
      await x.send(STREAM)
      open.push(x)
    })
    const clients = await Promise.all(Array.from({ length: STREAMS }, () => RawClient.open(url)))
    for (const client of clients) client.send(request('paced'))
    const answers = clients.map((client) => client.answer())
    while (open.length < STREAMS) await turn()
    for (let i = 0; i < pick(5, 50); i++) {
      for (const x of open) void x.send(chunkOf(eventOf(`${i} `)))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    for (const x of open) void x.send(MARK, lastChunk())
    const whole = (await Promise.all(answers)).filter((answer) => answer.whole)
    t.equal(whole.length, STREAMS)
    for (const client of clients) client.close()
  },
})

const BODIES = pick(10, 200)
under({
  name: `${BODIES} bodies of 8 MB at once`,
  bytesMax: 512 * MiB,
  async run(t) {
    scripts.set('large', (x) =>
      x.send(responseHead(200, 'OK', [['Content-Length', '7']]), `${x.body.length}`),
    )
    const body = Buffer.alloc(8 * MiB, 'x')
    const answers = await Promise.all(
      Array.from({ length: BODIES }, () => rawRequest(url, request('large', body))),
    )
    const right = answers.filter((answer) => answer.body.toString() === `${8 * MiB}`)
    t.equal(right.length, BODIES)
    upstream.exchanges.length = 0
    upstream.connections.length = 0
  },
})

const DROPPED = pick(500, 10_000)
under({
  name: `${DROPPED} connections opened and dropped`,
  bytesMax: 128 * MiB,
  async run(t) {
    const { hostname, port } = new URL(url)
    let dropped = 0
    const drop = (i: number): Promise<void> =>
      new Promise((resolve) => {
        const socket: Socket = connect(Number(port), hostname, () => {
          if (i % 3 === 1) socket.write('POST /v1/x HTTP/1.1\r\nHost')
          if (i % 2 === 0) socket.destroy()
          else socket.resetAndDestroy()
        })
        socket.once('error', () => undefined).once('close', () => resolve(void dropped++))
      })
    for (let from = 0; from < DROPPED; from += 500) {
      await Promise.all(Array.from({ length: 500 }, (_, i) => drop(from + i)))
    }
    t.equal(dropped, DROPPED)
  },
})

const READERS = pick(20, 100)
under({
  name: `${READERS} clients that read a byte at a time and leave`,
  bytesMax: 256 * MiB,
  async run(t) {
    let sent = 0
    const left: Promise<unknown>[] = []
    scripts.set('slow', async (x) => {
      left.push(x.connection.closed)
      await x.send(STREAM)
      const piece = chunkOf(eventOf('y'.repeat(65_536)))
      for (let i = 0; i < 1_000 && (await x.send(piece)); i++) sent += piece.length
    })
    const clients = await Promise.all(Array.from({ length: READERS }, () => RawClient.open(url)))
    for (const { socket } of clients) socket.pause()
    for (const client of clients) client.send(request('slow'))
    // The upstream stands still when two looks, many turns apart, see the same.
    for (let before = -1; before !== sent || sent === 0;) {
      before = sent
      for (let i = 0; i < 50; i++) await fetch(`${url}/health`)
      for (const { socket } of clients) socket.read(1)
    }
    t.ok(sent < READERS * 16 * MiB, `${shown(sent)} were sent, ${shown(sent / READERS)} each`)
    for (const client of clients) client.close()
    await Promise.all(left)
  },
})

const ENDLESS = pick(20, 100) * MiB
under({
  name: `an answer of ${shown(ENDLESS)} that does not end`,
  bytesMax: 256 * MiB,
  async run(t) {
    const left = Promise.withResolvers<unknown>()
    scripts.set('endless', async (x) => {
      left.resolve(x.connection.closed)
      await x.send(STREAM)
      const piece = chunkOf(eventOf('z'.repeat(16_000)))
      let isOpen = true
      while (isOpen) isOpen = await x.send(piece)
    })
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    socket.write(request('endless'))
    let got = 0
    for await (const bytes of socket) {
      got += (bytes as Buffer).length
      if (got > ENDLESS) break
    }
    t.ok(got > ENDLESS)
    await left.promise
  },
})

const EVENT = pick(8, 65) * MiB
under({
  name: `one event of ${shown(EVENT)}`,
  bytesMax: pick(512, 1_536) * MiB,
  async run(t) {
    const event = Buffer.from(eventOf('e'.repeat(EVENT)))
    scripts.set('event', (x) => x.send(STREAM, chunkOf(event), MARK, lastChunk()))
    t.equal(await length('event'), event.length + 'data: [DONE]\n\n'.length)
  },
})

const TINY = pick(20_000, 1_000_000)
under({
  name: `${TINY} tiny events`,
  bytesMax: pick(512, 1_536) * MiB,
  async run(t) {
    const event = eventOf('t')
    const many = chunkOf(event).toString().repeat(1_000)
    scripts.set('tiny', async (x) => {
      await x.send(STREAM)
      for (let i = 0; i < TINY; i += 1_000) await x.send(many)
      await x.send(MARK, lastChunk())
    })
    t.equal(await length('tiny'), TINY * event.length + 'data: [DONE]\n\n'.length)
  },
})

under({
  name: '10,000 headers pass, over the bound of bytes they are refused',
  bytesMax: 128 * MiB,
  async run(t) {
    scripts.set('headers', (x) => {
      const passed = `${x.head.headers.filter(([name]) => name === 'a').length}`
      return x.send(responseHead(200, 'OK', [['Content-Length', `${passed.length}`]]), passed)
    })
    const many = Array.from({ length: 10_000 }, () => 'a: b')
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => rawRequest(url, request('headers', '{}', many))),
    )
    t.ok(answers.every(({ body }) => body.toString() === '10000'))
    const more = Array.from({ length: 40_000 }, () => 'a: b')
    t.equal((await rawRequest(url, request('headers', '{}', more))).status, 431)
  },
})

/** Bytes of an answer's body, its framing taken off by fetch. */
async function length(session: string): Promise<number> {
  const headers = { 'x-session-id': session }
  const response = await fetch(url + CHAT, { method: 'POST', body: '{}', headers })
  let bytes = 0
  for await (const part of response.body ?? []) bytes += (part as Uint8Array).length
  return bytes
}

t.test('all of it is recorded, once each, and the program ends in order', async (t) => {
  const handlesMore = await returned()
  const garbage = memory('VmRSS') - first.bytes
  // Records of the last load may still be made, and each thread collects once it gets to it.
  let left = garbage
  while (left >= LEFT_BYTES_MAX) {
    child.kill('SIGUSR2')
    await new Promise((resolve) => setTimeout(resolve, 100))
    left = memory('VmRSS') - first.bytes
  }
  t.comment(
    `${handlesMore} handles more, ${shown(garbage)} more with garbage, ${shown(left)} without`,
  )
  child.kill('SIGTERM')
  t.strictSame(await exited, [0, null])
  const bySession = new Map<string, string[]>()
  for (const { session, outcome, error } of await recordsOf(file)) {
    const told = outcome === 'complete' && error !== null ? `${outcome}: ${error}` : outcome
    bySession.set(session, [...(bySession.get(session) ?? []), told])
  }
  const told = (session: string): [number, string[]] => {
    const all = bySession.get(session) ?? []
    return [all.length, [...new Set(all)].sort()]
  }
  t.strictSame(told('paced'), [STREAMS, ['complete']])
  t.strictSame(told('large'), [BODIES, ['complete']])
  t.strictSame(told('slow'), [READERS, ['client_gone']])
  t.strictSame(told('endless'), [1, ['client_gone']])
  t.strictSame(told('tiny'), [1, ['complete']])
  t.strictSame(told('headers'), [10, ['complete']])
  t.strictSame(told('neighbour')[1], ['complete'])
  t.equal(told('event')[0], 1)
  if (!isLong) t.strictSame(told('event')[1], ['complete'])
  const { code, stdout } = await rolltape(['verify', file, '--json'])
  t.match([code, JSON.parse(stdout)], [0, { whole: true }])
})
