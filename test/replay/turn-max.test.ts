// Replay up to a turn: generation records of later turns are as if they were not there.
import t from 'tap'
import { Claims, makeClaimsMemory } from '../../src/replay/claims.ts'
import { ReplayIndex } from '../../src/replay/index-table.ts'
import { IS_GENERATION } from '../../src/replay/packed.ts'
import type { Key } from '../../src/replay/key.ts'
import { select } from '../../src/replay/select.ts'
import type { SelectOptions } from '../../src/replay/select.ts'
import { makeIndex } from '../support/replay-index.ts'

const KEY: Key = [1, 2, 3, 4]
const OPTIONS: SelectOptions = {
  match: 'keyed',
  sessionMatch: 'bind',
  onExhausted: 'error',
  onUnusable: 'error',
  replayPartial: false,
  turnMax: 2,
}

/** A session of so many turns that all ask the same. */
function turns(count: number, flags = IS_GENERATION) {
  const entries = Array.from({ length: count }, (_, i) => ({
    rawKey: KEY,
    canonicalKey: KEY,
    session: 's',
    turn: i + 1,
    seq: i + 1,
    flags,
  }))
  const memory = makeIndex(entries)
  const index = new ReplayIndex(memory)
  const claims = new Claims(makeClaimsMemory(count, 1), count, 1).run('r')
  const isGeneration = flags === IS_GENERATION
  return (session: string, options: Partial<SelectOptions> = {}) =>
    select(
      index,
      claims,
      {
        session,
        rawKey: KEY,
        canonicalKey: undefined,
        isStream: false,
        isGeneration,
        isRetry: false,
      },
      { ...OPTIONS, ...options },
    )
}

for (const options of [{ match: 'keyed' }, { match: 'pooled' }, { match: 'sequence' }] as const) {
  t.test(
    `${options.match}: turns up to the last one are served, then it is exhausted`,
    async (t) => {
      const ask = turns(4)
      t.match(ask('s', options), { kind: 'record', record: 0 })
      t.match(ask('s', options), { kind: 'record', record: 1 })
      t.strictSame(ask('s', options), { kind: 'exhausted', step: 2, total: 2 })
      t.match(ask('s', { ...options, turnMax: 3 }), { kind: 'record', record: 2 })
      t.match(ask('s', { ...options, turnMax: Infinity }), { kind: 'record', record: 3 })
    },
  )
}

t.test('a key that only later turns have is missed, and binds no session', async (t) => {
  const ask = turns(2)
  t.strictSame(ask('other', { turnMax: 0 }), { kind: 'missed' })
  t.strictSame(ask('s', { turnMax: 0 }), { kind: 'missed' })
  t.match(ask('s'), { kind: 'record', record: 0 })
})

t.test('other requests than those for a generation have no turn to be too late', async (t) => {
  const ask = turns(1, 0)
  t.match(ask('s', { turnMax: 0 }), { kind: 'record', record: 0, claimed: false })
})
