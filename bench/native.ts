/**
 * The two C programs of the bench: compiled once with the system's compiler into a folder of their
 * own, then started pinned to the core that the system under test does not use.
 */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** Core of the mock upstream and the load generator. */
export const LOAD_CORE = 1
/** Core of the system under test. */
export const TEST_CORE = 0

const SOURCES = join(import.meta.dirname, 'native')
const BUILD = join(import.meta.dirname, '.build')
const FLAGS = ['-O2', '-Wall', '-Wextra', '-D_GNU_SOURCE']

/** Quantiles of one histogram, in µs. */
export interface Quantiles {
  readonly count: number
  readonly p50_us: number
  readonly p90_us: number
  readonly p99_us: number
  readonly max_us: number
}

/** What one run of the load generator saw. */
export interface LoadResult {
  readonly seconds: number
  /** Requests and events of the whole run; the figures below leave out its beginning. */
  readonly all_done: number
  readonly all_events: number
  readonly done: number
  readonly failed: number
  readonly missed: number
  readonly events: number
  readonly events_bad: number
  readonly bytes: number
  readonly latency: Quantiles
  readonly ttfb: Quantiles
  /** Streams: from an event's stamp in the mock to the client. */
  readonly added: Quantiles
  /** Streams: how far the time between two events is off the pace. */
  readonly gap: Quantiles
}

/** One load to generate. */
export interface Load {
  readonly connections: number
  readonly seconds: number
  readonly requestBytes: number
  readonly target: string
  /** Requests a second; closed-loop without. */
  readonly rate?: number
}

/** Compiles what is missing or older than its source; a string says why that cannot be done. */
export function compile(): string | undefined {
  mkdirSync(BUILD, { recursive: true })
  for (const name of ['mock', 'load']) {
    const source = join(SOURCES, `${name}.c`)
    const binary = join(BUILD, name)
    const newest = Math.max(statSync(source).mtimeMs, statSync(join(SOURCES, 'net.h')).mtimeMs)
    if (existsSync(binary) && statSync(binary).mtimeMs > newest) continue
    try {
      execFileSync('cc', [...FLAGS, '-o', binary, source], { stdio: 'pipe' })
    } catch (error) {
      return `cc could not compile ${source}: ${String(error)}`
    }
  }
  return undefined
}

/** Starts the mock upstream on `ports` ports from `first`; resolves when it listens. */
export async function startMock(first: number, ports: number): Promise<ChildProcess> {
  const child = pinned(LOAD_CORE, join(BUILD, 'mock'), [String(first), String(ports)])
  if (child.stdout === null) throw new TypeError('the mock has no stdout')
  const ended = once(child, 'close').then(() => {
    throw new Error(
      `the mock cannot listen on ports ${first} to ${first + ports - 1}: does another bench run?`,
    )
  })
  await Promise.race([once(child.stdout, 'data'), ended])
  ended.catch(() => undefined)
  return child
}

/** What a load is told besides. */
export interface LoadExtras {
  /** More header lines in each request, each with its CRLF. */
  readonly headers?: string | undefined
  /** Called once connections are up, and what comes counts. */
  readonly onMeasuring?: () => void
}

/** Runs one load against `ports` ports from `first`. */
export async function runLoad(
  first: number,
  ports: number,
  load: Load,
  { headers = '', onMeasuring }: LoadExtras = {},
): Promise<LoadResult> {
  const args = [first, ports, load.connections, load.seconds, load.requestBytes, load.target]
  if (load.rate !== undefined) args.push(load.rate)
  const child = pinned(LOAD_CORE, join(BUILD, 'load'), args.map(String), { LOAD_HEADERS: headers })
  let text = ''
  child.stdout?.on('data', (bytes: Buffer) => {
    if (text === '') onMeasuring?.()
    text += bytes.toString()
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`load ended with code ${String(code)}`)
  return JSON.parse(text.slice(text.indexOf('{'))) as LoadResult
}

/** The body that the load generator sends: one JSON object of so many bytes. */
export function requestBody(bytes: number): string {
  const [front, back] = ['{"model":"m","messages":[{"role":"user","content":"', '"}]}']
  return front + 'z'.repeat(bytes - front.length - back.length) + back
}

/** What was started and has not ended. */
const running = new Set<ChildProcess>()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    for (const child of running) child.kill()
    process.kill(process.pid, signal)
  })
}

/** Starts a program on one core. It does not outlive the bench. */
export function pinned(
  core: number,
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const child = spawn('taskset', ['-c', String(core), command, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  running.add(child)
  child.once('close', () => running.delete(child))
  return child
}
