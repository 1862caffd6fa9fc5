/**
 * How `ctl` reaches a rolltape: its address, who it says it is, and what a refusal means for the
 * exit code.
 */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { checkServerIdentity, type PeerCertificate } from 'node:tls'

import { credentials, Metadata, status, type ClientReadableStream } from '@grpc/grpc-js'
import type { ChannelCredentials, ChannelOptions, ServiceError } from '@grpc/grpc-js'
import type { Command } from 'commander'

import { ControlServiceClient } from '../../control/gen/rolltape/control/v1/control.ts'
import { TrajectoryServiceClient } from '../../control/gen/rolltape/trajectory/v1/trajectory.ts'
import { errorText, RolltapeError } from '../../errors.ts'
import { formatControlAddress, parseControlAddress } from '../../options/control-address.ts'
import { addOptions } from '../options.ts'
import { readLiveState, stateFileOf } from '../state.ts'
import { EXIT, tell, type Terminal } from '../terminal.ts'

/** Flags that every verb has. */
export interface ConnectionFlags {
  readonly control?: string
  readonly controlTokenFile?: string
  readonly stateFile?: string
  readonly tls?: boolean
  readonly tlsCa?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly timeout?: string
  readonly json?: boolean
}

/** Exit codes of `ctl` by what went wrong; the codes of all commands stay what they are. */
export const CTL_EXIT = {
  ...EXIT,
  unreachable: 3,
  unauthenticated: 4,
  refused: 5,
  notFound: 6,
  late: 7,
  exhausted: 8,
} as const

const EXIT_OF: Readonly<Partial<Record<number, number>>> = {
  [status.INVALID_ARGUMENT]: CTL_EXIT.misused,
  [status.UNAVAILABLE]: CTL_EXIT.unreachable,
  [status.UNAUTHENTICATED]: CTL_EXIT.unauthenticated,
  [status.PERMISSION_DENIED]: CTL_EXIT.unauthenticated,
  [status.FAILED_PRECONDITION]: CTL_EXIT.refused,
  [status.ABORTED]: CTL_EXIT.refused,
  [status.ALREADY_EXISTS]: CTL_EXIT.refused,
  [status.NOT_FOUND]: CTL_EXIT.notFound,
  [status.DEADLINE_EXCEEDED]: CTL_EXIT.late,
  [status.RESOURCE_EXHAUSTED]: CTL_EXIT.exhausted,
}

/** What help says about them. */
export const EXIT_HELP = `
Exit codes: 0 done, 1 failed, 2 misused (also INVALID_ARGUMENT), 3 nobody answers there (UNAVAILABLE),
4 the token or certificate is missing or wrong, 5 not in this state (FAILED_PRECONDITION, ABORTED), 6 no such
thing (NOT_FOUND), 7 over the deadline, 8 over a bound (RESOURCE_EXHAUSTED).`

const DEFAULT_ADDRESS = '127.0.0.1:50051'
const TIMEOUT_S = 30

/** Adds the flags that every verb has. */
export function addConnection(command: Command): Command {
  command
    .option('--control <address>', 'where it listens, host:port or unix:path', undefined)
    .option('--timeout <seconds>', `give up after so long (default ${TIMEOUT_S})`)
    .option('--json', 'print JSON, for scripts')
    .option('--tls', "use TLS; the system's authorities vouch for the server")
    .option('--tls-ca <file.pem>', 'use TLS; this authority vouches for the server')
    .option('--tls-cert <file.pem>', 'show this certificate (mTLS)')
    .option('--tls-key <file.pem>', 'key of that certificate')
    .option('--control-token-file <file>', 'file with the token to bring')
  return addOptions(command, ['stateFile'])
}

/** One connection, for one command. */
export class Connection {
  readonly client: ControlServiceClient
  /** For its methods: calls of both services share the other one's channel. */
  readonly trajectories: TrajectoryServiceClient
  /** Where it leads. */
  readonly address: string
  readonly #metadata = new Metadata()
  readonly #timeoutMs: number

  private constructor(flags: ConnectionFlags, terminal: Terminal) {
    const state = readLiveState(stateFileOf(flags.stateFile, terminal.env))
    const { env } = terminal
    this.address = reachable(
      flags.control ?? (env['ROLLTAPE_CONTROL'] || undefined) ?? state?.control ?? DEFAULT_ADDRESS,
    )
    const tokenFile =
      flags.controlTokenFile ?? env['ROLLTAPE_CONTROL_TOKEN_FILE'] ?? state?.control_token_file
    if (tokenFile) this.#metadata.set('authorization', `Bearer ${readText(tokenFile).trim()}`)
    this.#timeoutMs = timeoutOf(flags.timeout)
    const channel = channelOf(flags, this.address)
    this.client = new ControlServiceClient(this.address, channel.credentials, channel.options)
    this.trajectories = new TrajectoryServiceClient(
      this.address,
      channel.credentials,
      channel.options,
    )
  }

