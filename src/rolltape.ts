/**
 * The library's face: start a rolltape in this process, and read what one has recorded.
 *
 * ```ts
 * const rolltape = await startRolltape({ proxyBaseUrl: 'http://gpu:8000/v1', recordingFile: 'a.jsonl' })
 * // point any client at rolltape.url …
 * await rolltape.close()
 * for await (const record of readRecords('a.jsonl')) console.log(record.session, record.outcome)
 * ```
 */
import type { ControlServer } from './control/server.ts'
import { errorText } from './errors.ts'
import type { RolltapeError } from './errors.ts'
import type { LaneLog } from './lane/context.ts'
import { asConfig } from './options.ts'
import type { RolltapeConfig, RolltapeOptions } from './options.ts'
import { forwards } from './mode.ts'
import { SupervisorTarget } from './supervisor/control-target.ts'
import { makeLog } from './supervisor/log.ts'
import { PolicyPoll } from './supervisor/policy-poll.ts'
import { warnOfTrust } from './supervisor/reload.ts'
import { Supervisor } from './supervisor/supervisor.ts'
import { modesOfAll } from './supervisor/switching.ts'
import type { CloseReport } from './supervisor/supervisor.ts'
import type { Verdict } from './replay/verdict.ts'
import type { RecoveryReport, Rotation } from './supervisor/recording.ts'

export { RolltapeError } from './errors.ts'
export type { ErrorCode } from './errors.ts'
export type { RolltapeConfig, RolltapeOptions } from './options.ts'
export type { Verdict } from './replay/verdict.ts'
export type { CloseReport } from './supervisor/supervisor.ts'
export type { RecoveryReport, Rotation } from './supervisor/recording.ts'
export { buildSamples } from './samples/samples.ts'
export type * from './samples/sample.ts'
export { readRecords } from './trajectory/jsonl.ts'
export type { ReadOptions, ReadProgress, StoredRecord } from './trajectory/jsonl.ts'
export type * from './trajectory/record.ts'

/** A running rolltape. */
export interface Rolltape {
  /** Where clients point their base URL, e.g. `http://127.0.0.1:8080`. */
  readonly url: string
  readonly host: string
  readonly port: number
  readonly mode: RolltapeConfig['mode']
  /** The configuration in force; a reload over the control API changes it. */
  readonly config: RolltapeConfig
  /** Where the control API listens, e.g. `127.0.0.1:50051`; undefined when it is off. */
  readonly controlAddress: string | undefined
  /** What opening the recording found and mended; undefined when nothing is recorded. */
  readonly recovery: RecoveryReport | undefined
  /** Requests handed to an upstream socket since the start. */
  readonly egressTotal: number
  /** How the replay has gone so far; undefined when nothing is replayed. */
  readonly verdict: Verdict | undefined
  /**
   * Resolves only when nothing is served any more and cannot be again: the thread that served has
   * died, and none could be started in its place. Close it then.
   */
  readonly failed: Promise<RolltapeError>
  /** Resolves once it is closed, whoever asked for it: {@link close}, or the control API. */
  readonly closed: Promise<CloseReport>
  /**
   * Closes the file of records that is written and begins another in its place.
   * @throws RolltapeError `wrong_state` when nothing is recorded, `tape_unavailable`.
   */
  rotate(): Promise<Rotation>
  /**
   * Ends all sessions for responders: their requests that wait get an error, and they are told. To be
   * called when those who ask are gone.
   */
  endSessions(): void
  /**
   * Takes no new work, lets running exchanges finish (`drainTimeout`), cuts the rest with a
   * recorded outcome, writes and derives everything, releases the recording. May be called again.
   * What could not be written is told in the report's `trouble`.
   */
  close(reason?: string): Promise<CloseReport>
}

/**
 * Starts a rolltape in this process: its lanes and workers are threads of it. Resolves when it
 * listens and the recording is whole.
 *
 * @throws RolltapeError `bad_option`, `config_unreadable`, `recording_conflict`,
 *   `recording_unwritable`, `recording_locked`, `listen_failed`.
 */
export async function startRolltape(options: RolltapeOptions | RolltapeConfig): Promise<Rolltape> {
  const config = asConfig(options)
  const log = makeLog(config.logLevel)
  warnOfTrust(config, log)
  const supervisor = new Supervisor(config, log)
  await supervisor.start()
  const poll = new PolicyPoll({
    config: () => supervisor.config,
    log,
    forwards: () => modesOfAll(supervisor.modes).some(forwards),
    onVersion: (version) => supervisor.setPolicyVersion(version),
  })
  poll.start()
  const { port } = supervisor
  const scheme = config.tlsCert === null ? 'http' : 'https'
  const url = `${scheme}://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`
  const closed = Promise.withResolvers<CloseReport>()
  let control: ControlServer | undefined
  let closing: Promise<CloseReport> | undefined
  const close = (drainTimeoutMs?: number): Promise<CloseReport> => {
    poll.stop()
    control?.drain()
    closing ??= closeAll(supervisor, control, drainTimeoutMs)
    closing.then(closed.resolve, closed.reject)
    return closing
  }
  closed.promise.catch(() => undefined)
  try {
    const target = new SupervisorTarget(supervisor, { url, close, onReload: () => poll.again() })
    control = await startControlOf(config, target, log)
  } catch (error) {
    poll.stop()
    await supervisor.close(0)
    throw error
  }
  return {
    url,
    host: config.host,
    port,
    mode: config.mode,
    controlAddress: control?.address,
    recovery: supervisor.recovery,
    failed: supervisor.failed,
    closed: closed.promise,
    get config() {
      return supervisor.config
    },
    get egressTotal() {
      return supervisor.counter('egress')
    },
    get verdict() {
      return supervisor.verdict
    },
    rotate: () => supervisor.rotate(),
    endSessions: () => supervisor.responders.endSessions('command_ended'),
    close: async (reason) => {
      log.debug({ reason }, 'closing')
      return close()
    },
  }
}

/** The control API is loaded only where it is on. */
async function startControlOf(
  config: RolltapeConfig,
  target: SupervisorTarget,
  log: LaneLog,
): Promise<ControlServer | undefined> {
  if (config.control === null) return undefined
  const { startControl } = await import('./control/server.ts')
  return startControl(config.control, config, target, (error) => {
    log.error({ err: errorText(error.cause ?? error) }, 'a call of the control API failed')
  })
}

async function closeAll(
  supervisor: Supervisor,
  control: ControlServer | undefined,
  drainTimeoutMs: number | undefined,
): Promise<CloseReport> {
  try {
    return await supervisor.close(drainTimeoutMs)
  } finally {
    supervisor.watch.close()
    await control?.close()
  }
}
