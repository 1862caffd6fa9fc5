/**
 * The systems compared. Each arm is started in front of the mock upstream's ports, pinned to the
 * core under test, and says which of its threads do the data plane's work.
 */
import type { ChildProcess } from 'node:child_process'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TEST_CORE, pinned } from './native.ts'

/** Where an arm finds the mock upstream. */
export interface Upstream {
  readonly port: number
  readonly ports: number
}

/** A running arm. */
export interface RunningArm {
  readonly port: number
  readonly ports: number
  readonly pids: readonly number[]
  /** True for the name of a thread that serves requests. */
  isLane(name: string): boolean
  /** Records written so far; undefined when the arm records nothing. */
  records(): number | undefined
  stop(): Promise<void>
}

/** An arm that can be started. */
export interface Arm {
  readonly name: string
  /** Why it cannot run here; undefined when it can. */
  missing(): string | undefined
  start(upstream: Upstream): Promise<RunningArm>
}

const MAIN = join(import.meta.dirname, '../src/main.ts')
const NGINX_PORT = 9760
/** Each rolltape arm gets the next one. */
let rolltapePort = 9780

/** No proxy: what the load generator and the mock cost by themselves. */
const direct: Arm = {
  name: 'direct',
  missing: () => undefined,
  start: async ({ port, ports }) => ({
    port,
    ports,
    pids: [],
    isLane: () => true,
    records: () => undefined,
    stop: async () => undefined,
  }),
}

/** nginx as a streaming reverse proxy with keep-alive upstreams. */
const nginx: Arm = {
  name: 'nginx',
  missing: () => {
    return spawnSync('nginx', ['-v']).error
      ? 'nginx is not installed: run with --set-up'
      : undefined
  },
  start: async (upstream) => {
    const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-nginx-'))
    const file = join(folder, 'nginx.conf')
    writeFileSync(file, nginxConfig(folder, upstream))
    const child = pinned(TEST_CORE, 'nginx', ['-c', file, '-p', folder])
    await listens(NGINX_PORT)
    const master = Number(readFileSync(join(folder, 'pid'), 'utf8'))
    return {
      port: NGINX_PORT,
      ports: 1,
      pids: childrenOf(master),
      isLane: () => true,
      records: () => undefined,
      stop: async () => {
        await stopped(child, master)
        rmSync(folder, { recursive: true, force: true })
      },
    }
  },
}

/** rolltape itself, as a user starts it. */
function rolltape(name: string, flags: readonly string[], recording: boolean): Arm {
  return {
    name,
    missing: () => undefined,
    start: async (upstream) => {
      const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
      const file = join(folder, 'a.jsonl')
      const port = rolltapePort++
      const bases = Array.from({ length: upstream.ports }, (_, i) => upstream.port + i)
      const all = [
        'serve',
        '--log-level=error',
        '--control=off',
        `--port=${port}`,
        ...bases.flatMap((port) => ['--proxy-base-url', `http://127.0.0.1:${port}`]),
        ...(recording ? ['--recording-file', file] : []),
        ...flags,
      ]
      const child = pinned(TEST_CORE, process.execPath, [MAIN, ...all])
      await listens(port)
      const { pid } = child
      if (pid === undefined) throw new Error('rolltape did not start')
      return {
        port,
        ports: 1,
        pids: [pid],
        isLane: (thread) => thread.startsWith('lane-'),
        records: () => (recording ? lines(file) : undefined),
        stop: async () => {
          await stopped(child, pid)
          rmSync(folder, { recursive: true, force: true })
        },
      }
    },
  }
}

/** All arms there are. */
export const ARMS: readonly Arm[] = [
  direct,
  nginx,
  rolltape('rolltape passthrough', [], false),
  rolltape('rolltape record', [], true),
  rolltape('rolltape record memory', ['--durability', 'memory'], true),
  rolltape('rolltape record synced', ['--durability', 'synced'], true),
]

function nginxConfig(folder: string, { port, ports }: Upstream): string {
  const servers = Array.from({ length: ports }, (_, i) => `server 127.0.0.1:${port + i};`)
  return `worker_processes 1; daemon off; pid ${folder}/pid; error_log ${folder}/error.log;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600;
  client_body_buffer_size 1m; client_max_body_size 100m;
  upstream mock { ${servers.join(' ')} keepalive 4096; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${NGINX_PORT} backlog=8192;
    location / {
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600;
    }
  }
}
`
}

/** Waits until something answers on a port; nothing may have been there before. */
async function listens(port: number): Promise<void> {
  const untilMs = performance.now() + 10_000
  while (performance.now() < untilMs) {
    try {
      await fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(1_000) })
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  throw new Error(`nothing listens on port ${port} after 10 s`)
}

async function stopped(child: ChildProcess, pid: number): Promise<void> {
  if (child.exitCode !== null) return
  const exited = once(child, 'exit')
  process.kill(pid, 'SIGTERM')
  await exited
}

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((entry) => parentOf(entry) === pid)
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return undefined
  }
}

function lines(file: string): number {
  let count = 0
  for (const byte of readFileSync(file)) if (byte === 10) count++
  return count
}
