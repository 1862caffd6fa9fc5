/**
 * The effective configuration as a configuration file would hold it: every option by its YAML key,
 * its value, where that came from. Of a secret only its reference is told.
 */
import type { RolltapeConfig } from '../options.ts'
import { formatPace } from '../replay/pace.ts'
import { formatControlAddress } from './control-address.ts'
import { OPTION_KEYS, names, type OptionKey } from './definitions.ts'
import type { Origin } from './read.ts'
import { formatRetain } from './retention.ts'

/** A value that JSON and YAML hold. */
export type PlainValue =
  | string
  | number
  | boolean
  | null
  | readonly PlainValue[]
  | { readonly [key: string]: PlainValue }

/** One option as it is in effect. */
export interface EffectiveOption {
  /** As in YAML. */
  readonly key: string
  /** Null when there is none. */
  readonly value: PlainValue
  readonly origin: Origin
}

/** All options, in the order of the table. */
export function effectiveOptions(config: RolltapeConfig): EffectiveOption[] {
  return OPTION_KEYS.map((key) => ({
    key: names(key).yaml,
    value: SHOWN[key](config),
    origin: config.origins[key],
  }))
}

/** How each is shown; being exhaustive by type, a new option cannot be forgotten here. */
const SHOWN: { readonly [K in OptionKey]: (config: RolltapeConfig) => PlainValue } = {
  host: ({ host }) => host,
  port: ({ port }) => port,
  insecureBind: ({ insecureBind }) => insecureBind,
  keysFile: ({ keysFile }) => keysFile?.file ?? null,
  tlsCert: ({ tlsCert }) => tlsCert,
  tlsKey: ({ tlsKey }) => tlsKey,
  control: ({ control }) => (control === null ? 'off' : formatControlAddress(control)),
  controlTlsCert: ({ controlTlsCert }) => controlTlsCert,
  controlTlsKey: ({ controlTlsKey }) => controlTlsKey,
  controlClientCa: ({ controlClientCa }) => controlClientCa,
  controlTokenFile: ({ controlTokenFile }) => controlTokenFile,
  proxyBaseUrl: ({ proxyBaseUrl }) => (proxyBaseUrl.length === 0 ? null : proxyBaseUrl),
  proxyRules: ({ proxyRules }) => (proxyRules.size === 0 ? null : Object.fromEntries(proxyRules)),
  rotateBytes: ({ rotateBytes }) => rotateBytes,
  rotateInterval: ({ rotateIntervalMs }) => duration(rotateIntervalMs),
  lanes: ({ lanes }) => lanes,
  upstreamApiKey: ({ upstreamApiKey }) => upstreamApiKey?.reference ?? null,
  requestTimeout: ({ requestTimeoutMs }) => duration(requestTimeoutMs),
  connectTimeout: ({ connectTimeoutMs }) => duration(connectTimeoutMs),
  ttfbTimeout: ({ ttfbTimeoutMs }) => duration(ttfbTimeoutMs),
  stallTimeout: ({ stallTimeoutMs }) => duration(stallTimeoutMs),
  heartbeat: ({ heartbeatMs }) => duration(heartbeatMs),
  retryableStatusCodes: ({ retryableStatusCodes }) => retryableStatusCodes,
  maxAttempts: ({ maxAttempts }) => maxAttempts,
  retryAfterSend: ({ retryAfterSend }) => retryAfterSend,
  onClientGone: ({ onClientGone }) => onClientGone,
  requestBodyBytesMax: ({ requestBodyBytesMax }) => requestBodyBytesMax,
  maxInFlight: ({ maxInFlight }) => maxInFlight,
  maxInFlightBytes: ({ maxInFlightBytes }) => maxInFlightBytes,
  maxQueue: ({ maxQueue }) => maxQueue,
  queueTimeout: ({ queueTimeoutMs }) => duration(queueTimeoutMs),
  clientHeaderTimeout: ({ clientHeaderTimeoutMs }) => duration(clientHeaderTimeoutMs),
  clientBodyTimeout: ({ clientBodyTimeoutMs }) => duration(clientBodyTimeoutMs),
  upstreamCa: ({ upstreamCa }) => upstreamCa?.file ?? null,
  upstreamInsecure: ({ upstreamInsecure }) => upstreamInsecure,
  engine: ({ engines }) => (engines.size === 0 ? null : Object.fromEntries(engines)),
  topLogprobs: ({ topLogprobs }) => topLogprobs,
  sglangStreams: ({ sglangStreams }) => sglangStreams,
  require: ({ requires }) => requires,
  modelOverride: ({ modelOverride }) => modelOverride,
  maxCompletionTokens: ({ maxCompletionTokens }) => maxCompletionTokens,
  maxTokensCap: ({ maxTokensCap }) => maxTokensCap,
  disableThinking: ({ disableThinking }) => disableThinking,
  policyPollPath: ({ policyPollPath }) => policyPollPath,
  policyPollInterval: ({ policyPollIntervalMs }) => duration(policyPollIntervalMs),
  responderQueue: ({ responderQueue }) => responderQueue,
  responderWait: ({ responderWaitMs }) => duration(responderWaitMs),
  onNoResponder: ({ onNoResponder }) => onNoResponder,
  mode: ({ mode }) => mode,
  recordingFile: ({ recordingFile }) => recordingFile,
  durability: ({ durability }) => durability,
  onTapeFailure: ({ onTapeFailure }) => onTapeFailure,
  commitTimeout: ({ commitTimeoutMs }) => duration(commitTimeoutMs),
  segmentBytes: ({ segmentBytes }) => segmentBytes,
  recordRequests: ({ recordRequests }) => recordRequests,
  minFreeBytes: ({ minFreeBytes }) => minFreeBytes,
  takeOver: ({ takeOver }) => takeOver,
  tapeCompress: ({ tapeCompress }) => tapeCompress,
  tapeRetain: ({ tapeRetain }) => formatRetain(tapeRetain),
  redactHeader: ({ redactHeaders }) => redactHeaders,
  redactQuery: ({ redactQuery }) => redactQuery,
  tag: ({ tags }) => (Object.keys(tags).length === 0 ? null : { ...tags }),
  recordWorkers: ({ recordWorkers }) => recordWorkers,
  replayFile: ({ replayFile }) => replayFile,
  match: ({ match }) => match,
  sessionMatch: ({ sessionMatch }) => sessionMatch,
  pace: ({ pace }) => formatPace(pace),
  shape: ({ shape }) => shape,
  onMiss: ({ onMiss }) => onMiss,
  onExhausted: ({ onExhausted }) => onExhausted,
  onUnusable: ({ onUnusable }) => onUnusable,
  onAbort: ({ onAbort }) => onAbort,
  replayPartial: ({ replayPartial }) => replayPartial,
  replayTurns: ({ replayTurns }) => replayTurns,
  sessionOverride: ({ sessionOverrides }) => overrides(sessionOverrides),
  failOn: ({ failOn }) => failOn,
  ignore: ({ ignore }) => ignore,
  ignoreProfile: ({ ignoreProfile }) => ignoreProfile,
  sessionSources: ({ sessionSources }) => sessionSources,
  sessionBodyField: ({ sessionBodyField }) => sessionBodyField,
  drainTimeout: ({ drainTimeoutMs }) => duration(drainTimeoutMs),
  logLevel: ({ logLevel }) => logLevel,
  configFile: ({ configFile }) => configFile,
  stateFile: ({ stateFile }) => stateFile,
  detach: ({ detach }) => detach,
}

function duration(ms: number): string {
  return ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`
}

function overrides(bySession: RolltapeConfig['sessionOverrides']): PlainValue {
  if (bySession.size === 0) return null
  const shown = [...bySession].map(([session, { mode, pace, shape, replayTurns }]) => [
    session,
    {
      ...(mode === undefined ? {} : { mode }),
      ...(pace === undefined ? {} : { pace: formatPace(pace) }),
      ...(shape === undefined ? {} : { shape }),
      ...(replayTurns === undefined ? {} : { replay_turns: replayTurns }),
    },
  ])
  return Object.fromEntries(shown) as PlainValue
}
