// Which record answers: the same as a scan over all records would say, and without the scan.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import t from 'tap'
import { Claims, makeClaimsMemory } from '../../src/replay/claims.ts'
import type { RunClaims } from '../../src/replay/claims.ts'
import { RELEASES_MAX } from '../../src/limits.ts'
import { ReplayIndex } from '../../src/replay/index-table.ts'
import type { List } from '../../src/replay/index-table.ts'
import type { Key } from '../../src/replay/key.ts'
import { IS_GENERATION, IS_PARTIAL, IS_STREAM, IS_UNUSABLE } from '../../src/replay/packed.ts'
import { select } from '../../src/replay/select.ts'
import type { Asked, Choice, SelectOptions } from '../../src/replay/select.ts'
import { makeIndex } from '../support/replay-index.ts'

const keyOf = (n: number): Key => [n + 1, 0, 0, 0]

interface Recorded {
  readonly session: string
  readonly raw: number
  readonly canonical: number
  readonly turn: number
  readonly flags: number
}

/** All there is to say of who took what, for the scan: no shared memory, no hints. */
interface Plain {
  readonly states: ('free' | 'returned' | 'claimed' | 'used')[]
  /** Asking session by recorded one. */
  readonly bound: Map<number, string>
}

/** The same choice, made by looking at every record each time. */
function scan(records: Recorded[], plain: Plain, asked: Asked, options: SelectOptions): Choice {
  const sessions = [...new Set(records.map(({ session }) => session))]
  const sessionOf = (at: number): number => sessions.indexOf(records[at]!.session)
  const isLater = (at: number): boolean =>
    (records[at]!.flags & IS_GENERATION) !== 0 && records[at]!.turn > options.turnMax
  const isServed = (at: number): boolean => {
    const { flags } = records[at]!
    const isPartial = (flags & IS_PARTIAL) !== 0
    if ((flags & IS_UNUSABLE) !== 0 && (isPartial || options.onUnusable === 'skip')) return false
    return !isLater(at) && (options.replayPartial || !isPartial)
  }
  const isFree = (at: number): boolean => ['free', 'returned'].includes(plain.states[at]!)
  const all = records.map((_, at) => at)
  const withKey = (kind: 'raw' | 'canonical', key: Key): number[] =>
    all.filter((at) => records[at]![kind] + 1 === key[0])
  const candidates: ['raw' | 'canonical', number][] = [
    ...withKey('raw', asked.rawKey).map((at) => ['raw', at] as ['raw', number]),
    ...[asked.isStream, !asked.isStream].flatMap((isStream) =>
      asked.canonicalKey === undefined
        ? []
        : withKey('canonical', asked.canonicalKey)
            .filter((at) => ((records[at]!.flags & IS_STREAM) !== 0) === isStream)
            .map((at) => ['canonical', at] as ['canonical', number]),
    ),
  ]
  const sessionFor = (): number => {
    const own = sessions.indexOf(asked.session)
    if (options.sessionMatch === 'exact') return own
    for (const [session, asking] of plain.bound) if (asking === asked.session) return session
    const bind = (session: number): number => {
      plain.bound.set(session, asked.session)
      return session
    }
    if (own >= 0 && !plain.bound.has(own)) return bind(own)
    if (options.match === 'sequence') {
      const free = sessions.findIndex((_, session) => !plain.bound.has(session))
      return free < 0 ? -1 : bind(free)
    }
    const found = candidates.find(
      ([, at]) => !isLater(at) && !plain.bound.has(sessionOf(at)) && isFree(at),
    )
    return found === undefined ? -1 : bind(sessionOf(found[1]))
  }
  const inSequence = options.match === 'sequence' && asked.isGeneration
  const pooled = options.sessionMatch === 'pooled' || (!inSequence && options.match === 'pooled')
  const session = pooled ? undefined : sessionFor()
  if (session === -1) return { kind: 'missed' }
  const list: ['raw' | 'canonical' | 'sequence', number][] = inSequence
    ? all.filter((at) => (records[at]!.flags & IS_GENERATION) !== 0).map((at) => ['sequence', at])
    : candidates
  const served = list.filter(
    ([, at]) => (session === undefined || sessionOf(at) === session) && isServed(at),
  )
  if (!asked.isGeneration) {
    const usable = served.find(([, at]) => (records[at]!.flags & IS_UNUSABLE) === 0) ?? served[0]
    if (usable === undefined) return { kind: 'missed' }
    return { kind: 'record', record: usable[1], how: usable[0], claimed: false }
  }
  const isRetry = !inSequence && asked.isRetry
  const again = served.filter(([, at]) => isRetry && plain.states[at] === 'returned')
  for (const [how, record] of [...again, ...served]) {
    const isTakenOver = isRetry && plain.states[record] === 'claimed'
    if (!isTakenOver && !isFree(record)) continue
    plain.states[record] = 'claimed'
    return { kind: 'record', record, how, claimed: true }
  }
  const last = served.at(-1)
  if (last === undefined && !inSequence) return { kind: 'missed' }
  if (options.onExhausted === 'repeat_last' && last !== undefined) {
    return { kind: 'record', record: last[1], how: last[0], claimed: false }
  }
  return { kind: 'exhausted', step: served.length, total: served.length }
}

