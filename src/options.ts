/**
 * The options of a rolltape: what a user may say (`RolltapeOptions`), what the rest of the code
 * reads (`RolltapeConfig`), and the one validator between them.
 *
 * The definitions stand in `options/definitions.ts`; flags, variables, YAML keys and the README's
 * table are made from there. Configuration is plain frozen data, `upstreamApiKey` excepted:
 * `packConfig` and `unpackConfig` carry it over a thread boundary.
 */
import { capacityConfigOf } from './options/capacity.ts'
import type { CapacityConfig, CapacityFace } from './options/capacity.ts'
import { readClientKeys } from './options/client-keys.ts'
import type { ClientKeys } from './options/client-keys.ts'
import { OPTIONS, OPTION_KEYS, type OptionKey, type OptionValues } from './options/definitions.ts'
import type { ControlAddress } from './options/control-address.ts'
import { checkControl, checkResponder } from './options/control-rules.ts'
import { readOptions, type OptionSources, type Origin } from './options/read.ts'
import type { Mode, OnMiss } from './mode.ts'
import type { SessionOverride } from './options/overrides.ts'
import { settle } from './options/rules.ts'
import { transformConfigOf } from './options/transforms.ts'
import { securityConfigOf, type SecurityConfig, type SecurityFace } from './options/security.ts'
import { tapeConfigOf, type TapeConfig, type TapeFace } from './options/tape-options.ts'
import type { TransformConfig, TransformFace } from './options/transforms.ts'
import { Secret } from './options/secret.ts'
import type { Pace } from './replay/pace.ts'
import type { FailOn } from './replay/verdict.ts'

/** A duration: seconds as a number or bare text, else with its unit (`250ms`, `600s`, `2m`, `1h`). */
export type DurationOption = number | string

/** A size: bytes as a number or bare text, else with its unit (`8MiB`, `1GB`). */
export type BytesOption = number | string

