/** What was stamped on an exchange from outside: versions of the policy, and the tries of an SDK. */
import type { BeginFrame, TapedExchange } from '../tape/exchange.ts'
import type { ExchangeRecord } from './record.ts'

/** Versions at dispatch, at the answer's head and at its end; null where there was none, or no such moment. */
export function policyOf(
  { begin, head, end, policy }: TapedExchange,
  engine: string | null,
): ExchangeRecord['policy'] {
  const at = (version: string | undefined): string | null => {
    const told = version ?? begin.policyVersion
    return told === '' ? null : told
  }
  const dispatch = at(undefined)
  const hasHead = head !== undefined && !head.own
  const first_byte = hasHead ? at(policy?.firstByte) : null
  const last = end === undefined || begin.upstream === '' ? null : at(policy?.end)
  const known = new Set([dispatch, first_byte, last].filter((version) => version !== null))
  return { dispatch, first_byte, end: last, engine, mixed: known.size > 1 }
}

/** How many tries an SDK had made before this one; undefined when it was the first. */
export function clientRetryOf({ headers }: BeginFrame): number | undefined {
  const value = headers.find(([name]) => name.toLowerCase() === 'x-stainless-retry-count')?.[1]
  const count = value !== undefined && /^\d{1,6}$/.test(value) ? Number(value) : 0
  return count > 0 ? count : undefined
}
