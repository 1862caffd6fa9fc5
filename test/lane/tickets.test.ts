// Who may run: places over all lanes, a line in order of arrival, nothing left behind.
import * as fc from 'fast-check'
import t from 'tap'
import { Tickets } from '../../src/lane/tickets.ts'
import type { Ticket, TicketOwner } from '../../src/lane/tickets.ts'
import { Wheel } from '../../src/lane/wheel.ts'
import type { Clock } from '../../src/lane/wheel.ts'
import { WAITING_BODY_BYTES_MAX, WAITING_BYTES_MAX } from '../../src/limits.ts'
import type { CapacityConfig } from '../../src/options/capacity.ts'
import { makeCounters } from '../../src/supervisor/shared.ts'
import { TicketTable } from '../../src/supervisor/ticket-table.ts'

const BOUNDS = {
  maxInFlight: 2,
  maxInFlightBytes: 0,
  maxQueue: 100,
  queueTimeoutMs: 1_000,
  clientHeaderTimeoutMs: 0,
  clientBodyTimeoutMs: 0,
}

/** No tick ever comes: what goes on does so because it was woken. */
const STOPPED: Clock = {
  now: () => performance.now(),
  setInterval: (callback, ms) => {
    const timer = setInterval(callback, ms)
    clearInterval(timer)
    return timer
  },
  clearInterval: (timer) => clearInterval(timer),
}

/** Somebody who asks, and notes what it is told. */
class Asker implements TicketOwner {
  readonly name: string
  isOver = false
  told: string | undefined
  ticket: Ticket | undefined
  aheadBytes = 0
  isRead = false
  readonly #order: string[]

  constructor(name: string, order: string[]) {
    this.name = name
    this.#order = order
  }

  readAhead(): void {
    this.isRead = true
  }

  onTicket(): void {
    this.told = 'may go'
    this.#order.push(this.name)
  }

  onNoTicket({ code }: { code: string }): void {
    this.told = code
  }
}

/** Lanes over one table, in one thread. */
function setUp(own: Partial<CapacityConfig> = {}, count = 2) {
  const config = { ...BOUNDS, ...own }
  const table = new TicketTable(makeCounters())
  const lanes = Array.from({ length: count }, (_, lane) => {
    const wheel = new Wheel(20, () => undefined, STOPPED)
    return new Tickets(table, lane, wheel, () => config)
  })
  const order: string[] = []
  const ask = (name: string, lane = 0, bytes = 0): Asker => {
    const asker = new Asker(name, order)
    asker.ticket = lanes[lane]!.take(asker, bytes)
    if (asker.ticket?.state === 'running') asker.onTicket()
    return asker
  }
  const sums = (): number[] => [table.inFlight, table.inFlightKib, table.waiting]
  return { table, lanes, order, ask, sums, config }
}

/** Until lanes that were woken have looked. */
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0))

t.test('L24: without a bound there is no ticket', async (t) => {
  const { ask, sums } = setUp({ maxInFlight: 0 })
  t.equal(ask('a').ticket, undefined)
  t.strictSame(sums(), [0, 0, 0])
})

t.test('L24: who waits goes in order of arrival, over all lanes', async (t) => {
  const { ask, order, lanes, sums } = setUp()
  const first = [ask('a', 0), ask('b', 1)]
  const rest = ['c', 'd', 'e', 'f'].map((name, i) => ask(name, [1, 0, 0, 1][i]))
  t.strictSame(order, ['a', 'b'])
  t.equal(sums()[2], 4)
  const running = [
    { lane: 0, of: first[0]! },
    { lane: 1, of: first[1]! },
    { lane: 1, of: rest[0]! },
    { lane: 0, of: rest[1]! },
    { lane: 0, of: rest[2]! },
    { lane: 1, of: rest[3]! },
  ]
  for (const { lane, of } of running) {
    while (of.told === undefined) await settled()
    lanes[lane]!.give(of.ticket!)
  }
  t.strictSame(order, ['a', 'b', 'c', 'd', 'e', 'f'])
  t.strictSame(sums(), [0, 0, 0])
})

for (const lane of [0, 1]) {
  t.test(`L24: a place that lane 0 lets go wakes who waits on lane ${lane}`, async (t) => {
    const { ask, lanes } = setUp()
    const [first] = [ask('a', 0), ask('b', 0)]
    const waits = ask('c', lane)
    for (let i = 0; i < 20; i++) await settled()
    t.equal(waits.told, undefined)
    lanes[0]!.give(first!.ticket!)
    while (waits.told === undefined) await settled()
    t.equal(waits.told, 'may go')
  })
}