/** What a library user passes to `startRolltape`; everything may be left out. */
export interface RolltapeOptions extends TransformFace, TapeFace, CapacityFace, SecurityFace {
  /** Address to listen on. Default `127.0.0.1`; others need `insecureBind`. */
  readonly host?: string
  /** Port from 0 to 65535; 0 picks a free one. Default 8080. */
  readonly port?: number
  /** Listen on a host that is not loopback although clients need no key. Default false. */
  readonly insecureBind?: boolean
  /**
   * File of the keys that clients must hold, one per line: name, SHA-256 of the key in hex, and
   * `sessions=<prefix>`. Default none: everybody who reaches the port may come in.
   */
  readonly keysFile?: string
  /** Certificate chain that clients are served with, a PEM file. Default none: in clear. */
  readonly tlsCert?: string
  /** Key of `tlsCert`, a PEM file; given together with it. Default none. */
  readonly tlsKey?: string
  /**
   * Where the control API listens: `host:port`, `unix:path` or `off`. Default `off` here, and
   * `127.0.0.1:50051` for `serve`.
   */
  readonly control?: string
  /** Certificate chain of the control API, a PEM file. Default none. */
  readonly controlTlsCert?: string
  /** Key of that certificate, a PEM file. Default none. */
  readonly controlTlsKey?: string
  /** Authority whose certificates callers must show, a PEM file. Default none. */
  readonly controlClientCa?: string
  /** File with the token that callers must bring. Default none. */
  readonly controlTokenFile?: string
  /**
   * Base URL, or several, of the inference server; a session sticks to one. `responder:` or
   * `responder:<queue>` where a responder answers. No default.
   */
  readonly proxyBaseUrl?: string | readonly string[]
  /** Base URL per model, `default` for all others; read where `proxyBaseUrl` is not given. */
  readonly proxyRules?: Readonly<Record<string, string>>
  /** Key for the upstream by reference, `env:NAME` or `file:PATH`. Default: the client's passes. */
  readonly upstreamApiKey?: string
  /** Total time of an exchange, retries included; 0 is no bound. Default 600 s. */
  readonly requestTimeout?: DurationOption
  /** Time to connect to the upstream; 0 is no bound. Default 30 s. */
  readonly connectTimeout?: DurationOption
  /** Time to the first byte of the answer; 0 is no bound. Default 0, since queues can be long. */
  readonly ttfbTimeout?: DurationOption
  /** Time between two pieces of an answer; 0 is no bound. Default 0. */
  readonly stallTimeout?: DurationOption
  /** Silence after which a stream's client gets an SSE comment; 0 is off, the default. */
  readonly heartbeat?: DurationOption
  /** Statuses from 400 to 599 to try again. Default none; giving some implies 6 attempts. */
  readonly retryableStatusCodes?: readonly number[]
  /** Tries per request from 1 to 100. Default 1, or 6 with `retryableStatusCodes`. */
  readonly maxAttempts?: number
  /** Retry also when the request was sent and no answer came. Default: with status codes only. */
  readonly retryAfterSend?: boolean
  /** What becomes of the upstream request when the client leaves. Default `cancel`. */
  readonly onClientGone?: 'cancel' | 'finish'
  /** Largest request body; a larger one gets 413. Default 64 MiB. */
  readonly requestBodyBytesMax?: BytesOption
  /** Requests from 1 to 65,536 that may wait in one queue of responders. Default 4096. */
  readonly responderQueue?: number
  /** Time a request waits for a responder to take it; 0 is no bound. Default 60 s. */
  readonly responderWait?: DurationOption
  /** Status when none has taken it by then. Default 503. */
  readonly onNoResponder?: 503 | 504
  /** Default: `replay` with a `replayFile`, `record` with a `recordingFile`, else `passthrough`. */
  readonly mode?: Mode
  /** Where records go, e.g. `runs/a.jsonl`; the tape is the folder `runs/a.tape` beside it. */
  readonly recordingFile?: string
  /** The recording to answer from; beside a `recordingFile` in `hybrid` and `verify` only. */
  readonly replayFile?: string
  /** How a record is chosen. Default `keyed`. */
  readonly match?: 'keyed' | 'sequence' | 'pooled'
  /** How an asking session finds its recorded one. Default `bind`. */
  readonly sessionMatch?: 'bind' | 'exact' | 'pooled'
  /** `instant` (default), `original`, `x<factor>` or `ttft=<ms>,tps=<n>`. */
  readonly pace?: string
  /** A recorded stream comes in its own chunks (default), or in one and the mark. */
  readonly shape?: 'recorded' | 'single'
  /** When all records that fit have been given. Default `error`: 404. */
  readonly onExhausted?: 'error' | 'repeat_last' | 'loop' | 'live'
  /** A request that was not recorded. Default `error`; `hybrid` has the other two. */
  readonly onMiss?: OnMiss
  /** `hybrid`: later turns of a session go live. Default: all that is recorded is replayed. */
  readonly replayTurns?: number
  /** What sessions have of their own, by session id. Default none. */
  readonly sessionOverride?: Readonly<Record<string, SessionOverrideOptions>>
  /** A record that there is no answer of. Default `error`: 500, and it stays where it is. */
  readonly onUnusable?: 'error' | 'skip'
  /** A record whose client left before its end is free again (default) or used. */
  readonly onAbort?: 'rewind' | 'consume'
  /** Serve answers too whose client had left, or that a crash cut. Default false. */
  readonly replayPartial?: boolean
  /** What in the verdict makes `serve` and `run` exit with 1. Default none. */
  readonly failOn?: readonly FailOn[]
  /** Places in request bodies that do not count, as JSON pointers; `*` is any one part. */
  readonly ignore?: readonly string[]
  /** Profiles of known agents, or paths of files with more rules. */
  readonly ignoreProfile?: readonly string[]
  /** How safe an answer is before its last bytes go to the client. Default `written`. */
  readonly durability?: 'memory' | 'written' | 'synced'
  /** What to do while the tape cannot be written. Default `refuse`. */
  readonly onTapeFailure?: 'refuse' | 'passthrough'
  /** Time one write to the tape may take; 0 is no bound. Default 30 s. */
  readonly commitTimeout?: DurationOption
  /** Labels for every record. Default none. */
  readonly tag?: Readonly<Record<string, string | number | boolean>>
  /** Size at which the file of records is closed and another one begun; 0, the default, is never. */
  readonly rotateBytes?: BytesOption
  /** Age at which it is; 0, the default, is never. */
  readonly rotateInterval?: DurationOption
  /** Threads from 1 to 64 that serve, on one port; `auto` leaves one core. Default 1. */
  readonly lanes?: number | 'auto'
  /** Threads from 1 to 64, per lane, that make records from the tape. Default 1. */
  readonly recordWorkers?: number
  /** Where a session id is looked for, first match wins. Default `['path', 'header']`. */
  readonly sessionSources?: readonly ('path' | 'header' | 'body')[]
  /** Top-level key of the body that holds the session id; needed by the source `body`. */
  readonly sessionBodyField?: string
  /** Time that running exchanges get when rolltape closes. Default 30 s. */
  readonly drainTimeout?: DurationOption
  /** Least serious log line that is written. Default `info`. */
  readonly logLevel?: LogLevel
  /** YAML file with options; what is given here beats it. */
  readonly configFile?: string
  /** Read by the command line only. */
  readonly stateFile?: string
  /** Read by the command line only. */
  readonly detach?: boolean
}

