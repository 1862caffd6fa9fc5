/**
 * Asks the engine, every so often, for the version of its weights, and has requests stamped with it
 * (`policy_poll_path`). The first upstream is asked; where there are several they are taken to be
 * updated together. Nothing is asked while nothing is forwarded.
 */
import { errorText } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import { POLICY_ANSWER_BYTES_MAX, POLICY_POLL_MS_MAX, POLICY_VERSION_BYTES_MAX } from '../limits.ts'
import type { RolltapeConfig } from '../options.ts'
import { isObject, parseJson } from '../wire/json.ts'

/** What polling needs. */
export interface PolicyPollOptions {
  readonly config: RolltapeConfig
  readonly log: LaneLog
  /** True while requests are forwarded. */
  readonly forwards: () => boolean
  /** A version that is another than the one told before. */
  readonly onVersion: (version: string) => Promise<unknown>
}

/** Polls one engine. */
export class PolicyPoll {
  readonly #options: PolicyPollOptions
  readonly #stopping = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #last: string | undefined
  /** Trouble is told once, until it is over. */
  #isTroubled = false

  constructor(options: PolicyPollOptions) {
    this.#options = options
  }

  /** Begins to ask, where the configuration says so. */
  start(): void {
    const url = urlOf(this.#options.config)
    if (url !== undefined) this.#look(url).catch(() => undefined)
  }

  stop(): void {
    this.#stopping.abort()
    clearTimeout(this.#timer)
  }

  async #look(url: string): Promise<void> {
    const { forwards, config, log, onVersion } = this.#options
    try {
      if (forwards()) {
        const version = await this.#ask(url)
        if (version !== this.#last && !this.#stopping.signal.aborted) await onVersion(version)
        this.#last = version
        this.#isTroubled = false
      }
    } catch (error) {
      if (!this.#isTroubled && !this.#stopping.signal.aborted) {
        log.warn({ err: errorText(error) }, `${url} does not tell the policy's version`)
      }
      this.#isTroubled = true
    }
    if (this.#stopping.signal.aborted) return
    this.#timer = setTimeout(() => void this.#look(url), config.policyPollIntervalMs)
    this.#timer.unref()
  }

  async #ask(url: string): Promise<string> {
    const key = this.#options.config.upstreamApiKey?.reveal()
    const response = await fetch(url, {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      signal: AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(POLICY_POLL_MS_MAX)]),
    })
    const text = await textOf(response)
    if (!response.ok) throw new Error(`status ${response.status}`)
    const version = versionIn(parseJson(text))
    if (version === undefined) throw new Error('no version in its answer')
    return version
  }
}

/** The path stands at the root of the server, whatever path its base URL has. */
function urlOf({ policyPollPath, proxyBaseUrl, proxyRules }: RolltapeConfig): string | undefined {
  const [base] = [...proxyBaseUrl, ...proxyRules.values()]
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
