/**
 * Who gets which request and who may answer it: the queue alone, without sockets and without a clock.
 */
import * as fc from 'fast-check'
import t from 'tap'
import type { RolltapeError } from '../../src/errors.ts'
import {
  RESPONDERS_MAX,
  RESPONDER_DELIVERIES_MAX,
  RESPONDER_HELD_BYTES_MAX,
  RESPONDER_SESSIONS_MAX,
} from '../../src/limits.ts'
import { Queue } from '../../src/responder/queue.ts'
import type { QueueOwner, QueueRules } from '../../src/responder/queue.ts'

/** What the queue tells, as texts in its order. */
class Told implements QueueOwner {
  readonly all: string[] = []

  onGive(id: number, responder: number, delivery: number): void {
    this.all.push(`${id} to ${responder}${delivery === 1 ? '' : ` again (${delivery})`}`)
  }
  onRefuse(id: number, { code }: RolltapeError): void {
    this.all.push(`${id} refused: ${code}`)
  }
  onCut(id: number): void {
    this.all.push(`${id} cut`)
  }
  onCancelled(id: number, responder: number): void {
    this.all.push(`${id} taken from ${responder}`)
  }
  onSessionEnded(session: string, why: string): void {
    this.all.push(`${session} ended: ${why}`)
  }
  /** What was told since this was asked last. */
  take(): string[] {
    return this.all.splice(0)
  }
}

const RULES: QueueRules = { waitingMax: 100, waitMs: 1_000, onNoResponder: 503 }

function open(rules: Partial<QueueRules> = {}) {
  const told = new Told()
  const queue = new Queue(told, () => ({ ...RULES, ...rules }))
  const ask = (session = 's', nowMs = 0, name = 'q'): number => {
    const id = queue.arrive({ queue: name, session })
    queue.grow(id, 10)
    queue.submit(id, nowMs)
    return id
  }
  return { queue, told, ask }
}

t.test('R39: requests go to who has the fewest, first come first, within credits', async (t) => {
  const { queue, told, ask } = open()
  for (let i = 0; i < 5; i++) ask()
  t.strictSame([told.take(), queue.waiting('q')], [[], 5])
  queue.join(7, 'q', 2)
  t.strictSame(told.take(), ['1 to 7', '2 to 7'])
  queue.join(8, 'q', 2)
  t.strictSame(told.take(), ['3 to 8', '4 to 8'])
  t.equal(queue.begin(1, 7), undefined)
  t.equal(queue.end(1, 7), undefined)
  t.strictSame(told.take(), [], 'a credit is free once the answer has gone out')
  t.equal(queue.done(1), 7)
  t.strictSame(told.take(), ['5 to 7'])
  queue.join(9, 'q', 0)
  ask()
  t.strictSame(told.take(), [], 'without credits nothing is given')
  queue.setCredits(9, 1)
  t.strictSame(told.take(), ['6 to 9'])
  queue.join(10, 'other', 1)
  t.equal(ask('s', 0, 'q'), 7)
  t.equal(ask('s', 0, 'other'), 8)
  t.strictSame(told.take(), ['8 to 10'], 'queues are apart')
})

t.test('R40: a request has one answer; what comes after or from others is refused', async (t) => {
  const { queue, ask } = open()
  queue.join(1, 'q', 5)
  queue.join(2, 'q', 0)
  ask()
  t.match(queue.begin(1, 2), /another responder/)
  t.match(queue.begin(99, 1), /over/)
  t.match(queue.goOn(1, 1), /no head yet/)
  t.match(queue.end(1, 1), /no head yet/)
  t.equal(queue.begin(1, 1), undefined)
  t.match(queue.begin(1, 1), /begun already/)
  t.equal(queue.goOn(1, 1), undefined)
  t.equal(queue.end(1, 1), undefined)
  t.match(queue.goOn(1, 1), /has ended/)
  t.match(queue.begin(1, 1), /begun already/)
  t.equal(queue.done(1), 1)
  t.match(queue.begin(1, 1), /over/)
  t.throws(() => queue.done(1), TypeError)
})

t.test(
  'R41: what a dead responder had not begun to answer comes first for the next one',
  async (t) => {
    const { queue, told, ask } = open()
    queue.join(1, 'q', 4)
    for (let i = 0; i < 6; i++) ask()
    queue.begin(1, 1)
    queue.begin(2, 1)
    queue.end(2, 1)
    told.take()
    queue.leave(1, 0)
    t.strictSame(told.take(), ['1 cut'], 'what had begun is cut, what is whole goes out')
    queue.join(2, 'q', 4)
    t.strictSame(told.take(), ['3 to 2 again (2)', '4 to 2 again (2)', '5 to 2', '6 to 2'])
    t.equal(queue.done(2), undefined)
    t.match(queue.begin(3, 1), /another responder/, 'the dead one may say nothing more')
  },
)

