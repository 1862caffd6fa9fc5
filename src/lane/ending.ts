/** How an exchange ended, as END says it. */
import type { RolltapeError } from '../errors.ts'
import type { CloseCause, EndFrame } from '../tape/exchange.ts'
import type { SessionCount } from '../trajectory/session-sums.ts'
import { OUTCOME_OF_CAUSE, outcomeOfCode } from '../trajectory/outcome-of-cause.ts'
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

/** How an exchange counts for its session where it is not recorded. */
export function countOf({
  arrival,
  end,
}: {
  readonly arrival: Arrival
  readonly end: EndFrame | undefined
}): SessionCount {
  return {
    session: arrival.session,
    isGeneration: arrival.isGeneration,
    outcome: end === undefined ? 'refused' : outcomeOf(end),
    inputTokens: 0,
    outputTokens: 0,
    startMs: performance.timeOrigin + arrival.atMs,
    endMs: performance.timeOrigin + performance.now(),
  }
}

/** As derive would conclude, but for what only the answer's own bytes can tell. */
function outcomeOf({ cause, code }: EndFrame): Outcome {
  if (cause === 'upstream_end') return 'complete'
  if (cause === 'error') return outcomeOfCode(code) ?? 'refused'
  return OUTCOME_OF_CAUSE[cause]
}
