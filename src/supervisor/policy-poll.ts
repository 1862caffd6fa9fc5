/**
 * Asks the engine, every so often, for the version of its weights, and has requests stamped with it
 * (`policy_poll_path`). The first upstream is asked; where there are several they are taken to be
 * updated together. Nothing is asked while nothing is forwarded. Each time the configuration in
 * force is gone by, so a reload may name another engine or another key.
 */
import { errorText } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import { POLICY_ANSWER_BYTES_MAX, POLICY_POLL_MS_MAX, POLICY_VERSION_BYTES_MAX } from '../limits.ts'
import type { RolltapeConfig } from '../options.ts'
import { isObject, parseJson } from '../wire/json.ts'
import { queueOf } from '../responder/address.ts'

/** What polling needs. */
export interface PolicyPollOptions {
  /** The configuration in force. */
  readonly config: () => RolltapeConfig
  readonly log: LaneLog
  /** True while requests are forwarded. */
  readonly forwards: () => boolean
  /** A version that is another than the one told before; empty: none is known. */
  readonly onVersion: (version: string) => Promise<unknown>
}

/** Polls one engine at a time. */
export class PolicyPoll {
  readonly #options: PolicyPollOptions
  /** Ends what is under way. */
  #round = new AbortController()
  #timer: NodeJS.Timeout | undefined
  /** Who was asked last; what it said is nothing to another. */
  #url: string | undefined
  #last: string | undefined
  /** Trouble is told once, until it is over. */
  #isTroubled = false

  constructor(options: PolicyPollOptions) {
    this.#options = options
  }

  /** Begins to ask, where the configuration says so. */
  start(): void {
    if (this.#options.config().policyPollPath !== null) void this.#look(this.#round.signal)
  }

  /** Asks at once, by a configuration that has just come into force. */
  again(): void {
    if (this.#round.signal.aborted) return
    this.stop()
    this.#round = new AbortController()
    this.start()
  }

  stop(): void {
    this.#round.abort()
    clearTimeout(this.#timer)
  }

  async #look(round: AbortSignal): Promise<void> {
    const { forwards, config, log } = this.#options
    const url = policyUrlOf(config())
    if (url !== this.#url) {
      this.#url = url
      this.#last = undefined
      this.#isTroubled = false
    }
    try {
      if (url !== undefined && forwards()) {
        await this.#tell(url, await this.#ask(url, round), round)
        this.#isTroubled = false
      }
    } catch (error) {
      if (round.aborted) return
      if (!this.#isTroubled) {
        log.warn({ err: errorText(error) }, `${url} does not tell the policy's version`)
      }
      this.#isTroubled = true
    }
    if (round.aborted) return
    this.#timer = setTimeout(() => void this.#look(round), config().policyPollIntervalMs)
    this.#timer.unref()
  }

  async #tell(url: string, version: string, round: AbortSignal): Promise<void> {
    const { config, onVersion } = this.#options
    const isCurrent = (): boolean => policyUrlOf(config()) === url
    if (version === this.#last || round.aborted || !isCurrent()) return
    await onVersion(version)
    // Its turn came behind a reload: what another engine said may not be stamped.
    if (!isCurrent()) await onVersion('')
    else if (!round.aborted) this.#last = version
  }

  async #ask(url: string, round: AbortSignal): Promise<string> {
    const key = this.#options.config().upstreamApiKey?.reveal()
    const response = await fetch(url, {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      signal: AbortSignal.any([round, AbortSignal.timeout(POLICY_POLL_MS_MAX)]),
    })
    const text = await textOf(response)
    if (!response.ok) throw new Error(`status ${response.status}`)
    const version = versionIn(parseJson(text))
    if (version === undefined) throw new Error('no version in its answer')
    return version
  }
}

/**
 * Where a configuration has the version asked for: at its first upstream that is a server; undefined
 * when there is none. The path stands at the root, whatever path the base URL has.
 */
export function policyUrlOf(config: RolltapeConfig): string | undefined {
  const { policyPollPath, proxyBaseUrl, proxyRules } = config
  const bases = [...proxyBaseUrl, ...proxyRules.values()]
  const base = bases.find((one) => queueOf(one) === undefined)
  if (policyPollPath === null || base === undefined) return undefined
  return new URL(policyPollPath, base).href
}

/** `weight_version` or `version`, at the root or in `metadata`. */
function versionIn(value: unknown): string | undefined {
  if (!isObject(value)) return undefined
  const version = value['weight_version'] ?? value['version']
  if (typeof version !== 'string' && typeof version !== 'number') {
    return versionIn(value['metadata'])
  }
  const text = String(version)
  const isSound = Buffer.byteLength(text) <= POLICY_VERSION_BYTES_MAX && !/\p{Cc}/u.test(text)
  return isSound ? text : undefined
}

async function textOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of response.body ?? []) {
    parts.push(part as Uint8Array)
    bytes += (part as Uint8Array).length
    if (bytes > POLICY_ANSWER_BYTES_MAX) {
      throw new Error(`its answer has more than ${POLICY_ANSWER_BYTES_MAX} bytes`)
    }
  }
  return Buffer.concat(parts).toString()
}
