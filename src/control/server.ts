/**
 * The gRPC server of the control API: where it listens, who may call, health and reflection beside
 * the service itself. It runs on the main thread, whose loop no exchange ever waits for.
 */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { HealthImplementation } from 'grpc-health-check'
import { RolltapeError, errorText } from '../errors.ts'
import {
  CONTROL_CLOSE_MS_MAX,
  CONTROL_MESSAGE_BYTES_MAX,
  CONTROL_PING_MS,
  CONTROL_PING_WAIT_MS,
} from '../limits.ts'
import type { RolltapeConfig } from '../options.ts'
import { formatControlAddress } from '../options/control-address.ts'
import type { ControlAddress } from '../options/control-address.ts'
import type { OnFault } from './calls.ts'
import { ControlServiceService } from './gen/rolltape/control/v1/control.ts'
import { TrajectoryServiceService } from './gen/rolltape/trajectory/v1/trajectory.ts'
import { ResponderServiceService } from './gen/rolltape/responder/v1/responder.ts'
import { responderService } from '../responder/service.ts'
import { readToken, tokenGuard } from './guard.ts'
import { addReflection } from './reflection.ts'
import { controlService } from './service.ts'
import { takeSocketPlace } from './socket-path.ts'
import type { SocketPlace } from './socket-path.ts'
import type { ControlTarget } from './target.ts'
import { trajectoryService } from './trajectory-calls.ts'

/** The services as health knows them; the empty name stands for all. */
const SERVICES = [
  '',
  'rolltape.control.v1.ControlService',
  'rolltape.trajectory.v1.TrajectoryService',
  'rolltape.responder.v1.ResponderService',
] as const

/** A running control API. */
export interface ControlServer {
  /** Where callers connect: `127.0.0.1:50051`, `unix:/run/rolltape.sock`. */
  readonly address: string
  /** Health says NOT_SERVING from now on; calls are still answered. */
  drain(): void
  /** Takes no more calls, lets running ones end for a moment, ends the rest. */
  close(): Promise<void>
}

/**
 * Starts it for a target.
 * @throws RolltapeError `listen_failed`; `bad_option` for a certificate, key or token that cannot
 *   be used.
 */
export async function startControl(
  at: ControlAddress,
  config: RolltapeConfig,
  target: ControlTarget,
  onFault: OnFault,
): Promise<ControlServer> {
  const { controlTokenFile } = config
  const server = new Server({
    'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES_MAX,
    'grpc.so_reuseport': 0,
    // A responder whose machine is gone is noticed by its silence alone.
    'grpc.keepalive_time_ms': CONTROL_PING_MS,
    'grpc.keepalive_timeout_ms': CONTROL_PING_WAIT_MS,
    interceptors: controlTokenFile === null ? [] : [tokenGuard(readToken(controlTokenFile))],
  })
  server.addService(ControlServiceService, controlService(target, onFault))
  server.addService(TrajectoryServiceService, trajectoryService(target, onFault))
  server.addService(ResponderServiceService, responderService(target.responders, onFault))
  const health = new HealthImplementation()
  const say = (status: 'SERVING' | 'NOT_SERVING'): void => {
    for (const service of SERVICES) health.setStatus(service, status)
  }
  say('SERVING')
  health.addToServer(server)
  addReflection(server)
  const listening = await listen(server, at, credentials(config))
  return {
    address: listening.address,
    drain: () => say('NOT_SERVING'),
    close: async () => {
      await shutDown(server)
      listening.place?.remove()
    },
  }
}

function credentials(config: RolltapeConfig): ServerCredentials {
  const { controlTlsCert, controlTlsKey, controlClientCa } = config
  if (controlTlsCert === null || controlTlsKey === null) return ServerCredentials.createInsecure()
  const ca = controlClientCa === null ? null : readPem(controlClientCa, 'control_client_ca')
  const pair = {
    cert_chain: readPem(controlTlsCert, 'control_tls_cert'),
    private_key: readPem(controlTlsKey, 'control_tls_key'),
  }
  return ServerCredentials.createSsl(ca, [pair], ca !== null)
}

function readPem(file: string, option: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    const message = `${option} ${file} cannot be read: ${errorText(cause)}`
    throw new RolltapeError('bad_option', message, { cause })
  }
}

interface Listening {
  readonly address: string
  readonly place: SocketPlace | undefined
}

async function listen(
  server: Server,
  at: ControlAddress,
  with_: ServerCredentials,
): Promise<Listening> {
  if (at.kind === 'tcp') {
    await checkPort(at)
    const port = await bind(server, at, formatControlAddress(at), with_)
    return { address: formatControlAddress({ ...at, port }), place: undefined }
  }
  const place = await takeSocketPlace(at.path)
  try {
    await bind(server, at, `unix:${place.aside}`, with_)
    place.move()
  } catch (error) {
    place.remove()
    throw error
  }
  return { address: formatControlAddress(at), place }
}

/** gRPC tells of a port that is taken in its own log and in vague words; node tells it well. */
async function checkPort({ host, port }: ControlAddress & { kind: 'tcp' }): Promise<void> {
  if (port === 0) return
  const probe = createServer()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  probe.once('error', (cause) => reject(failed({ kind: 'tcp', host, port }, cause)))
  probe.listen({ host, port, exclusive: true }, resolve)
  await promise
  await new Promise((closed) => probe.close(closed))
}

function bind(
  server: Server,
  at: ControlAddress,
  where: string,
  with_: ServerCredentials,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  try {
    server.bindAsync(where, with_, (error, port) => {
      if (error === null) resolve(port)
      else reject(failed(at, error))
    })
  } catch (cause) {
    // A certificate that is none, say.
    reject(failed(at, cause))
  }
  return promise
}

function failed(at: ControlAddress, cause: unknown): RolltapeError {
  const message = `the control API cannot listen on ${formatControlAddress(at)}: ${errorText(cause)}`
  const hint =
    at.kind === 'tcp'
      ? `stop what uses it, or give another --control, such as ${at.host}:0 (picks a port) or off`
      : 'give another --control, or off'
  return new RolltapeError('listen_failed', message, { cause, hint })
}

async function shutDown(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(() => {
    server.forceShutdown()
    resolve()
  }, CONTROL_CLOSE_MS_MAX)
  server.tryShutdown(() => resolve())
  await promise
  clearTimeout(timer)
}