t.test('L24: nobody passes a line, also where there would be room', async (t) => {
  const { ask, lanes, order } = setUp({ maxInFlight: 0, maxInFlightBytes: 1 << 20 })
  const small = ask('small', 0, 256 << 10)
  const large = ask('large', 0, 800 << 10)
  const other = ask('other', 1, 0)
  t.strictSame([large.told, other.told], [undefined, undefined], 'the large one does not fit now')
  lanes[0]!.give(small.ticket!)
  while (other.told === undefined) await settled()
  t.strictSame(order, ['small', 'large', 'other'])
})

t.test('L24: over max_queue nobody waits, and the error names both bounds', async (t) => {
  const { ask, sums } = setUp({ maxQueue: 1 })
  for (const name of ['a', 'b', 'c']) ask(name)
  t.throws(() => ask('d', 1), {
    code: 'over_capacity',
    httpStatus: 429,
    message: /2 of max_in_flight 2 exchanges run.* max_queue is 1, and 1 wait/,
  })
  t.strictSame(sums(), [2, 128, 1])
})

t.test('L24: who has waited for queue_timeout gets no ticket', async (t) => {
  const { ask, lanes, sums } = setUp()
  for (const name of ['a', 'b']) ask(name)
  const late = ask('c')
  const later = ask('d')
  lanes[0]!.onDeadline(late.ticket!.untilMs - 1)
  t.equal(late.told, undefined)
  later.ticket!.untilMs += 1_000
  lanes[0]!.onDeadline(late.ticket!.untilMs)
  t.strictSame([late.told, later.told], ['over_capacity', undefined])
  t.strictSame(sums(), [2, 128, 1])
})

t.test('L24: who leaves the line lets the next one through', async (t) => {
  const { ask, lanes, order } = setUp({ maxInFlight: 0, maxInFlightBytes: 1 << 20 })
  ask('a', 0, 512 << 10)
  const large = ask('large', 0, 900 << 10)
  ask('b', 1, 0)
  t.strictSame(order, ['a'])
  large.isOver = true
  lanes[0]!.give(large.ticket!)
  while (order.length < 2) await settled()
  t.strictSame(order, ['a', 'b'])
})

t.test(
  'L24: the first in line are read as far as there is room, and others after them',
  async (t) => {
    const { ask, lanes, config } = setUp({ maxInFlight: 1 })
    ask('runs')
    const waiting = Array.from(
      { length: WAITING_BYTES_MAX / WAITING_BODY_BYTES_MAX + 2 },
      (_, i) => {
        const asker = ask(`${i}`)
        asker.aheadBytes = WAITING_BODY_BYTES_MAX
        return asker
      },
    )
    const unread = (): string[] => waiting.filter(({ isRead }) => !isRead).map(({ name }) => name)
    lanes[0]!.onDeadline(0)
    t.strictSame(unread(), ['16', '17'])
    lanes[0]!.give(waiting[3]!.ticket!)
    lanes[0]!.onDeadline(0)
    t.strictSame(unread(), ['17'])
    config.maxInFlight = 2
    lanes[0]!.onDeadline(0)
    t.strictSame([waiting[0]!.told, unread()], ['may go', []])
  },
)

t.test('L24: a body that grows is counted, and has its bound', async (t) => {
  const { ask, lanes, sums } = setUp({ maxInFlight: 0, maxInFlightBytes: 1 << 20 })
  const { ticket } = ask('a', 0, 512 << 10)
  t.ok(lanes[0]!.grow(ticket!, 448 << 10))
  t.notOk(lanes[0]!.grow(ticket!, (448 << 10) + 1), 'the budget is used up')
  lanes[0]!.give(ticket!)
  t.notOk(lanes[0]!.grow(ticket!, 1), 'it is given back already')
  t.strictSame(sums(), [0, 0, 0])
})

t.test('L24: a body counts for what it has, in however small pieces it comes', async (t) => {
  const { ask, lanes, sums } = setUp({ maxInFlight: 0, maxInFlightBytes: 1 << 20 })
  const { ticket } = ask('a', 0, 512 << 10)
  let isIn = true
  for (let bytes = 20; bytes <= 400 << 10; bytes += 20) isIn &&= lanes[0]!.grow(ticket!, bytes)
  t.ok(isIn)
  t.strictSame(sums(), [1, 512 + 64 + 400, 0])
  lanes[0]!.give(ticket!)
  t.strictSame(sums(), [0, 0, 0])
})

