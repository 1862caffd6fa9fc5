/**
 * Which record answers a request: by key or in sequence, within the session it is bound to, each
 * record once per run. Pure but for the claims it makes.
 */
import type { RunClaims } from './claims.ts'
import { IS_GENERATION, IS_PARTIAL, IS_STREAM, IS_UNUSABLE } from './index-table.ts'
import type { KeyKind, ReplayIndex } from './index-table.ts'
import type { Key } from './key.ts'

/** How records are chosen. */
export type MatchPolicy = 'sequence' | 'keyed' | 'pooled'

/** How asking sessions find recorded ones. */
export type SessionMatch = 'exact' | 'bind' | 'pooled'

/** The options of a selection. */
export interface SelectOptions {
  readonly match: MatchPolicy
  readonly sessionMatch: SessionMatch
  readonly onExhausted: 'error' | 'repeat_last' | 'loop' | 'live'
  readonly onUnusable: 'error' | 'skip'
  readonly replayPartial: boolean
  /** Generation records of later turns are as if they were not there; Infinity for all of them. */
  readonly turnMax: number
}

/** A request to be answered. */
export interface Asked {
  readonly session: string
  readonly rawKey: Key
  readonly canonicalKey: Key | undefined
  /** Whether it asks for a stream; a record of the same form goes before others of the same key. */
  readonly isStream: boolean
  readonly isGeneration: boolean
  /** An SDK says that it has asked this before. */
  readonly isRetry: boolean
}

/** What was found. `claimed` tells whether the record was free and is taken now. */
export type Choice =
  | {
      readonly kind: 'record'
      readonly record: number
      readonly how: KeyKind | 'sequence'
      readonly claimed: boolean
    }
  | { readonly kind: 'missed' }
  /** The request is none that could have been recorded (R2). */
  | { readonly kind: 'invalid'; readonly why: string }
  | { readonly kind: 'exhausted'; readonly step: number; readonly total: number }

/** Any recorded session. */
const ANY = -2

/** Chooses and claims a record. */
export function select(
  index: ReplayIndex,
  claims: RunClaims,
  asked: Asked,
  options: SelectOptions,
): Choice {
  if (options.match === 'sequence' && asked.isGeneration) {
    return inSequence(index, claims, asked, options)
  }
  const pooled = options.match === 'pooled' || options.sessionMatch === 'pooled'
  const session = pooled ? ANY : sessionFor(index, claims, asked, options)
  if (session === -1) return { kind: 'missed' }
  let seen = 0
  let last = -1
  let lastHow: KeyKind = 'raw'
  let unusable: Choice | undefined
  for (const [kind, record] of candidates(index, asked)) {
    if (session !== ANY && index.session(record) !== session) continue
    if (!isServed(index, record, options)) continue
    if (!asked.isGeneration) {
      const choice = { kind: 'record', record, how: kind, claimed: false } as const
      if ((index.flags(record) & IS_UNUSABLE) === 0) return choice
      unusable ??= choice
      continue
    }
    if (asked.isRetry && !claims.isFree(record) && !claims.isUsed(record)) {
      return { kind: 'record', record, how: kind, claimed: true }
    }
    if (claims.claim(record)) return { kind: 'record', record, how: kind, claimed: true }
    seen++
    last = record
    lastHow = kind
  }
  if (unusable !== undefined) return unusable
  if (seen === 0) return { kind: 'missed' }
  return exhausted({ last, how: lastHow, total: seen }, options)
}

/** The next record of the session, whatever is asked. */
function inSequence(
  index: ReplayIndex,
  claims: RunClaims,
  asked: Asked,
  options: SelectOptions,
): Choice {
  const pooled = options.sessionMatch === 'pooled'
  const session = pooled ? ANY : sessionFor(index, claims, asked, options)
  if (session === -1) return { kind: 'missed' }
  let total = 0
  let last = -1
  for (let record = 0; record < index.count; record++) {
    if (session !== ANY && index.session(record) !== session) continue
    if ((index.flags(record) & IS_GENERATION) === 0) continue
    if (!isServed(index, record, options)) continue
    total++
    last = record
    if (claims.claim(record)) return { kind: 'record', record, how: 'sequence', claimed: true }
  }
  return exhausted({ last, how: 'sequence', total }, options)
}

function exhausted(
  { last, how, total }: { last: number; how: KeyKind | 'sequence'; total: number },
  options: SelectOptions,
): Choice {
  if (options.onExhausted === 'repeat_last' && last >= 0) {
    return { kind: 'record', record: last, how, claimed: false }
  }
  return { kind: 'exhausted', step: total, total }
}

/**
 * The recorded session that answers this one: its own by name, else (with `bind`) the one it is
 * bound to, else the earliest one that nobody is bound to and that has a free record of this key.
 */
function sessionFor(
  index: ReplayIndex,
  claims: RunClaims,
  asked: Asked,
  options: SelectOptions,
): number {
  const { sessionMatch, match } = options
  const own = index.sessionNumber(asked.session)
  if (sessionMatch === 'exact') return own ?? -1
  const bound = claims.bound(asked.session)
  if (bound >= 0) return bound
  if (own !== undefined && claims.bind(own, asked.session)) return own
  if (match === 'sequence') {
    for (let session = 0; session < index.sessions.length; session++) {
      if (claims.isUnbound(session) && claims.bind(session, asked.session)) return session
    }
    return -1
  }
  for (const [, record] of candidates(index, asked)) {
    const session = index.session(record)
    if (isLater(index, record, options)) continue
    if (!claims.isUnbound(session) || !claims.isFree(record)) continue
    if (claims.bind(session, asked.session)) return session
  }
  return -1
}

/**
 * Records with the raw key, then those with the canonical one, those of the asked form first; each
 * in recorded order.
 */
function* candidates(index: ReplayIndex, asked: Asked): Generator<[KeyKind, number]> {
  for (let record = index.first('raw', asked.rawKey); record >= 0;) {
    yield ['raw', record]
    record = index.next('raw', record)
  }
  const key = asked.canonicalKey
  if (key === undefined) return
  for (const isStream of [asked.isStream, !asked.isStream]) {
    for (let record = index.first('canonical', key); record >= 0;) {
      if (((index.flags(record) & IS_STREAM) !== 0) === isStream) yield ['canonical', record]
      record = index.next('canonical', record)
    }
  }
}

function isServed(index: ReplayIndex, record: number, options: SelectOptions): boolean {
  const flags = index.flags(record)
  const isPartial = (flags & IS_PARTIAL) !== 0
  // Of an answer that nobody waited for, not even its head came: that is no record to stop at.
  if ((flags & IS_UNUSABLE) !== 0 && (isPartial || options.onUnusable === 'skip')) return false
  if (isLater(index, record, options)) return false
  return options.replayPartial || !isPartial
}

function isLater(index: ReplayIndex, record: number, { turnMax }: SelectOptions): boolean {
  return (index.flags(record) & IS_GENERATION) !== 0 && index.turn(record) > turnMax
}
