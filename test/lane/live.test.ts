// What a lane holds on to: exchanges that run, and nothing of those that are over.
import t from 'tap'
import * as fc from 'fast-check'
import { LiveList } from '../../src/lane/live.ts'
import type { Placed } from '../../src/lane/live.ts'
import { CommitQueue } from '../../src/tape/commit-queue.ts'
import { collectGarbage } from '../support/memory.ts'

const member = (): Placed => ({ liveAt: -1 })

t.test('members are those that were added and not taken out, whatever the order', (t) => {
  const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(20)), { maxLength: 200 })
  fc.assert(
    fc.property(steps, (choices) => {
      const list = new LiveList<Placed>()
      const expected = new Set<Placed>()
      const known = Array.from({ length: 21 }, member)
      for (const [adds, which] of choices) {
        const one = known[which]!
        if (adds && !list.has(one)) {
          list.add(one)
          expected.add(one)
        } else if (!adds && list.delete(one) !== expected.delete(one)) {
          return false
        }
      }
      const all = new Set(list.all())
      const same = all.size === expected.size && [...all].every((one) => expected.has(one))
      return (
        same && list.size === expected.size && known.every((one) => list.has(one) === all.has(one))
      )
    }),
  )
  t.end()
})

t.test('a commit that was answered is let go while others still wait', async (t) => {
  const queue = new CommitQueue()
  let answered = 0
  const wait = (target: number): WeakRef<object> => {
    const waiter = { onCommitted: (): void => void answered++ }
    queue.add(target, waiter)
    return new WeakRef(waiter)
  }
  const first = wait(1)
  const second = wait(2)
  queue.reach(1)
  // A weak reference holds what was read through it until the turn ends.
  await new Promise((resolve) => setImmediate(resolve))
  collectGarbage()
  t.equal(answered, 1)
  t.equal(first.deref(), undefined)
  t.ok(second.deref())
  t.equal(queue.size, 1)
})
