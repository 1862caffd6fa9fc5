/** Base URLs of upstreams that are no server but responders: `responder:`, `responder:<queue>`. */

const SCHEME = 'responder:'

/** What a base URL of this kind looks like. */
export const RESPONDER_URL = /^responder:(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$/

/** The queue when none is named. */
export const DEFAULT_QUEUE = 'default'

/** The queue that a base URL stands for; undefined when it is that of a server. */
export function queueOf(base: string): string | undefined {
  if (!base.startsWith(SCHEME)) return undefined
  return base.slice(SCHEME.length) || DEFAULT_QUEUE
}

/** All queues that a configuration forwards to. */
export function queuesOf(routes: {
  readonly proxyBaseUrl: readonly string[]
  readonly proxyRules: ReadonlyMap<string, string>
}): ReadonlySet<string> {
  const { proxyBaseUrl, proxyRules } = routes
  const bases = proxyBaseUrl.length > 0 ? proxyBaseUrl : [...proxyRules.values()]
  return new Set(bases.flatMap((base) => queueOf(base) ?? []))
}