  /**
   * Runs a command over a connection, which is closed behind it; the command's exit code.
   * What rolltape refuses is told in one line.
   */
  static async use(
    flags: ConnectionFlags,
    terminal: Terminal,
    run: (connection: Connection) => Promise<number>,
  ): Promise<number> {
    const connection = new Connection(flags, terminal)
    try {
      return await run(connection)
    } catch (error) {
      if (!isServiceError(error)) throw error
      tell(terminal, `rolltape: ${sentence(error, connection.address)}`)
      return EXIT_OF[error.code] ?? CTL_EXIT.failed
    } finally {
      connection.client.close()
      connection.trajectories.close()
    }
  }

  /** Makes one call. */
  call<Q, A>(method: UnaryMethod<Q, A>, request: Q): Promise<A> {
    const { promise, resolve, reject } = Promise.withResolvers<A>()
    const deadline = { deadline: Date.now() + this.#timeoutMs }
    method.call(this.client, request, this.#metadata, deadline, (error, answer) => {
      if (error === null) resolve(answer)
      else reject(error)
    })
    return promise
  }

  /** Opens a stream; it has no deadline. */
  stream<Q, A>(
    method: (request: Q, metadata: Metadata) => ClientReadableStream<A>,
    request: Q,
  ): ClientReadableStream<A> {
    return method.call(this.client, request, this.#metadata)
  }
}

type UnaryMethod<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, answer: A) => void,
) => unknown

/** An address in the form that gRPC wants; "all addresses" is where one listens only. */
function reachable(text: string): string {
  const address = parseControlAddress(text)
  if (address === undefined) {
    throw new RolltapeError('bad_option', `--control: '${text}' is no address`, {
      hint: `give host:port, such as ${DEFAULT_ADDRESS}, or unix: and a path`,
    })
  }
  return formatControlAddress(address)
    .replace(/^0\.0\.0\.0:/, '127.0.0.1:')
    .replace('[::]', '[::1]')
}

interface Channel {
  readonly credentials: ChannelCredentials
  readonly options: ChannelOptions
}

function channelOf({ tls, tlsCa, tlsCert, tlsKey }: ConnectionFlags, address: string): Channel {
  if (tls !== true && tlsCa === undefined && tlsCert === undefined) {
    return { credentials: credentials.createInsecure(), options: {} }
  }
  const read = (file: string | undefined): Buffer | null =>
    file === undefined ? null : Buffer.from(readText(file))
  const files = [read(tlsCa), read(tlsKey), read(tlsCert)] as const
  const parsed = parseControlAddress(address)
  const host = parsed?.kind === 'tcp' ? parsed.host : 'localhost'
  if (isIP(host) === 0) return { credentials: credentials.createSsl(...files), options: {} }
  // TLS has no server name for an address of numbers, and node refuses one: another goes in its
  // place, and the certificate is held against the address all the same.
  const verify = {
    checkServerIdentity: (_: string, certificate: PeerCertificate) =>
      checkServerIdentity(host, certificate),
  }
  return {
    credentials: credentials.createSsl(...files, verify),
    options: { 'grpc.ssl_target_name_override': 'localhost' },
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new RolltapeError('bad_option', `${file} cannot be read: ${errorText(cause)}`, { cause })
  }
}

function timeoutOf(given: string | undefined): number {
  const seconds = given === undefined ? TIMEOUT_S : Number(given)
  if (seconds > 0 && seconds <= 86_400) return seconds * 1_000
  throw new RolltapeError(
    'bad_option',
    `--timeout: '${given}' is not a number of seconds up to a day`,
  )
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'details' in error && 'code' in error && 'metadata' in error
}

function sentence({ code, details, metadata }: ServiceError, address: string): string {
  if (code === status.UNAVAILABLE && /^No connection established|^Name resolution/.test(details)) {
    return `nobody answers at ${address}: ${details} (is it running? --control names another address)`
  }
  const isOwn = metadata.get('rolltape-code').length > 0
  if (code === status.DEADLINE_EXCEEDED && !isOwn)
    return `no answer from ${address} in time: ${details}`
  return `${details} [${status[code]}]`
}