/** What a session has of its own, as an option. */
export interface SessionOverrideOptions {
  readonly mode?: Mode
  readonly pace?: string
  readonly shape?: 'recorded' | 'single'
  readonly replayTurns?: number
}

/** Levels of log lines, least serious first; `silent` writes none. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

/** All options, checked and settled; frozen. Null means "not given" where that has a meaning. */
export interface RolltapeConfig
  extends TransformConfig, TapeConfig, CapacityConfig, SecurityConfig {
  readonly host: string
  /** 0 picks a free one. */
  readonly port: number
  readonly insecureBind: boolean
  readonly keysFile: ClientKeys | null
  readonly tlsCert: string | null
  readonly tlsKey: string | null
  /** Null is off. */
  readonly control: ControlAddress | null
  /** Given together with `controlTlsKey`, or not. */
  readonly controlTlsCert: string | null
  readonly controlTlsKey: string | null
  readonly controlClientCa: string | null
  readonly controlTokenFile: string | null
  /** Without a trailing `/`; empty when `proxyRules` decides. */
  readonly proxyBaseUrl: readonly string[]
  /** Without a trailing `/`; `default` stands for models that have no rule. */
  readonly proxyRules: ReadonlyMap<string, string>
  readonly upstreamApiKey: Secret | null
  /** 0 is no bound, here and in the four below. */
  readonly requestTimeoutMs: number
  readonly connectTimeoutMs: number
  readonly ttfbTimeoutMs: number
  readonly stallTimeoutMs: number
  readonly heartbeatMs: number
  /** Empty: no status is retried. */
  readonly retryableStatusCodes: readonly number[]
  readonly maxAttempts: number
  readonly retryAfterSend: boolean
  readonly onClientGone: 'cancel' | 'finish'
  readonly requestBodyBytesMax: number
  readonly responderQueue: number
  /** 0 is no bound. */
  readonly responderWaitMs: number
  readonly onNoResponder: 503 | 504
  readonly mode: Mode
  /** Given whenever `mode` is `record`. */
  readonly recordingFile: string | null
  /** Given whenever `mode` is `replay`. */
  readonly replayFile: string | null
  readonly match: 'keyed' | 'sequence' | 'pooled'
  readonly sessionMatch: 'bind' | 'exact' | 'pooled'
  readonly pace: Pace
  readonly shape: 'recorded' | 'single'
  readonly onExhausted: 'error' | 'repeat_last' | 'loop' | 'live'
  readonly onMiss: OnMiss
  /** Null: all that is recorded is replayed. */
  readonly replayTurns: number | null
  /** By session id. */
  readonly sessionOverrides: ReadonlyMap<string, SessionOverride>
  readonly onUnusable: 'error' | 'skip'
  readonly onAbort: 'rewind' | 'consume'
  readonly replayPartial: boolean
  readonly failOn: readonly FailOn[]
  /** JSON pointers. */
  readonly ignore: readonly string[]
  readonly ignoreProfile: readonly string[]
  readonly durability: 'memory' | 'written' | 'synced'
  readonly onTapeFailure: 'refuse' | 'passthrough'
  /** 0 is no bound. */
  readonly commitTimeoutMs: number
  readonly tags: Readonly<Record<string, string>>
  /** 0 is never, here and in the next. */
  readonly rotateBytes: number
  readonly rotateIntervalMs: number
  readonly lanes: number | 'auto'
  readonly recordWorkers: number
  readonly sessionSources: readonly ('path' | 'header' | 'body')[]
  /** Given whenever `sessionSources` holds `body`. */
  readonly sessionBodyField: string | null
  readonly drainTimeoutMs: number
  readonly logLevel: LogLevel
  readonly configFile: string | null
  readonly stateFile: string | null
  readonly detach: boolean
  /** Where each option came from, by its key in `RolltapeOptions`. */
  readonly origins: Readonly<Record<OptionKey, Origin>>
}

/** A configuration as it crosses a thread boundary (`workerData`): plain data, the key in clear. */
export type PackedConfig = Omit<RolltapeConfig, 'upstreamApiKey'> & {
  readonly upstreamApiKey: { readonly value: string; readonly reference: string } | null
}

// Each option of the table is one of the interface, and the other way round.
OPTIONS satisfies Record<keyof RolltapeOptions, unknown>
void (OPTION_KEYS satisfies (keyof RolltapeOptions)[])

/** How a configuration is read anew from the sources that it came from. */
const rereads = new WeakMap<object, () => RolltapeConfig>()

/** Configurations that `resolveOptions` or `unpackConfig` made. */
const resolved = new WeakSet<object>()

/**
 * The one validator: reads all sources, checks every value and the rules between them.
 *
 * Throws `RolltapeError` `bad_option`, `config_unreadable` or `recording_conflict`.
 */
