// A set of numbers kept as ranges holds what a Set holds.
import * as fc from 'fast-check'
import t from 'tap'
import { SeqSet } from '../../src/trajectory/seq-set.ts'

/** The ascending ranges without holes that a set of numbers makes. */
function rangesOf(numbers: ReadonlySet<number>): [number, number][] {
  const ranges: [number, number][] = []
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = ranges.at(-1)
    if (last?.[1] === number - 1) last[1] = number
    else ranges.push([number, number])
  }
  return ranges
}

const add = fc.record({ add: fc.integer({ min: 1, max: 60 }) })
const fill = fc.record({ fill: fc.integer({ min: 0, max: 60 }) })

t.test('whatever is added and filled, it has what a Set has', async (t) => {
  const steps = fc.array(fc.oneof({ weight: 9, arbitrary: add }, { weight: 1, arbitrary: fill }))
  fc.assert(
    fc.property(steps, (given) => {
      const set = new SeqSet()
      const model = new Set<number>()
      for (const step of given) {
        if ('add' in step) {
          if (set.add(step.add) === model.has(step.add)) return false
          model.add(step.add)
        } else {
          set.fill(step.fill)
          for (let seq = 1; seq <= step.fill; seq++) model.add(seq)
        }
      }
      const ranges = rangesOf(model)
      t.strictSame(set.toJSON(), ranges)
      t.strictSame(SeqSet.from(set.toJSON()).toJSON(), ranges)
      for (let seq = 0; seq <= 62; seq++) if (set.has(seq) !== model.has(seq)) return false
      const floor = ranges[0]?.[0] === 1 ? ranges[0][1] : 0
      return set.floor === floor && set.max === (ranges.at(-1)?.[1] ?? 0) && set.size === model.size
    }),
  )
})

t.test('numbers in nearly ascending order take as many ranges as there are holes', async (t) => {
  const set = new SeqSet()
  for (let seq = 1; seq <= 100_000; seq += 2) {
    set.add(seq + 1)
    if (seq !== 4_001) set.add(seq)
  }
  t.strictSame(set.toJSON(), [
    [1, 4_000],
    [4_002, 100_000],
  ])
})

t.test('a set made from ranges does not share them', async (t) => {
  const ranges = [[1, 3]] as [number, number][]
  const set = SeqSet.from(ranges)
  set.add(4)
  t.strictSame([ranges, set.toJSON()], [[[1, 3]], [[1, 4]]])
})
