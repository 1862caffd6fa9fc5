/**
 * The lane's front door: a node:http server set up for long streams, and rolltape's own health
 * paths. What is neither health nor something HTTP refuses becomes an exchange.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { Server as SecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { RolltapeError, errorText } from '../errors.ts'
import { REQUEST_HEADERS_MAX, REQUEST_HEAD_BYTES_MAX } from '../limits.ts'
import { readCertificate, watchCertificate } from './certificate.ts'
import type { CertificateFiles } from './certificate.ts'
import type { LaneLog } from './context.ts'
import { errorAnswer } from './own-answer.ts'

/** Idle client connections stay open longer than any client's own keep-alive. */
const KEEP_ALIVE_MS = 75_000
/** How often heads that are late are looked for, at the least. */
const HEAD_LOOK_MS_MAX = 5_000

/** Fleets connect in bursts; the kernel cuts this to its own bound (`somaxconn`). */
const BACKLOG = 8_192

/** Where to listen and what to do. */
export interface ListenerOptions {
  readonly host: string
  readonly port: number
  /** Several listeners on one port. */
  readonly reusePort: boolean
  /** Undefined: in clear. */
  readonly tls: CertificateFiles | undefined
  readonly log: LaneLog
  /** A request head must have come whole after this long (slowloris); 0 is no bound. */
  readonly headMsMax: number
  readonly onRequest: (req: IncomingMessage, res: ServerResponse) => void
  /** False while draining: `/readyz` fails. */
  readonly isReady: () => boolean
}

/** An open listener. */
export interface Listener {
  readonly port: number
  /** Takes no new connections, closes idle ones. Resolves when all are closed. */
  close(): Promise<void>
  /** Closes connections that no request is on. */
  closeIdle(): void
  /** Closes all connections at once. */
  closeAll(): void
}

/**
 * Opens a listener.
 * @throws RolltapeError `listen_failed`, naming the address and what to do; `bad_option` for a
 *   certificate that cannot be used.
 */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const { server, unwatch } = serverFor(options)
  server.maxHeadersCount = REQUEST_HEADERS_MAX
  server.timeout = 0
  server.on('request', (req, res) => {
    if (!answerHealth(req, res, options.isReady)) options.onRequest(req, res)
  })
  server.on('upgrade', (_req, socket) => refuseUpgrade(socket))
  server.on('connect', (_req, socket) => refuseUpgrade(socket))
  try {
    await listen(server, options)
  } catch (error) {
    unwatch()
    throw error
  }
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      unwatch()
      return new Promise((resolve) => server.close(() => resolve()))
    },
    closeIdle: () => server.closeIdleConnections(),
    closeAll: () => server.closeAllConnections(),
  }
}

const HTTP: ServerOptions = {
  keepAliveTimeout: KEEP_ALIVE_MS,
  requestTimeout: 0,
  noDelay: true,
  maxHeaderSize: REQUEST_HEAD_BYTES_MAX,
  requireHostHeader: false,
  // An offer of HTTP/2 may be left unanswered; other upgrades ask for what is not there.
  shouldUpgradeCallback: (req) => req.headers.upgrade?.toLowerCase() !== 'h2c',
  highWaterMark: 65_536,
}

/** The server, in clear or over TLS, and what ends the watch on its certificate. */
function serverFor({ tls, log, headMsMax }: ListenerOptions): {
  server: Server | SecureServer
  unwatch: () => void
} {
  const connectionsCheckingInterval = Math.min(
    HEAD_LOOK_MS_MAX,
    Math.ceil(headMsMax / 2) || Infinity,
  )
  const http = { ...HTTP, headersTimeout: headMsMax, connectionsCheckingInterval }
  if (tls === undefined) return { server: createServer(http), unwatch: () => undefined }
  const certificate = readCertificate(tls)
  const server = createSecureServer({ ...http, ...certificate })
  const unwatch = watchCertificate(tls, certificate, log, (next) => server.setSecureContext(next))
  return { server, unwatch }
}

function listen(
  server: Server | SecureServer,
  { host, port, reusePort }: ListenerOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const hint =
        error.code === 'EADDRINUSE'
          ? 'stop what uses it, or choose another --port (0 picks one)'
          : ''
      reject(
        new RolltapeError(
          'listen_failed',
          `cannot listen on ${host}:${port}: ${errorText(error)}`,
          {
            cause: error,
            ...(hint === '' ? {} : { hint }),
          },
        ),
      )
    })
    server.listen({ host, port, reusePort, exclusive: true, backlog: BACKLOG }, resolve)
  })
}

/** `/health`, `/healthz` and `/readyz` are rolltape's own, never forwarded and never recorded. */
function answerHealth(req: IncomingMessage, res: ServerResponse, isReady: () => boolean): boolean {
  if (req.method !== 'GET' && req.method !== 'HEAD') return false
  const { url } = req
  if (url === undefined || url.length > 8) return false
  if (url === '/health') return json(res, 200, { status: 'healthy' })
  if (url === '/healthz') return json(res, 200, { status: 'ok' })
  if (url !== '/readyz') return false
  const ready = isReady()
  return json(res, ready ? 200 : 503, { status: ready ? 'ready' : 'draining' })
}

function json(res: ServerResponse, status: number, body: object): true {
  const text = JSON.stringify(body)
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': text.length })
  res.end(text)
  return true
}

function refuseUpgrade(socket: Duplex): void {
  socket.on('error', () => socket.destroy())
  const error = new RolltapeError(
    'upgrade_unsupported',
    'rolltape forwards plain HTTP exchanges; it does not upgrade connections',
  )
  const { status, reason, flat, body } = errorAnswer(error, '/', true)
  let head = `HTTP/1.1 ${status} ${reason}\r\n`
  for (let i = 0; i + 1 < flat.length; i += 2) head += `${flat[i]}: ${flat[i + 1]}\r\n`
  socket.end(Buffer.concat([Buffer.from(`${head}\r\n`, 'latin1'), body]))
}