export function resolveOptions(
  sources: Omit<OptionSources, 'options'> & { readonly options?: RolltapeOptions } = {},
): RolltapeConfig {
  const { options, ...rest } = sources
  const kept = options === undefined ? rest : { ...rest, options: { ...options } }
  const { values, origins } = readOptions(kept)
  checkControl(values)
  const config = seal({ ...configOf(values), origins })
  checkResponder(config)
  rereads.set(config, () => resolveOptions(kept))
  return config
}

/**
 * Reads a configuration anew: its file and the files of its keys; flags, options and variables are
 * as they were.
 * @throws RolltapeError as {@link resolveOptions}.
 */
export function rereadConfig(config: RolltapeConfig): RolltapeConfig {
  const reread = rereads.get(config)
  if (reread === undefined) throw new TypeError('where this configuration came from is not known')
  return reread()
}

/**
 * What `startRolltape` was given, as a configuration: resolved unless it already is. Whoever embeds
 * rolltape has it in hand, so its control API is off unless they ask for it.
 */
export function asConfig(options: RolltapeOptions | RolltapeConfig): RolltapeConfig {
  if (resolved.has(options)) return options as RolltapeConfig
  const config = resolveOptions({ options: options as RolltapeOptions })
  if (config.origins.control !== 'default') return config
  const own = seal({ ...config, control: null })
  checkResponder(own)
  rereads.set(own, () => asConfig(options))
  return own
}

/** Makes a configuration fit for `workerData` and `postMessage`. */
export function packConfig(config: RolltapeConfig): PackedConfig {
  const { upstreamApiKey: key } = config
  return {
    ...config,
    upstreamApiKey: key === null ? null : { value: key.reveal(), reference: key.reference },
  }
}

/** The other half of `packConfig`. */
export function unpackConfig(packed: PackedConfig): RolltapeConfig {
  const { upstreamApiKey: key } = packed
  return seal({
    ...packed,
    upstreamApiKey: key === null ? null : new Secret(key.value, key.reference),
  })
}

function configOf(values: OptionValues): Omit<RolltapeConfig, 'origins'> {
  return {
    host: values.host,
    port: values.port,
    insecureBind: values.insecureBind,
    keysFile: values.keysFile === null ? null : readClientKeys(values.keysFile),
    tlsCert: values.tlsCert,
    tlsKey: values.tlsKey,
    control: values.control,
    controlTlsCert: values.controlTlsCert,
    controlTlsKey: values.controlTlsKey,
    controlClientCa: values.controlClientCa,
    controlTokenFile: values.controlTokenFile,
    proxyBaseUrl: values.proxyBaseUrl ?? Object.freeze([]),
    proxyRules: values.proxyRules ?? new Map(),
    upstreamApiKey: values.upstreamApiKey,
    requestTimeoutMs: values.requestTimeout,
    connectTimeoutMs: values.connectTimeout,
    ttfbTimeoutMs: values.ttfbTimeout,
    stallTimeoutMs: values.stallTimeout,
    heartbeatMs: values.heartbeat,
    onClientGone: values.onClientGone,
    requestBodyBytesMax: values.requestBodyBytesMax,
    ...capacityConfigOf(values),
    ...transformConfigOf(values),
    responderQueue: values.responderQueue,
    responderWaitMs: values.responderWait,
    onNoResponder: values.onNoResponder,
    recordingFile: values.recordingFile,
    replayFile: values.replayFile,
    match: values.match,
    sessionMatch: values.sessionMatch,
    pace: values.pace,
    shape: values.shape,
    replayTurns: values.replayTurns,
    sessionOverrides: values.sessionOverride ?? new Map(),
    onUnusable: values.onUnusable,
    onAbort: values.onAbort,
    replayPartial: values.replayPartial,
    failOn: values.failOn ?? Object.freeze([]),
    ignore: values.ignore ?? Object.freeze([]),
    ignoreProfile: values.ignoreProfile ?? Object.freeze([]),
    durability: values.durability,
    onTapeFailure: values.onTapeFailure,
    commitTimeoutMs: values.commitTimeout,
    ...tapeConfigOf(values),
    ...securityConfigOf(values),
    tags: Object.freeze(Object.fromEntries(values.tag ?? [])),
    rotateBytes: values.rotateBytes,
    rotateIntervalMs: values.rotateInterval,
    lanes: values.lanes,
    recordWorkers: values.recordWorkers,
    sessionSources: values.sessionSources,
    sessionBodyField: values.sessionBodyField,
    drainTimeoutMs: values.drainTimeout,
    logLevel: values.logLevel,
    configFile: values.configFile,
    stateFile: values.stateFile,
    detach: values.detach,
    ...settle(values),
  }
}

function seal(config: RolltapeConfig): RolltapeConfig {
  resolved.add(config)
  return Object.freeze(config)
}
