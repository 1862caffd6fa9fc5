// All deadlines of a lane on one timer: each is called in its time, at most one tick late, and
// nothing runs while there are none.
import * as fc from 'fast-check'
import t from 'tap'
import { Wheel } from '../../src/lane/wheel.ts'
import type { Clock, Timed } from '../../src/lane/wheel.ts'

const TICK_MS = 20

/** Time that the test moves. Its one timer fires late, as real ones do, when told so. */
class FakeClock implements Clock {
  ms: number
  running = 0
  #callback: (() => void) | undefined
  #nextMs = Infinity
  #everyMs = 0

  constructor(startMs = 1_234.5) {
    this.ms = startMs
  }

  now(): number {
    return this.ms
  }

  setInterval(callback: () => void, ms: number): NodeJS.Timeout {
    this.running++
    this.#callback = callback
    this.#everyMs = ms
    this.#nextMs = this.ms + ms
    return {} as NodeJS.Timeout
  }

  clearInterval(timer: NodeJS.Timeout | undefined): void {
    if (timer === undefined) return
    this.running--
    this.#nextMs = Infinity
  }

  /** Moves time on, firing the timer when it is due. */
  pass(ms: number): void {
    const untilMs = this.ms + ms
    while (this.#nextMs <= untilMs) {
      this.ms = this.#nextMs
      this.#nextMs += this.#everyMs
      this.#callback?.()
    }
    this.ms = untilMs
  }

  /** Moves time on without the timer, as a blocked loop does; then it fires once. */
  block(ms: number): void {
    this.ms += ms
    this.#nextMs = this.ms + this.#everyMs
    this.#callback?.()
  }
}

class Entry implements Timed {
  wheelSlot = -1
  wheelNext: Timed | undefined = undefined
  wheelPrevious: Timed | undefined = undefined
  wheelDueMs = 0
  readonly calledMs: number[] = []
  onCall: ((nowMs: number) => void) | undefined

  onDeadline(nowMs: number): void {
    this.calledMs.push(nowMs)
    this.onCall?.(nowMs)
  }
}

function setUp(startMs?: number) {
  const clock = new FakeClock(startMs)
  const ticks = { count: 0 }
  return { clock, ticks, wheel: new Wheel(TICK_MS, () => ticks.count++, clock) }
}

t.test('a deadline is called once, never early, at most one tick late', async (t) => {
  for (let startMs = 1_000; startMs < 1_000 + TICK_MS; startMs += 0.7) {
    for (let afterMs = 0; afterMs < 3 * TICK_MS; afterMs += 0.9) {
      const { clock, wheel } = setUp(startMs)
      const entry = new Entry()
      const dueMs = startMs + afterMs
      wheel.set(entry, dueMs)
      clock.pass(1_000)
      const [calledMs = Infinity, ...more] = entry.calledMs
      const late = calledMs - dueMs
      if (more.length > 0 || late < 0 || late > TICK_MS) t.fail(`${startMs} + ${afterMs}: ${late}`)
    }
  }
  t.pass('at any phase of timer and deadline')
})

t.test(
  'deadlines that are over, far off or in the next round are called in their time',
  async (t) => {
    for (const afterMs of [-1_000, 0, 1, 10_239, 10_240, 10_241, 60_000, 3_600_000]) {
      const { clock, wheel } = setUp()
      const entry = new Entry()
      const dueMs = clock.ms + afterMs
      wheel.set(entry, dueMs)
      clock.pass(Math.max(0, afterMs) + TICK_MS)
      t.equal(entry.calledMs.length, 1, `${afterMs}`)
      t.ok(entry.calledMs[0]! >= dueMs)
    }
  },
)

t.test('moved earlier it is called then; moved later it is called at its old time', async (t) => {
  const { clock, wheel } = setUp(1_000)
  const entry = new Entry()
  wheel.set(entry, 3_000)
  wheel.set(entry, 1_500)
  t.equal(wheel.size, 1)
  clock.pass(499)
  t.strictSame(entry.calledMs, [])
  clock.pass(21)
  t.strictSame(entry.calledMs, [1_500])
  wheel.set(entry, 2_000)
  wheel.set(entry, 9_000)
  entry.onCall = () => wheel.set(entry, 9_000)
  clock.pass(10_000)
  t.strictSame(entry.calledMs.slice(0, 3), [1_500, 2_000, 9_000])
})

t.test('moving deadlines earlier again and again does not put the timer off', async (t) => {
  const { clock, wheel } = setUp(1_000)
  const [lone, other] = [new Entry(), new Entry()]
  wheel.set(lone, 1_030)
  for (let i = 0; i < 10; i++) {
    wheel.set(other, 90_000 - i * 1_000)
    wheel.clear(other)
    wheel.set(lone, 1_030 - i)
    clock.pass(4)
  }
  t.equal(lone.calledMs.length, 1)
})

