/** What callers say, checked: each refusal is INVALID_ARGUMENT and names the field. */
import { RolltapeError } from '../errors.ts'
import { DRAIN_MS_MAX, PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX } from '../limits.ts'
import type { Outcome as OutcomeName } from '../trajectory/record.ts'
import type { Duration } from './gen/google/protobuf/duration.ts'
import type { Outcome } from './gen/rolltape/control/v1/control.ts'
import { OUTCOME, msOf } from './messages.ts'

/** One page of a list and the token of the next; empty when it was the last. */
export interface Page<T> {
  readonly entries: readonly T[]
  readonly nextPageToken: string
}

/**
 * A page of a list that is in a fixed order. A token is the key of the last entry given, so pages
 * stay right while entries come and go.
 * @throws RolltapeError `bad_argument` for `page_size` and `page_token`.
 */
export function pageOf<T>(
  all: readonly T[],
  keyOf: (entry: T) => string,
  { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
): Page<T> {
  const size = pageSizeOf(pageSize)
  const after = readToken(pageToken)
  const from = after === undefined ? 0 : all.findIndex((entry) => keyOf(entry) > after)
  const entries = from < 0 ? [] : all.slice(from, from + size)
  const last = entries.at(-1)
  const isLast = last === undefined || last === all.at(-1)
  return { entries, nextPageToken: isLast ? '' : token(keyOf(last)) }
}

/**
 * Entries of a page.
 * @throws RolltapeError `bad_argument` for `page_size`.
 */
export function pageSizeOf(pageSize: number): number {
  if (pageSize < 0) throw bad(`page_size is ${pageSize}, and a page has 0 or more entries`)
  return Math.min(pageSize === 0 ? PAGE_ENTRIES_DEFAULT : pageSize, PAGE_ENTRIES_MAX)
}

/**
 * How long a drain may take, in ms; undefined where nothing is said.
 * @throws RolltapeError `bad_argument` for `drain_timeout`.
 */
export function drainTimeoutMs(given: Duration | undefined): number | undefined {
  if (given === undefined) return undefined
  const ms = msOf(given)
  if (ms >= 0 && ms <= DRAIN_MS_MAX) return ms
  throw bad(`drain_timeout is ${ms / 1_000} s, and a drain takes from 0 s to 24 days`)
}

/**
 * Names of outcomes.
 * @throws RolltapeError `bad_argument` for `outcomes`.
 */
export function outcomesOf(given: readonly Outcome[]): Set<OutcomeName> {
  return new Set(
    given.map((outcome) => {
      const found = Object.entries(OUTCOME).find(([, wire]) => wire === outcome)
      if (found === undefined) throw bad(`outcomes holds ${outcome}, which is no outcome`)
      return found[0] as OutcomeName
    }),
  )
}

/**
 * A path with its query.
 * @throws RolltapeError `bad_argument` for `path`.
 */
export function pathOf(given: string, otherwise: string): string {
  if (given === '') return otherwise
  if (given.startsWith('/')) return given
  throw bad(`path is ${JSON.stringify(given.slice(0, 80))}, and a path begins with /`)
}

/** An argument that cannot be; the message begins with the field's name. */
export function bad(message: string): RolltapeError {
  return new RolltapeError('bad_argument', message)
}

const MARK = 'after:'

/** The token of what comes behind this key. */
export function token(key: string): string {
  return Buffer.from(`${MARK}${key}`).toString('base64url')
}

/**
 * The key that a token stands for; undefined for the first page.
 * @throws RolltapeError `bad_argument` for `page_token`.
 */
export function readToken(given: string): string | undefined {
  if (given === '') return undefined
  const text = Buffer.from(given, 'base64url').toString('utf8')
  if (text.startsWith(MARK) && token(text.slice(MARK.length)) === given) {
    return text.slice(MARK.length)
  }
  throw bad('page_token is none that this call has given')
}
