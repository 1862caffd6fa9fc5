// Claims: each record once per run, given back or used, and freed when the lane that held them dies.
import t from 'tap'
import { Claims, makeClaimsMemory } from '../../src/replay/claims.ts'
import { RUNS_MAX } from '../../src/limits.ts'

t.test('a record is claimed once per run, and free again when it is given back', async (t) => {
  const claims = new Claims(makeClaimsMemory(3, 2), 3, 2)
  const [a, b] = [claims.run('a'), claims.run('b')]
  t.equal(a.claim(1), true)
  t.equal(a.claim(1), false)
  t.equal(b.claim(1), true, 'another run has claims of its own')
  a.release(1)
  t.equal(a.claim(1), true)
  a.use(1)
  a.release(1)
  t.strictSame([a.isFree(1), a.isUsed(1), a.claim(1)], [false, true, false], 'used stays used')
})

t.test('views of one memory agree, as two lanes do', async (t) => {
  const memory = makeClaimsMemory(2, 2)
  const [one, other] = [new Claims(memory, 2, 2).run('r'), new Claims(memory, 2, 2).run('r')]
  t.equal(one.claim(0), true)
  t.equal(other.claim(0), false)
  t.equal(one.bind(1, 'asking'), true)
  t.equal(other.bound('asking'), 1)
  t.equal(other.bind(1, 'somebody else'), false)
  t.strictSame([other.isUnbound(0), other.isUnbound(1)], [true, false])
})

t.test('what a dead lane had claimed is freed, what it had used is not', async (t) => {
  const claims = new Claims(makeClaimsMemory(3, 1), 3, 1)
  const run = claims.run('r')
  run.claim(0)
  run.claim(1)
  run.use(1)
  for (const run of claims.all()) run.freeClaimed()
  t.strictSame([run.isFree(0), run.isFree(1), run.isFree(2)], [true, false, true])
})

t.test('so many runs and no more', async (t) => {
  const claims = new Claims(makeClaimsMemory(1, 1), 1, 1)
  for (let i = 0; i < RUNS_MAX; i++) claims.run(`run ${i}`)
  t.throws(() => claims.run('one more'), { code: 'over_capacity' })
})
