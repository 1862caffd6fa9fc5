/**
 * Peers that parse or pass LLM traffic in Python and Node. Python's come from Debian's packages; the
 * others from npm, in a folder of their own that `--set-up` fills.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { TEST_CORE, pinned } from '../native.ts'
import { childrenOf, everyThread, freePort, listens, missingProgram } from './arm.ts'
import { noRecords, stopped } from './arm.ts'
import type { Arm, Upstream } from './arm.ts'

/** Programs of our own that put a peer's library to work. */
export const PEERS = join(import.meta.dirname, '../peers')
/** Where peers from npm are installed. */
export const PEERS_INSTALLED = join(import.meta.dirname, '../.peers')
/** Debian's Python, which has the packages, whatever else is first on the PATH. */
export const PYTHON = '/usr/bin/python3'
/** What is installed there. */
export const PEER_PACKAGES = [
  '@portkey-ai/gateway',
  '@fastify/http-proxy',
  'fastify',
  'http-proxy-3',
  '@copilotkit/aimock',
]

/** Starts one program on the core under test; `command` is told its port and the upstream's. */
function program(
  name: string,
  missing: () => string | undefined,
  command: (port: number, upstream: Upstream) => readonly string[],
  headers?: (upstream: Upstream) => string,
): Arm {
  return {
    name,
    missing,
    start: async (upstream) => {
      const port = await freePort()
      const [first = '', ...args] = command(port, upstream)
      const child = pinned(TEST_CORE, first, args)
      child.stdout?.resume()
      await listens(port, child)
      const pid = child.pid ?? 0
      return {
        port,
        ports: 1,
        pids: [pid, ...childrenOf(pid)],
        ...(headers === undefined ? {} : { headers: headers(upstream) }),
        isLane: everyThread,
        records: noRecords,
        stop: () => stopped(child),
      }
    },
  }
}

const python = (): string | undefined =>
  missingProgram(PYTHON, '-c', 'import fastapi, httpx, uvicorn')

function installed(name: string): () => string | undefined {
  return () =>
    existsSync(join(PEERS_INSTALLED, 'node_modules', name))
      ? undefined
      : `${name} is not installed: use --set-up`
}

/** FastAPI with httpx, as the Python proxies of this field are built. */
function fastapi(name: string, what: 'pass' | 'trace'): Arm {
  return program(name, python, (port, upstream) => [
    PYTHON,
    join(PEERS, 'fastapi_proxy.py'),
    what,
    String(port),
    String(upstream.port),
  ])
}

function node(name: string, file: string, needs: string): Arm {
  return program(name, installed(needs), (port, upstream) => [
    process.execPath,
    join(PEERS, file),
    String(port),
    String(upstream.port),
  ])
}

/** It takes its upstream from a header, and puts the path behind it. */
const portkey = program(
  'portkey',
  installed('@portkey-ai/gateway'),
  (port) => [
    process.execPath,
    join(PEERS_INSTALLED, 'node_modules/@portkey-ai/gateway/build/start-server.js'),
    `--port=${port}`,
    '--headless',
  ],
  ({ port }) =>
    `x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:${port}/v1\r\n`,
)

/** All peers that forward. */
export const FORWARDING: readonly Arm[] = [
  fastapi('fastapi pass', 'pass'),
  fastapi('fastapi trace', 'trace'),
  portkey,
  node('@fastify/http-proxy', 'fastify_proxy.mjs', '@fastify/http-proxy'),
  node('http-proxy-3', 'http_proxy_3.mjs', 'http-proxy-3'),
]