t.test(`R41: ${RESPONDER_DELIVERIES_MAX} deaths over one request are enough`, async (t) => {
  const { queue, told, ask } = open()
  ask()
  for (let i = 1; i <= RESPONDER_DELIVERIES_MAX; i++) {
    queue.join(i, 'q', 1)
    queue.leave(i, 0)
  }
  t.strictSame(told.take(), [
    '1 to 1',
    '1 to 2 again (2)',
    '1 to 3 again (3)',
    '1 refused: responder_lost',
  ])
  t.strictSame([queue.size, queue.heldBytes], [0, 0])
})

t.test('R40: who is not taken in time is refused, as configured', async (t) => {
  for (const [onNoResponder, code] of [
    [503, 'responder_missing'],
    [504, 'responder_timeout'],
  ] as const) {
    const { queue, told, ask } = open({ onNoResponder })
    ask('s', 0)
    ask('s', 500)
    queue.expire(999)
    t.strictSame(told.take(), [])
    queue.expire(1_000)
    t.strictSame(told.take(), [`1 refused: ${code}`])
    queue.join(1, 'q', 1)
    queue.expire(5_000)
    t.strictSame(told.take(), ['2 to 1'], 'who has been taken waits for its answer')
    queue.leave(1, 5_000)
    queue.expire(5_999)
    t.strictSame(told.take(), [], 'and for another responder, once more')
    queue.expire(6_000)
    t.strictSame(told.take(), [`2 refused: ${code}`])
  }
  const { queue, told, ask } = open({ waitMs: 0 })
  ask()
  queue.expire(1e12)
  t.strictSame(told.take(), [], '0 is no bound')
})

t.test('R40: what waits is bounded, in number and in bytes', async (t) => {
  const { queue, told, ask } = open({ waitingMax: 2 })
  queue.join(1, 'q', 3)
  for (let i = 0; i < 6; i++) ask()
  t.strictSame(told.take(), ['1 to 1', '2 to 1', '3 to 1', '6 refused: responder_queue_full'])
  const id = queue.arrive({ queue: 'q', session: 's' })
  queue.grow(id, RESPONDER_HELD_BYTES_MAX - 50)
  t.strictSame(told.take(), [])
  queue.grow(id, 1)
  t.strictSame(told.take(), ['7 refused: responder_queue_full'])
  t.equal(queue.heldBytes, 50)
  queue.begin(1, 1)
  t.equal(queue.heldBytes, 40, 'once an answer has begun the body is not kept')
})

t.test(`R40: there are ${RESPONDERS_MAX} responders at most`, async (t) => {
  const { queue } = open()
  for (let id = 0; id < RESPONDERS_MAX; id++) queue.join(id, 'q', 1)
  t.throws(() => queue.join(-1, 'q', 1), { code: 'over_capacity' })
  queue.leave(5, 0)
  queue.join(-1, 'q', 1)
  t.equal(queue.responders, RESPONDERS_MAX)
})

t.test('R42: the end of a session ends its requests at once, and all are told', async (t) => {
  const { queue, told, ask } = open()
  queue.join(1, 'q', 3)
  for (const session of ['a', 'b', 'a', 'a', 'b']) ask(session)
  queue.begin(3, 1)
  told.take()
  t.equal(queue.endSession('a', 'closed'), 3)
  t.strictSame(told.take(), [
    '1 refused: session_ended',
    '3 cut',
    '4 refused: session_ended',
    '1 taken from 1',
    '3 taken from 1',
    'a ended: closed',
    '5 to 1',
  ])
  t.equal(queue.endSession('a', 'closed'), 0)
  t.equal(queue.endSession('unknown', 'closed'), 0)
  t.strictSame(told.take(), [], 'it ends once')
  ask('a')
  queue.endSessions('command_ended')
  t.match(told.take().join(), /b ended: command_ended.*a ended: command_ended/)
  t.equal(queue.size, 0)
})

t.test(
  `R42: of ${RESPONDER_SESSIONS_MAX} sessions the end is told, the oldest are forgotten`,
  async (t) => {
    const { queue, told } = open()
    for (let i = 0; i <= RESPONDER_SESSIONS_MAX; i++) {
      queue.cancel(queue.arrive({ queue: 'q', session: `s${i}` }))
    }
    queue.endSession('s0', 'closed')
    t.strictSame(told.take(), [])
    queue.endSession('s1', 'closed')
    t.strictSame(told.take(), ['s1 ended: closed'])
  },
)

t.test('a responder that does not read gets nothing until it does', async (t) => {
  const { queue, told, ask } = open()
  queue.join(1, 'q', 2)
  queue.setReady(1, false)
  ask()
  t.strictSame(told.take(), [])
  queue.setReady(1, true)
  t.strictSame(told.take(), ['1 to 1'])
})

