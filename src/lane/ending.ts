/** How an exchange ended, as END says it. */
import type { RolltapeError } from '../errors.ts'
import type { CloseCause, EndFrame } from '../tape/exchange.ts'
import type { SessionCount } from '../trajectory/session-sums.ts'
import type { Outcome } from '../trajectory/record.ts'
import type { Arrival } from './arrival.ts'
import type { Relay } from './relay.ts'

/** Bytes that are held for a commit count as forwarded: they go, or a second END says otherwise. */
export function endFrame(
  relay: Relay,
  cause: CloseCause,
  atUs: number,
  error: RolltapeError | undefined,
  part: number,
): EndFrame {
  return {
    cause,
    bytesReceived: relay.receivedBytes,
    bytesForwarded: relay.forwardedBytes + relay.heldBytes,
    atUs,
    part,
    code: error?.code ?? '',
    message: error?.message ?? '',
  }
}

/** What becomes of an exchange that no record tells of, by what ended it. */
const OUTCOME: Record<CloseCause, Outcome> = {
  upstream_end: 'complete',
  upstream_reset: 'truncated',
  client_gone: 'client_gone',
  timeout_connect: 'timeout',
  timeout_ttfb: 'timeout',
  timeout_stall: 'timeout',
  timeout_total: 'timeout',
  cancelled: 'cancelled',
  error: 'refused',
}

/** How an exchange counts for its session where it is not recorded. */
export function countOf({
  arrival,
  cause,
}: {
  readonly arrival: Arrival
  readonly cause: CloseCause | undefined
}): SessionCount {
  return {
    session: arrival.session,
    isGeneration: arrival.isGeneration,
    outcome: OUTCOME[cause ?? 'error'],
    inputTokens: 0,
    outputTokens: 0,
    startMs: performance.timeOrigin + arrival.atMs,
    endMs: performance.timeOrigin + performance.now(),
  }
}