t.test(
  'L24: what does not fit into a budget that was lowered goes, and blocks nobody',
  async (t) => {
    const { ask, lanes, order, sums, config } = setUp({ maxInFlight: 1, maxInFlightBytes: 8 << 20 })
    const first = ask('a', 0)
    const large = ask('large', 0, 6 << 20)
    const other = ask('other', 1)
    config.maxInFlightBytes = 2 << 20
    lanes[0]!.give(first.ticket!)
    while (other.told === undefined) await settled()
    t.strictSame([large.told, other.told], ['over_capacity', 'may go'])
    t.strictSame(order, ['a', 'other'])
    lanes[1]!.give(other.ticket!)
    t.strictSame(sums(), [0, 0, 0])
  },
)

t.test('L24: a queue_timeout that was lowered holds for who comes then', async (t) => {
  const { ask, lanes, config } = setUp({ queueTimeoutMs: 3_600_000 })
  for (const name of ['a', 'b']) ask(name)
  const patient = ask('patient')
  config.queueTimeoutMs = 10
  const hasty = ask('hasty')
  lanes[0]!.onDeadline(hasty.ticket!.untilMs)
  t.strictSame([patient.told, hasty.told], [undefined, 'over_capacity'])
})

t.test('L24: a lane that dies gives back what it held, and its place in the line', async (t) => {
  const { ask, table, order, sums } = setUp()
  ask('a', 0)
  ask('b', 0)
  ask('waits on the dead lane', 0)
  ask('c', 1)
  t.equal(order.length, 2)
  table.free(0)
  while (order.length < 3) await settled()
  t.strictSame(order, ['a', 'b', 'c'])
  t.strictSame(sums(), [1, 64, 0])
})

t.test('L24: a bound that is raised lets more go, one that is taken away all', async (t) => {
  const { ask, lanes, order, config } = setUp()
  for (const name of ['a', 'b', 'c', 'd', 'e']) ask(name)
  config.maxInFlight = 3
  lanes[0]!.onDeadline(0)
  t.strictSame(order, ['a', 'b', 'c'])
  config.maxInFlight = 0
  lanes[0]!.onDeadline(0)
  t.strictSame(order, ['a', 'b', 'c', 'd', 'e'])
})

t.test('L24: whatever is done in whatever order, bounds hold and nothing is left', async () => {
  const act = fc.record({
    what: fc.constantFrom('ask', 'give', 'late', 'again', 'die'),
    lane: fc.nat(2),
    kib: fc.nat(600),
    which: fc.nat(1_000),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
      const bounds = { maxInFlight: 3, maxInFlightBytes: 1 << 20, maxQueue: 5 }
      const { ask, lanes, table, sums } = setUp(bounds, 3)
      let asked: { lane: number; of: Asker }[] = []
      for (const { what, lane, kib, which } of acts) {
        const some = asked[which % Math.max(1, asked.length)]
        if (what === 'ask') {
          try {
            asked.push({ lane, of: ask('x', lane, kib << 10) })
          } catch {
            // Too many wait.
          }
        } else if (what === 'die') {
          // Its successor begins with nothing.
          for (const { of } of asked) if (of.ticket) of.isOver = true
          asked.forEach((one) => lanes[one.lane]!.give(one.of.ticket!))
          asked = []
          table.free(lane)
        } else if (some !== undefined) {
          if (what === 'late') lanes[lane]!.onDeadline(Number.MAX_SAFE_INTEGER)
          else lanes[some.lane]!.give(some.of.ticket!)
          if (what === 'again') lanes[some.lane]!.give(some.of.ticket!)
        }
        const [count, kibs, waiting] = sums()
        if (count! > 3 || kibs! > 1024 || waiting! > 5 || Math.min(...sums()) < 0) return false
        if (which % 4 === 0) await settled()
      }
      for (const { lane, of } of asked) lanes[lane]!.give(of.ticket!)
      await settled()
      return sums().every((sum) => sum === 0) && lanes.every(({ waiting }) => waiting === 0)
    }),
    { numRuns: 200 },
  )
})
