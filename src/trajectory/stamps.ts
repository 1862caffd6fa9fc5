/** What was stamped on an exchange from outside: versions of the policy, and the tries of an SDK. */
import type { BeginFrame, TapedExchange } from '../tape/exchange.ts'
import type { ExchangeRecord } from './record.ts'

/**
 * Versions at dispatch, at the answer's head and at its end; null where none was known, or there was
 * no such moment. `mixed` unless all moments that there were have the same: where a version became
 * known, or was forgotten, on the way, nobody can tell what sampled the tokens before or after.
 */
export function policyOf(
  { begin, head, end, policy }: TapedExchange,
  engine: string | null,
): ExchangeRecord['policy'] {
  const at = (version: string | undefined): string | null => {
    const told = version ?? begin.policyVersion
    return told === '' ? null : told
  }
  const dispatch = at(undefined)
  const moments = [dispatch]
  const stamp = (hasMoment: boolean, version: string | undefined): string | null => {
    if (!hasMoment) return null
    const told = at(version)
    moments.push(told)
    return told
  }
  const first_byte = stamp(head !== undefined && !head.own, policy?.firstByte)
  const last = stamp(end !== undefined && begin.upstream !== '', policy?.end)
  return { dispatch, first_byte, end: last, engine, mixed: new Set(moments).size > 1 }
}

/** How many tries an SDK had made before this one; undefined when it was the first. */
export function clientRetryOf({ headers }: BeginFrame): number | undefined {
  const value = headers.find(([name]) => name.toLowerCase() === 'x-stainless-retry-count')?.[1]
  const count = value !== undefined && /^\d{1,6}$/.test(value) ? Number(value) : 0
  return count > 0 ? count : undefined
}
