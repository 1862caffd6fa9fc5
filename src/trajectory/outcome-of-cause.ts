/**
 * What an exchange comes to by what ended it, where nothing of its answer decides: the part of
 * concluding that needs no protocol, so that lanes may ask it too.
 */
import type { CloseCause } from '../tape/exchange.ts'
import type { Outcome } from './record.ts'

/** What is left to conclude from when the answer's end is not there. */
export const OUTCOME_OF_CAUSE = {
  upstream_end: 'truncated',
  upstream_reset: 'upstream_error',
  client_gone: 'client_gone',
  timeout_connect: 'timeout',
  timeout_ttfb: 'timeout',
  timeout_stall: 'timeout',
  timeout_total: 'timeout',
  cancelled: 'cancelled',
  error: 'truncated',
} as const satisfies Record<CloseCause, Outcome>

/** What an error of rolltape's own says of the upstream; undefined when it is not about that. */
export function outcomeOfCode(code: string): Outcome | undefined {
  if (code.startsWith('upstream_timeout_')) return 'timeout'
  return code.startsWith('upstream_') ? 'upstream_error' : undefined
}
