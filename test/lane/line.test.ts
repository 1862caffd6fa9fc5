// Who waits, in order: whatever comes and goes, the line is what a plain list would be, and who has
// left holds nobody.
import * as fc from 'fast-check'
import t from 'tap'
import { Line } from '../../src/lane/line.ts'
import type { Queued } from '../../src/lane/line.ts'

interface Member extends Queued {
  readonly name: number
}

const make = (name: number): Member => ({
  name,
  before: undefined,
  after: undefined,
  isQueued: false,
})

t.test('L24: a line is what a list would be, from wherever one leaves', async (t) => {
  // A number below 0 adds one; others take out the one at that place, some of which have left.
  const steps = fc.array(fc.integer({ min: -20, max: 30 }), { maxLength: 200 })
  fc.assert(
    fc.property(steps, (places) => {
      const line = new Line<Member>()
      const all: Member[] = []
      let list: Member[] = []
      for (const place of places) {
        const member = all[place] ?? make(all.length)
        const isIn = list.includes(member)
        if (all[place] === undefined) {
          all.push(member)
          list.push(member)
          line.add(member)
        } else {
          t.equal(line.delete(member), isIn)
          list = list.filter((one) => one !== member)
        }
        t.strictSame([line.size, line.first?.name], [list.length, list[0]?.name])
        t.strictSame(
          [...line].map(({ name }) => name),
          list.map(({ name }) => name),
        )
        const gone = all.filter((one) => !list.includes(one))
        t.ok(gone.every(({ before, after }) => before === undefined && after === undefined))
      }
    }),
    { numRuns: 50 },
  )
})
