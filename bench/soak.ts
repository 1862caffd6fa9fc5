/**
 * `npm run bench -- soak`: one rolltape under a steady mix for as long as is wanted: unary requests,
 * paced streams, clients that leave, rotations and switches between recording and passing through.
 * What is looked at: memory, open files and sockets, threads; and at the end whether the recording
 * is whole. All load is bounded in rate and time.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { RawClient, post } from '../test/support/raw-client.ts'
import { freePort, listens, stopped } from './arms/arm.ts'
import { residentBytes } from './cpu.ts'
import { TEST_CORE, pinned, runLoad, startMock } from './native.ts'
import type { Load, LoadResult } from './native.ts'
import { MOCK_PORT, MOCK_PORTS, keep, machine } from './results.ts'

const run = promisify(execFile)
const MAIN = join(import.meta.dirname, '../src/main.ts')
const CHAT = '/v1/chat/completions'
/** One piece of load; the mix is repeated until the time is over. */
const PIECE_SECONDS = 20
const LOOK_MS = 5_000
const UNARY: Load = {
  connections: 32,
  seconds: PIECE_SECONDS,
  requestBytes: 2048,
  target: `${CHAT}?bytes=2048`,
  rate: 300,
}
const STREAMS: Load = {
  connections: 200,
  seconds: PIECE_SECONDS,
  requestBytes: 1024,
  target: `${CHAT}?bytes=300&events=40&interval_us=100000`,
}
/** Streams that a client leaves, in each piece. */
const ABANDONED = 200
/** The beginning is warm-up: compilers, pools, caches. */
const WARM_PART = 0.25

/** What is known of the process at one time. */
interface Look {
  readonly minutes: number
  readonly rssMiB: number
  readonly files: number
  readonly sockets: number
  readonly threads: number
}

/** Runs for so many minutes, prints a table, keeps the figures. */
export async function soak(minutes: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'rolltape-soak-'))
  const file = join(folder, 'a.jsonl')
  const [port, control] = [await freePort(), await freePort()]
  const mock = await startMock(MOCK_PORT, MOCK_PORTS)
  const bases = Array.from({ length: MOCK_PORTS }, (_, i) => `http://127.0.0.1:${MOCK_PORT + i}`)
  const child = pinned(TEST_CORE, process.execPath, [
    MAIN,
    'serve',
    '--log-level=error',
    `--port=${port}`,
    `--recording-file=${file}`,
    `--control=127.0.0.1:${control}`,
    '--drain-timeout=30',
    ...bases.flatMap((base) => ['--proxy-base-url', base]),
  ])
  const looks: Look[] = []
  try {
    await listens(port, child)
    const startMs = performance.now()
    const look = (): void => {
      looks.push(lookAt(child.pid ?? 0, (performance.now() - startMs) / 60_000))
      const { minutes: at, rssMiB, files } = looks.at(-1) as Look
      process.stderr.write(`${at.toFixed(1)} min: ${rssMiB.toFixed(0)} MiB, ${files} files\n`)
    }
    const timer = setInterval(look, LOOK_MS)
    const totals = await mixed(port, control, startMs + minutes * 60_000)
    clearInterval(timer)
    await stopped(child)
    const whole = await verified(file)
    tell(looks, totals, whole, minutes)
  } finally {
    await stopped(child)
    mock.kill()
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Totals {
  requests: number
  events: number
  abandoned: number
  rotations: number
  switches: number
}

/** Pieces of load, with rotations and switches of mode between and during them. */
async function mixed(port: number, control: number, untilMs: number): Promise<Totals> {
  const totals = { requests: 0, events: 0, abandoned: 0, rotations: 0, switches: 0 }
  const steer = (...order: string[]): Promise<unknown> =>
    run(process.execPath, [MAIN, 'ctl', ...order, '--control', `127.0.0.1:${control}`])
  while (performance.now() < untilMs) {
    const load = [runLoad(port, 1, UNARY), runLoad(port, 1, STREAMS)]
    const steering = async (): Promise<void> => {
      await steer('rotate')
      totals.rotations++
      await steer('mode', 'passthrough')
      await steer('mode', 'record')
      totals.switches += 2
      await steer('rotate')
      totals.rotations++
    }
    const [results] = await Promise.all([Promise.all(load), abandon(port), steering()])
    for (const result of results) checked(result)
    totals.requests += results.reduce((sum, { all_done: done }) => sum + done, 0)
    totals.events += results.reduce((sum, { all_events: events }) => sum + events, 0)
    totals.abandoned += ABANDONED
  }
  return totals
}

function checked({ failed, events_bad: bad }: LoadResult): void {
  if (failed + bad > 0) throw new Error(`${failed} answers failed, ${bad} events lost or changed`)
}

async function abandon(port: number): Promise<void> {
  for (let i = 0; i < ABANDONED; i++) {
    const client = await RawClient.open(`http://127.0.0.1:${port}`)
    client.send(post(`${CHAT}?bytes=300&events=1000&interval_us=50000`, '{"model":"m"}'))
    await client.until((bytes) => bytes.includes('data:'))
    client.close(i % 2 === 0 ? 'end' : 'reset')
  }
}

function lookAt(pid: number, minutes: number): Look {
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      return ''
    }
  })
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return {
    minutes,
    rssMiB: residentBytes(pid) / 1048576,
    files: links.filter((link) => link !== '').length,
    sockets: links.filter((link) => link.startsWith('socket:')).length,
    threads: Number(/Threads:\s+(\d+)/.exec(status)?.[1] ?? 0),
  }
}

/** What `rolltape verify` concludes of the whole recording. */
async function verified(file: string): Promise<string> {
  const child = spawn(process.execPath, [MAIN, 'verify', file, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (bytes: Buffer) => (text += bytes.toString()))
  const [code] = await once(child, 'close')
  return code === 0 ? 'whole' : `not whole (exit code ${String(code)}): ${text.slice(0, 400)}`
}

function tell(looks: readonly Look[], totals: Totals, whole: string, minutes: number): void {
  const counted = looks.slice(Math.floor(looks.length * WARM_PART))
  const keys = ['rssMiB', 'files', 'sockets', 'threads'] as const
  const rows = keys.map((key) => {
    const values = counted.map((look) => look[key])
    const growth = slope(counted.map((look) => [look.minutes, look[key]]))
    const ends = [values[0] ?? 0, values.at(-1) ?? 0, Math.max(...values)]
    return `| ${key} | ${ends.map((value) => value.toFixed(0)).join(' | ')} | ${growth.toFixed(3)} |`
  })
  const text = [
    `### soak: ${minutes} minutes, the first quarter left out as warm-up`,
    '',
    `${totals.requests} requests answered, ${totals.events} events, ${totals.abandoned} streams abandoned,`,
    `${totals.rotations} rotations, ${totals.switches} switches; the recording is ${whole}`,
    '',
    '| | begin | end | most | growth a minute |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n')
  process.stdout.write(text)
  const date = new Date().toISOString().slice(0, 10)
  keep(
    `${date}-soak.json`,
    `${JSON.stringify({ date, machine: machine(), totals, whole, looks })}\n`,
  )
}

/** Slope of the straight line that fits best. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (pick: 0 | 1): number =>
    points.reduce((sum, point) => sum + point[pick], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const above = points.reduce((sum, [px, py]) => sum + (px - x) * (py - y), 0)
  const below = points.reduce((sum, [px]) => sum + (px - x) ** 2, 0)
  return below === 0 ? 0 : above / below
}
