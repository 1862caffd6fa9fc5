/** The two proxies everybody knows: what a byte through a proxy costs at least. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TEST_CORE, pinned } from '../native.ts'
import { childrenOf, everyThread, freePort, listens, missingProgram } from './arm.ts'
import { noRecords, stopped } from './arm.ts'
import type { Arm, Upstream } from './arm.ts'

/** No proxy: what the load generator and the mock cost by themselves. */
export const direct: Arm = {
  name: 'direct',
  missing: () => undefined,
  start: async ({ port, ports }) => ({
    port,
    ports,
    pids: [],
    isLane: everyThread,
    records: noRecords,
    stop: async () => undefined,
  }),
}

/** nginx as a streaming reverse proxy with keep-alive upstreams. */
export const nginx: Arm = {
  name: 'nginx',
  missing: () => missingProgram('nginx', '-v'),
  start: async (upstream) => {
    const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
    const port = await freePort()
    writeFileSync(join(folder, 'nginx.conf'), nginxConfig(folder, port, upstream))
    const child = pinned(TEST_CORE, 'nginx', ['-c', join(folder, 'nginx.conf'), '-p', folder])
    await listens(port, child)
    const master = Number(readFileSync(join(folder, 'pid'), 'utf8'))
    return {
      port,
      ports: 1,
      pids: childrenOf(master),
      isLane: everyThread,
      records: noRecords,
      stop: async () => {
        await stopped(child, master)
        rmSync(folder, { recursive: true, force: true })
      },
    }
  },
}

/** haproxy, in HTTP mode on one thread. */
export const haproxy: Arm = {
  name: 'haproxy',
  missing: () => missingProgram('haproxy', '-v'),
  start: async (upstream) => {
    const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
    const port = await freePort()
    writeFileSync(join(folder, 'haproxy.cfg'), haproxyConfig(port, upstream))
    const child = pinned(TEST_CORE, 'haproxy', ['-f', join(folder, 'haproxy.cfg'), '-db'])
    await listens(port, child)
    return {
      port,
      ports: 1,
      pids: [child.pid ?? 0, ...childrenOf(child.pid ?? 0)],
      isLane: everyThread,
      records: noRecords,
      stop: async () => {
        await stopped(child)
        rmSync(folder, { recursive: true, force: true })
      },
    }
  },
}

function nginxConfig(folder: string, listen: number, { port, ports }: Upstream): string {
  const servers = Array.from({ length: ports }, (_, i) => `server 127.0.0.1:${port + i};`)
  return `worker_processes 1; daemon off; pid ${folder}/pid; error_log ${folder}/error.log;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600;
  client_body_buffer_size 1m; client_max_body_size 100m;
  upstream mock { ${servers.join(' ')} keepalive 4096; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${listen} backlog=8192;
    location / {
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600;
    }
  }
}
`
}

function haproxyConfig(listen: number, { port, ports }: Upstream): string {
  const servers = Array.from({ length: ports }, (_, i) => `  server s${i} 127.0.0.1:${port + i}`)
  return `global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 30s
  timeout client 600s
  timeout server 600s
  option http-keep-alive
frontend in
  bind 127.0.0.1:${listen} backlog 8192
  default_backend mock
backend mock
  http-reuse always
${servers.join('\n')}
`
}
