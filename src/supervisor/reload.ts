/** What of a configuration may change while rolltape runs, and what has changed in another one. */
import { RolltapeError } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import type { RolltapeConfig } from '../options.ts'
import { OPTION_KEYS, names } from '../options/definitions.ts'
import type { OptionKey } from '../options/definitions.ts'
import { effectiveOptions } from '../options/effective.ts'
import { policyUrlOf } from './policy-poll.ts'
import { endsLive } from './switching.ts'

/** Each takes effect for requests that arrive after the reload, or at once where it is of none. */
const RELOADABLE: ReadonlySet<OptionKey> = new Set<OptionKey>([
  'keysFile',
  'proxyBaseUrl',
  'proxyRules',
  'upstreamApiKey',
  'requestTimeout',
  'ttfbTimeout',
  'stallTimeout',
  'heartbeat',
  'retryableStatusCodes',
  'maxAttempts',
  'retryAfterSend',
  'onClientGone',
  'requestBodyBytesMax',
  'maxInFlight',
  'maxInFlightBytes',
  'maxQueue',
  'queueTimeout',
  'clientBodyTimeout',
  'engine',
  'topLogprobs',
  'sglangStreams',
  'require',
  'modelOverride',
  'maxCompletionTokens',
  'maxTokensCap',
  'disableThinking',
  'responderQueue',
  'responderWait',
  'onNoResponder',
  'redactHeader',
  'redactQuery',
  'onTapeFailure',
  'commitTimeout',
  'tag',
  'rotateBytes',
  'rotateInterval',
  'pace',
  'shape',
  'replayTurns',
  'onExhausted',
  'onUnusable',
  'onAbort',
  'replayPartial',
  'failOn',
  'sessionSources',
  'sessionBodyField',
  'drainTimeout',
])

/** What a lane's player is made with: a change makes another one over the same recording. */
const OF_PLAYERS: readonly OptionKey[] = ['onExhausted', 'onUnusable', 'onAbort', 'replayPartial']

/** A reload. */
export interface Reloaded {
  /** Keys that have another value now, as in a configuration file. */
  readonly changed: readonly string[]
  readonly generation: number
}

/** Said at every start and every reload, as long as it is so. */
export function warnOfTrust({ upstreamInsecure }: RolltapeConfig, log: LaneLog): void {
  if (!upstreamInsecure) return
  const message =
    'upstream_insecure: certificates of upstreams are NOT verified, so whoever stands between reads and changes everything, keys included'
  log.warn({}, message)
}

/** What differs between two configurations. */
export interface Changes {
  /** Keys, as in a configuration file. */
  readonly changed: readonly string[]
  /** Players are to be made anew. */
  readonly concernsPlayers: boolean
  /** Another engine is polled for its version: the one that is known is not its. */
  readonly concernsPolicy: boolean
}

/**
 * What differs in the next configuration.
 * @throws RolltapeError `wrong_state` naming every key that may not change now.
 */
export function changesTo(now: RolltapeConfig, next: RolltapeConfig): Changes {
  const [before, after] = [valuesOf(now), valuesOf(next)]
  const keys = OPTION_KEYS.filter((_, i) => before[i] !== after[i])
  const fixed = keys.filter((key) => !RELOADABLE.has(key)).map((key) => names(key).yaml)
  if (fixed.length > 0) {
    const message = `${fixed.join(', ')} cannot change while rolltape runs, so nothing was changed`
    throw new RolltapeError('wrong_state', message, {
      hint: 'take that back, or start rolltape anew; modes and their files are switched by SetMode',
    })
  }
  const changed = keys.map((key) => names(key).yaml)
  return {
    changed,
    concernsPlayers: keys.some((key) => OF_PLAYERS.includes(key)),
    concernsPolicy: policyUrlOf(now) !== policyUrlOf(next),
  }
}

/** Every value as text, in the order of the table. */
function valuesOf(config: RolltapeConfig): string[] {
  return effectiveOptions(config).map(({ value }, i) => {
    const key = OPTION_KEYS[i]
    // The reference of a key may stay while the key behind it changes.
    if (key === 'upstreamApiKey') return `${config.upstreamApiKey?.reveal()}`
    if (key === 'keysFile') return JSON.stringify(config.keysFile)
    if (key === 'onExhausted') return `${config.onExhausted} ${endsLive(config)}`
    return JSON.stringify(value)
  })
}