const SESSIONS = ['a', 'b', 'c', 'd']
const recorded: fc.Arbitrary<Recorded> = fc.record({
  session: fc.constantFrom('a', 'a', 'a', 'b', 'c'),
  raw: fc.constantFrom(0, 0, 0, 1, 2),
  canonical: fc.nat(1),
  turn: fc.integer({ min: 1, max: 4 }),
  flags: fc
    .tuple(
      fc.constantFrom(0, IS_GENERATION, IS_GENERATION, IS_GENERATION),
      fc.constantFrom(0, 0, 0, 0, IS_PARTIAL, IS_UNUSABLE, IS_PARTIAL | IS_UNUSABLE),
      fc.constantFrom(0, IS_STREAM),
    )
    .map(([a, b, c]) => a | b | c),
})
const options: fc.Arbitrary<SelectOptions> = fc.record({
  match: fc.constantFrom('keyed', 'sequence', 'pooled'),
  sessionMatch: fc.constantFrom('bind', 'exact', 'pooled'),
  onExhausted: fc.constantFrom('error', 'repeat_last'),
  onUnusable: fc.constantFrom('error', 'skip'),
  replayPartial: fc.boolean(),
  turnMax: fc.constantFrom(Infinity, Infinity, 2),
})
const ask = fc.record({
  session: fc.constantFrom('a', 'a', ...SESSIONS),
  raw: fc.constantFrom(0, 0, 0, 1, 2, 3),
  canonical: fc.option(fc.nat(2), { nil: undefined }),
  isStream: fc.boolean(),
  isGeneration: fc.constantFrom(true, true, true, false),
  isRetry: fc.constantFrom(false, false, true),
  lane: fc.nat(1),
  /** 'turn' asks with another last turn than the others, and perhaps in any session. */
  what: fc.constantFrom('ask', 'ask', 'ask', 'ask', 'turn', 'use', 'release', 'reset', 'free'),
  nth: fc.nat(30),
})

/** Does the same with both; gives their answers side by side. */
function both(
  records: Recorded[],
  rules: SelectOptions,
  steps: readonly (typeof ask extends fc.Arbitrary<infer T> ? T : never)[],
): [unknown[], unknown[]] {
  const memory = makeIndex(
    records.map(({ raw, canonical, ...rest }) => ({
      ...rest,
      rawKey: keyOf(raw),
      canonicalKey: keyOf(canonical),
    })),
  )
  const shared = makeClaimsMemory(memory.count, memory.sessions.length)
  // Two lanes: what one does the other has to hear of.
  const lanes = [0, 1].map(() => ({
    index: new ReplayIndex(memory),
    claims: new Claims(shared, memory.count, memory.sessions.length).run('r'),
  }))
  const plain: Plain = { states: records.map(() => 'free'), bound: new Map() }
  const found: unknown[] = []
  const expected: unknown[] = []
  for (const { what, nth, lane: number, raw, canonical, ...rest } of steps) {
    const { index, claims } = lanes[number]!
    const record = nth % Math.max(1, records.length)
    if (what === 'ask' || what === 'turn') {
      const asked: Asked = {
        ...rest,
        rawKey: keyOf(raw),
        canonicalKey: canonical === undefined ? undefined : keyOf(canonical),
      }
      const sessionMatch = nth % 2 === 0 ? 'pooled' : rules.sessionMatch
      const under = what === 'turn' ? { ...rules, turnMax: 3, sessionMatch } : rules
      found.push(select(index, claims, asked, under))
      expected.push(scan(records, plain, asked, under))
    } else if (what === 'reset') {
      claims.reset()
      plain.states.fill('free')
      plain.bound.clear()
    } else if (what === 'free') {
      claims.freeClaimed()
      plain.states.forEach((state, at) => {
        if (state === 'claimed') plain.states[at] = 'returned'
      })
    } else if (plain.states[record] === 'claimed') {
      claims[what](record)
      plain.states[record] = what === 'use' ? 'used' : 'returned'
    }
  }
  return [found, expected]
}

t.test('a choice is the one that a scan over all records makes', async (t) => {
  const seed = Date.now() & 0x7fffffff
  t.comment(`seed ${seed}`)
  let answers = 0
  fc.assert(
    fc.property(
      fc.array(recorded, { minLength: 1, maxLength: 90, size: 'max' }),
      options,
      fc.array(ask, { maxLength: 250, size: 'max' }),
      (records, rules, steps) => {
        const [found, expected] = both(records, rules, steps)
        assert.deepEqual(found, expected)
        answers += found.filter((one) => (one as Choice).kind === 'record').length
      },
    ),
    { seed, numRuns: 300 },
  )
  t.ok(answers > 1_000, `${answers} records were chosen`)
})

const RULES: SelectOptions = {
  match: 'keyed',
  sessionMatch: 'exact',
  onExhausted: 'error',
  onUnusable: 'error',
  replayPartial: false,
  turnMax: Infinity,
}