t.test('a cleared one is not called, also if one called before it clears it', async (t) => {
  const { clock, wheel } = setUp(1_000)
  const entries = [new Entry(), new Entry(), new Entry()]
  for (const entry of entries) wheel.set(entry, 1_100)
  wheel.clear(entries[0]!)
  wheel.clear(entries[0]!)
  t.equal(wheel.size, 2)
  entries[1]!.onCall = () => wheel.clear(entries[2]!)
  entries[2]!.onCall = () => wheel.clear(entries[1]!)
  clock.pass(1_000)
  t.strictSame(
    entries.reduce((sum, { calledMs }) => sum + calledMs.length, 0),
    1,
  )
  t.equal(wheel.size, 0)
})

t.test('one that is moved later by one called before it is called in its new time', async (t) => {
  const { clock, wheel } = setUp(1_000)
  const entries = [new Entry(), new Entry()]
  for (const [i, entry] of entries.entries()) {
    wheel.set(entry, 1_100)
    entry.onCall = () => {
      const other = entries[1 - i]!
      wheel.clear(other)
      wheel.set(other, 1_500)
      entry.onCall = undefined
      other.onCall = undefined
    }
  }
  clock.pass(1_000)
  const called = entries.flatMap(({ calledMs }) => calledMs).sort((a, b) => a - b)
  t.strictSame(called, [1_100, 1_500])
})

t.test('nothing runs while the wheel is empty, but for one tick', async (t) => {
  const { clock, wheel, ticks } = setUp()
  t.equal(clock.running, 0)
  const entry = new Entry()
  wheel.set(entry, clock.ms + 50)
  t.equal(clock.running, 1)
  clock.pass(100)
  t.strictSame([clock.running, wheel.size, ticks.count], [0, 0, 3])
  for (let i = 0; i < 100; i++) {
    wheel.set(entry, clock.ms + 1_000)
    wheel.clear(entry)
    t.equal(clock.running, 1, 'entries that come and go do not start and stop it')
  }
  clock.pass(5_000)
  t.strictSame([clock.running, ticks.count], [0, 4], 'the next tick finds nothing, and is the last')
  wheel.set(entry, clock.ms + 1_000)
  wheel.stop()
  t.strictSame([clock.running, wheel.size], [0, 1])
})

t.test('a loop that was blocked calls all that is over, once each', async (t) => {
  for (const blockedMs of [500, 10_240, 60_000]) {
    const { clock, wheel } = setUp()
    const entries = Array.from({ length: 1_000 }, () => new Entry())
    for (const [i, entry] of entries.entries()) wheel.set(entry, clock.ms + i * 20)
    const untilMs = clock.ms + blockedMs
    clock.block(blockedMs)
    const wrong = entries.filter(({ calledMs, wheelDueMs }) => {
      return calledMs.length !== (wheelDueMs <= untilMs ? 1 : 0)
    })
    t.equal(wrong.length, 0, `${blockedMs} ms`)
  }
})

t.test(
  'thousands of entries, set, moved and cleared at random, are all called in time',
  async (t) => {
    const step = fc.tuple(fc.nat(2_000), fc.integer({ min: -50, max: 30_000 }), fc.nat(40))
    fc.assert(
      fc.property(fc.array(step, { minLength: 2_000, maxLength: 4_000 }), (steps) => {
        const { clock, wheel } = setUp()
        const entries = new Map<number, Entry>()
        const dueMs = new Map<Entry, number>()
        let sound = true
        for (const [id, afterMs, passMs] of steps) {
          const entry = entries.get(id) ?? new Entry()
          entries.set(id, entry)
          entry.onCall = (nowMs) => {
            const due = dueMs.get(entry)!
            // Called for an earlier deadline than its last: it looks again.
            if (nowMs < due) return wheel.set(entry, due)
            // One set in the past is called with the next tick.
            sound &&= nowMs - due <= TICK_MS + 50
            dueMs.delete(entry)
          }
          if (afterMs % 7 === 0) {
            wheel.clear(entry)
            dueMs.delete(entry)
          } else {
            dueMs.set(entry, clock.ms + afterMs)
            wheel.set(entry, clock.ms + afterMs)
          }
          if (passMs > 30) clock.pass(passMs)
        }
        sound &&= wheel.size === dueMs.size
        clock.pass(40_000)
        return sound && wheel.size === 0 && dueMs.size === 0 && clock.running === 0
      }),
      { numRuns: 20 },
    )
    t.pass('20 runs')
  },
)