interface Act {
  kind: 'join' | 'leave' | 'begin' | 'end' | 'done' | 'fail' | 'cancel'
  at: number
  by: number
}

type Step = { kind: 'ask'; session: number } | Act | { kind: 'expire' | 'endSession'; at: number }

const STEP: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('ask' as const), session: fc.nat(2) }),
  fc.record({
    kind: fc.constantFrom('join', 'leave', 'begin', 'end', 'done', 'fail', 'cancel' as const),
    at: fc.nat(30),
    by: fc.nat(4),
  }),
  fc.record({ kind: fc.constantFrom('expire', 'endSession' as const), at: fc.nat(2) }),
) as fc.Arbitrary<Step>

/** Watches that each request has one responder at a time, and one end. */
class Judge implements QueueOwner {
  readonly ends = new Map<number, string[]>()
  readonly holders = new Map<number, number>()
  readonly ending = new Set<number>()
  readonly given = new Map<number, number[]>()
  readonly faults: string[] = []

  onGive(id: number, responder: number, delivery: number): void {
    if (this.holders.has(id)) this.faults.push(`${id} is with two`)
    this.holders.set(id, responder)
    const before = this.given.get(id) ?? []
    if (delivery !== before.length + 1) this.faults.push(`${id} counted ${delivery}`)
    this.given.set(id, [...before, responder])
  }
  onRefuse(id: number): void {
    this.over(id, 'refused')
  }
  onCut(id: number): void {
    this.over(id, 'cut')
  }
  onCancelled(id: number, responder: number): void {
    if (!this.given.get(id)?.includes(responder))
      this.faults.push(`${id} was not with ${responder}`)
  }
  onSessionEnded(): void {}

  over(id: number, how: string): void {
    this.holders.delete(id)
    this.ends.set(id, [...(this.ends.get(id) ?? []), how])
  }
}

t.test('R40 R41: whatever happens in whatever order, each request ends once', async (t) => {
  const run = (steps: readonly Step[]): void => {
    const judge = new Judge()
    const queue = new Queue(judge, () => ({ ...RULES, waitingMax: 8, waitMs: 10 }))
    const asked: number[] = []
    const live = new Set<number>()
    let nowMs = 0
    for (const step of steps) {
      nowMs += 2
      if (step.kind === 'ask') {
        const id = queue.arrive({ queue: 'q', session: `s${step.session}` })
        asked.push(id)
        queue.grow(id, 5)
        queue.submit(id, nowMs)
      } else if (step.kind === 'expire') queue.expire(nowMs)
      else if (step.kind === 'endSession') queue.endSession(`s${step.at}`, 'closed')
      else act(step as Act, asked[(step as Act).at] ?? -1)
      const loads = [...judge.holders.values()]
      for (const id of live) {
        if (loads.filter((by) => by === id).length > 2) judge.faults.push(`${id} has too many`)
      }
    }
    function act({ kind, by }: Act, id: number): void {
      const isHolder = judge.holders.get(id) === by
      if (kind === 'join' && !live.has(by)) {
        live.add(by)
        queue.join(by, 'q', 2)
      } else if (kind === 'leave' && live.delete(by)) {
        for (const [held, holder] of judge.holders) {
          if (holder === by && !judge.ending.has(held)) judge.holders.delete(held)
        }
        queue.leave(by, nowMs)
      } else if (kind === 'begin') {
        const begun = queue.begin(id, by)
        if (begun === undefined && !isHolder) judge.faults.push(`${by} began ${id}`)
      } else if (kind === 'end' && queue.end(id, by) === undefined) judge.ending.add(id)
      else if (kind === 'done' && judge.ending.delete(id)) {
        judge.over(id, 'done')
        queue.done(id)
      } else if (kind === 'fail') queue.fail(id, by, { code: 'x' } as unknown as RolltapeError)
      else if (kind === 'cancel' && judge.ends.get(id) === undefined && asked.includes(id)) {
        judge.ending.delete(id)
        judge.over(id, 'cancelled')
        queue.cancel(id)
      }
    }
    for (const id of judge.ending) {
      judge.over(id, 'done')
      queue.done(id)
    }
    for (const id of live) {
      for (const [held, holder] of judge.holders) if (holder === id) judge.holders.delete(held)
      queue.leave(id, nowMs)
    }
    queue.expire(Infinity)
    const wrong = asked.filter((id) => judge.ends.get(id)?.length !== 1)
    if (judge.faults.length + wrong.length + queue.size + queue.heldBytes > 0) {
      throw new Error(`${judge.faults.join('; ')}; not once: ${wrong}; left ${queue.size}`)
    }
  }
  t.doesNotThrow(() =>
    fc.assert(fc.property(fc.array(STEP, { maxLength: 120 }), run), { numRuns: 500 }),
  )
})
