/**
 * Which record answers a request: by key or in sequence, within the session it is bound to, each
 * record once per run. Pure but for the claims it makes, and for hints where to begin in long lists.
 */
import type { RunClaims } from './claims.ts'
import { WANTED } from './hints.ts'
import type { ListSum, Wanted } from './hints.ts'
import { LIST } from './index-table.ts'
import type { List, ReplayIndex } from './index-table.ts'
import type { Key } from './key.ts'
import { IS_GENERATION, IS_UNUSABLE, isServed } from './packed.ts'
import type { ServedRules } from './packed.ts'

/** Which of the two keys. */
export type KeyKind = 'raw' | 'canonical'

/** How records are chosen. */
export type MatchPolicy = 'sequence' | 'keyed' | 'pooled'

/** How asking sessions find recorded ones. */
export type SessionMatch = 'exact' | 'bind' | 'pooled'

/** The options of a selection. */
export interface SelectOptions extends ServedRules {
  readonly match: MatchPolicy
  readonly sessionMatch: SessionMatch
  readonly onExhausted: 'error' | 'repeat_last' | 'loop' | 'live'
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

/** All that a selection goes by. */
interface Selection {
  readonly index: ReplayIndex
  readonly claims: RunClaims
  readonly asked: Asked
  readonly options: SelectOptions
}

/** A list of records with one key, to be gone through from its head. */
interface Listed {
  readonly list: List
  readonly head: number
  readonly how: KeyKind
}

/** Chooses and claims a record. */
export function select(
  index: ReplayIndex,
  claims: RunClaims,
  asked: Asked,
  options: SelectOptions,
): Choice {
  const selection: Selection = { index, claims, asked, options }
  const { onUnusable, replayPartial, turnMax } = options
  claims.hints.under(options, () => `${onUnusable} ${replayPartial} ${turnMax}`)
  claims.catchUp(index)
  if (options.match === 'sequence' && asked.isGeneration) return inSequence(selection)
  const pooled = options.match === 'pooled' || options.sessionMatch === 'pooled'
  const session = pooled ? ANY : sessionFor(selection)
  if (session === -1) return { kind: 'missed' }
  const lists = listsOf(selection, session)
  if (!asked.isGeneration) return unclaimed(selection, lists)
  const choice = claimed(selection, lists)
  if (choice.kind !== 'exhausted' || options.onExhausted !== 'loop') return choice
  return rewind(selection, lists) ? claimed(selection, lists) : choice
}

/** Makes what was used of these lists free again; false when nothing was. */
function rewind(
  { index, claims }: Selection,
  lists: readonly Pick<Listed, 'list' | 'head'>[],
): boolean {
  let isAny = false
  for (const { list, head } of lists) {
    for (let record = head; record >= 0; record = index.next(list, record)) {
      if (!claims.isUsed(record)) continue
      claims.place(record, false)
      isAny = true
    }
  }
  claims.catchUp(index)
  return isAny
}

/**
 * The first record that is free. A retry takes what was given back, which its first try had, or
 * takes over what that still holds.
 */
function claimed(selection: Selection, lists: readonly Listed[]): Choice {
  const { claims, asked, options } = selection
  const again = asked.isRetry ? returned(selection, lists) : undefined
  if (again !== undefined) return again
  const wanted = asked.isRetry ? WANTED.unused : WANTED.free
  for (const listed of lists) {
    const record = walk(selection, listed, wanted, (record) => {
      if (!isOffered(selection, record)) return 'skip'
      if (asked.isRetry && claims.takeOver(record)) return 'take'
      return claims.isFree(record) && claims.claim(record) ? 'take' : 'skip'
    })
    if (record >= 0) return { kind: 'record', record, how: listed.how, claimed: true }
  }
  let total = 0
  let last = -1
  let how: KeyKind = 'raw'
  for (const listed of lists) {
    const sum = sumOf(selection, listed)
    if (sum.total === 0) continue
    total += sum.total
    last = sum.last
    how = listed.how
  }
  return total === 0 ? { kind: 'missed' } : exhausted({ last, how, total }, options)
}

/** The first record that somebody gave back; no hint is learnt, as what is passed is still wanted. */
function returned(selection: Selection, lists: readonly Listed[]): Choice | undefined {
  const { index, claims } = selection
  for (const { list, head, how } of lists) {
    let record = claims.hints.start(list, head, WANTED.unused)
    for (; record >= 0; record = index.next(list, record)) {
      if (!isOffered(selection, record) || !claims.claimReturned(record)) continue
      return { kind: 'record', record, how, claimed: true }
    }
  }
  return undefined
}

/** The first record with an answer, else the first; others may be given the same. */
function unclaimed(selection: Selection, lists: readonly Listed[]): Choice {
  const sums = lists.map((listed) => ({ ...listed, ...sumOf(selection, listed) }))
  const usable = sums.find(({ firstUsable }) => firstUsable >= 0)
  const any = usable ?? sums.find(({ first }) => first >= 0)
  if (any === undefined) return { kind: 'missed' }
  const record = usable === undefined ? any.first : usable.firstUsable
  return { kind: 'record', record, how: any.how, claimed: false }
}

/** The next record of the session, whatever is asked. */
function inSequence(selection: Selection): Choice {
  const { index, claims, options } = selection
  const pooled = options.sessionMatch === 'pooled'
  const session = pooled ? ANY : sessionFor(selection)
  if (session === -1) return { kind: 'missed' }
  const list = session === ANY ? LIST.all : LIST.session
  const head = session === ANY ? Math.min(0, index.count - 1) : index.firstOf(session)
  const record = walk(selection, { list, head }, WANTED.free, (record) => {
    if ((index.flags(record) & IS_GENERATION) === 0) return 'skip'
    if (!isOffered(selection, record)) return 'skip'
    return claims.isFree(record) && claims.claim(record) ? 'take' : 'skip'
  })
  if (record >= 0) return { kind: 'record', record, how: 'sequence', claimed: true }
  if (options.onExhausted === 'loop' && rewind(selection, [{ list, head }])) {
    return inSequence(selection)
  }
  const { last, total } = sumOf(selection, { list, head })
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
function sessionFor(selection: Selection): number {
  const { index, claims, asked, options } = selection
  const own = index.sessionNumber(asked.session)
  if (options.sessionMatch === 'exact') return own ?? -1
  const bound = claims.bound(asked.session)
  if (bound >= 0) return bound
  if (own !== undefined && claims.bind(own, asked.session)) return own
  if (options.match === 'sequence') {
    for (let session = claims.firstUnbound(); session >= 0; session = claims.firstUnbound()) {
      if (claims.bind(session, asked.session)) return session
    }
    return -1
  }
  for (const listed of listsOf(selection, ANY)) {
    const record = walk(selection, listed, WANTED.bindable, (record) => {
      const session = index.session(record)
      if (isLater(selection, record)) return 'skip'
      if (!claims.isUnbound(session) || !claims.isFree(record)) return 'skip'
      return claims.bind(session, asked.session) ? 'take' : 'skip'
    })
    if (record >= 0) return index.session(record)
  }
  return -1
}

/**
 * Lists of records with the raw key, then those with the canonical one, those of the asked form
 * first; each in recorded order.
 */
function listsOf({ index, asked }: Selection, session: number): Listed[] {
  const [raw, canonical] =
    session === ANY ? [LIST.raw, LIST.canonical] : [LIST.rawOfSession, LIST.canonicalOfSession]
  const lists: Listed[] = [
    { list: raw, head: index.first(raw, asked.rawKey, session, false), how: 'raw' },
  ]
  const key = asked.canonicalKey
  if (key !== undefined) {
    for (const isStream of [asked.isStream, !asked.isStream]) {
      const head = index.first(canonical, key, session, isStream)
      lists.push({ list: canonical, head, how: 'canonical' })
    }
  }
  return lists.filter(({ head }) => head >= 0)
}

/** Goes through a list up to the first record that is taken; -1 when none is. */
function walk(
  { index, claims }: Selection,
  { list, head }: Pick<Listed, 'list' | 'head'>,
  wanted: Wanted,
  meet: (record: number) => 'take' | 'skip',
): number {
  let record = head < 0 ? -1 : claims.hints.start(list, head, wanted)
  let steps = 0
  while (record >= 0 && meet(record) !== 'take') {
    record = index.next(list, record)
    steps++
  }
  claims.hints.learn({ list, head, wanted }, record, steps)
  return record
}

/** What a list has to serve in all, taken or not. */
function sumOf(selection: Selection, { list, head }: Pick<Listed, 'list' | 'head'>): ListSum {
  const { index, claims } = selection
  return claims.hints.sum(list, head, () => {
    let [total, last, first, firstUsable] = [0, -1, -1, -1]
    const onlyGenerations = list >= LIST.session
    for (let record = head; record >= 0; record = index.next(list, record)) {
      const flags = index.flags(record)
      if (onlyGenerations && (flags & IS_GENERATION) === 0) continue
      if (!isOffered(selection, record)) continue
      total++
      last = record
      if (first < 0) first = record
      if (firstUsable < 0 && (flags & IS_UNUSABLE) === 0) firstUsable = record
    }
    return { total, last, first, firstUsable }
  })
}

function isOffered(selection: Selection, record: number): boolean {
  const { index, options } = selection
  return isServed(index.flags(record), options) && !isLater(selection, record)
}

function isLater({ index, options }: Selection, record: number): boolean {
  return (index.flags(record) & IS_GENERATION) !== 0 && index.turn(record) > options.turnMax
}