const ASKED: Asked = {
  session: 'default',
  rawKey: keyOf(0),
  canonicalKey: undefined,
  isStream: false,
  isGeneration: true,
  isRetry: false,
}

t.test(
  'a retry takes what its first try gave back, not what another caller still has',
  async (t) => {
    const memory = makeIndex(
      Array.from({ length: 3 }, () => ({ rawKey: keyOf(0), flags: IS_GENERATION })),
    )
    const index = new ReplayIndex(memory)
    const claims = new Claims(makeClaimsMemory(3, 1), 3, 1).run('r')
    const take = (isRetry = false): Choice => select(index, claims, { ...ASKED, isRetry }, RULES)
    t.match([take(), take()], [{ record: 0 }, { record: 1 }])
    claims.release(1)
    t.match(take(true), { record: 1 })
    t.match(take(), { record: 2 }, 'nobody else was given it')
    t.match(take(true), { record: 0 }, 'a first try that still has its record is taken over')
  },
)

t.test('a lane that has missed more releases than are told finds all that is free', async (t) => {
  for (const released of [1, RELEASES_MAX, RELEASES_MAX + 1, 3 * RELEASES_MAX]) {
    const count = 3 * RELEASES_MAX
    const memory = makeIndex(
      Array.from({ length: count }, () => ({ rawKey: keyOf(0), flags: IS_GENERATION })),
    )
    const shared = makeClaimsMemory(count, 1)
    const index = new ReplayIndex(memory)
    const [one, other] = [0, 1].map(() => new Claims(shared, count, 1).run('r'))
    const take = (): Choice => select(index, one!, ASKED, RULES)
    const kinds = (times: number): number =>
      Array.from({ length: times }, take).filter(({ kind }) => kind === 'record').length
    t.equal(kinds(count + 1), count)
    for (let record = 0; record < released; record++) other!.release(record)
    t.equal(kinds(released + 1), released)
  }
})

t.test('a session whose only record comes back is there to be bound again', async (t) => {
  const sessions = [...Array.from({ length: 40 }, () => 'a'), 'b']
  const memory = makeIndex(
    sessions.map((session) => ({ session, rawKey: keyOf(0), flags: IS_GENERATION })),
  )
  const index = new ReplayIndex(memory)
  const claims = new Claims(makeClaimsMemory(41, 2), 41, 2).run('r')
  const bind: SelectOptions = { ...RULES, sessionMatch: 'bind' }
  t.match(select(index, claims, { ...ASKED, session: 'a' }, bind), { record: 0 })
  t.ok(claims.claim(40))
  const asked = { ...ASKED, session: 'another' }
  t.strictSame(select(index, claims, asked, bind), { kind: 'missed' })
  claims.release(40)
  t.match(select(index, claims, asked, bind), { kind: 'record', record: 40 })
})

/** An index that counts how often it is asked for a list's next record. */
class Counting extends ReplayIndex {
  steps = 0
  override next(list: List, record: number): number {
    this.steps++
    return super.next(list, record)
  }
}

const RECORDS = 100_000
function manyOfOneKey(sessions: number): { index: Counting; claims: RunClaims } {
  const memory = makeIndex(
    Array.from({ length: RECORDS }, (_, i) => ({
      rawKey: keyOf(0),
      canonicalKey: keyOf(0),
      session: `s${i % sessions}`,
      turn: 1,
      flags: IS_GENERATION,
    })),
  )
  const claims = new Claims(makeClaimsMemory(RECORDS, sessions), RECORDS, sessions).run('r')
  return { index: new Counting(memory), claims }
}

for (const [rules, sessions] of [
  [{ match: 'keyed', sessionMatch: 'exact' }, 1],
  [{ match: 'pooled' }, 100],
  [{ match: 'sequence', sessionMatch: 'exact' }, 1],
  [{ match: 'sequence', sessionMatch: 'pooled' }, 100],
  [{ match: 'keyed', sessionMatch: 'bind' }, 1_000],
  [{ match: 'sequence', sessionMatch: 'bind' }, 1_000],
] as const) {
  const name = `${Object.values(rules).join(', ')}: one key ${RECORDS} times in ${sessions} sessions`
  t.test(`${name} costs a few steps a request`, async (t) => {
    const { index, claims } = manyOfOneKey(sessions)
    const given = new Set<number>()
    const again: number[] = []
    let exhausted = 0
    for (let i = 0; i < RECORDS + 1_000; i++) {
      const choice = select(
        index,
        claims,
        { ...ASKED, session: i % sessions === 0 ? 's0' : `new ${i % sessions}` },
        { ...RULES, ...rules },
      )
      if (choice.kind === 'exhausted') exhausted++
      if (choice.kind !== 'record') continue
      // Every hundredth client leaves: its record is there for the next.
      if (i % 100 === 99 && !again.includes(choice.record)) {
        claims.release(choice.record)
        again.push(choice.record)
      } else {
        claims.use(choice.record)
        given.add(choice.record)
      }
    }
    t.equal(given.size + exhausted + again.length, RECORDS + 1_000)
    t.ok(index.steps < 40 * RECORDS, `${Math.round(index.steps / RECORDS)} steps a request`)
  })
}
