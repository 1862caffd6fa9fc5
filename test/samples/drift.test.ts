/**
 * A prompt that should repeat what an earlier call sampled, and spells it otherwise: the call is a
 * root of its own in the same conversation, and its samples tell where and how the two part.
 */
import t from 'tap'

import { DRIFT_SIBLINGS_MAX } from '../../src/limits.ts'
import { buildSamples } from '../../src/samples/samples.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { callRecord } from '../support/call-records.ts'

/** System prompt, question, and what opens the answer. */
const PROMPT = [1, 2, 3, 4, 5, 90, 91]
/** Reasoning, its end, an answer, the end of the turn. */
const SAMPLED = [20, 21, 22, 29, 30, 31, 32, 33, 34, 99]
/** What comes next. */
const NEXT = [80, 6, 7, 99, 90, 91]

const first = callRecord(1, { prompt: PROMPT, sampled: [SAMPLED] })
const second = (prompt: number[]): StoredRecord => callRecord(2, { prompt, sampled: [[50, 99]] })

/** What the second call's sample tells, and the numbers of both conversations. */
function driftOf(prompt: number[]): unknown {
  const [one, two] = buildSamples([first, second(prompt)])
  if (two === undefined) return 'continued'
  t.strictSame(two.token_ids, [...prompt, 50, 99])
  const places = two.drift.map((drift) => [drift.class, drift.position, drift.id, drift.of])
  return [two.labels, one!.conversation === two.conversation, ...places]
}

t.test('a prompt that repeats the completion is no drift', async (t) => {
  t.equal(driftOf([...PROMPT, ...SAMPLED, ...NEXT]), 'continued')
})

t.test('where and how a prompt departs from a completion is told', async (t) => {
  const cases: [string, number[], string, number][] = [
    ['reasoning is stripped', [...PROMPT, 30, 31, 32, 33, 34, 99, ...NEXT], 'left_out', 7],
    ['a stretch is left out', [...PROMPT, 20, 21, ...SAMPLED.slice(4), ...NEXT], 'left_out', 9],
    ['an empty thought is put in', [...PROMPT, 20, 60, 61, ...SAMPLED.slice(1)], 'put_in', 8],
    ['two ids became one', [...PROMPT, 20, 70, 29, 30, 31, 32, 33, 34, 99], 'respelled', 8],
    ['the end of the turn is another', [...PROMPT, ...SAMPLED.slice(0, -1), 98, 80], 'tail', 16],
    ['the answer is another', [...PROMPT, 20, 60, 61, 62, 63, 64, 99, 80], 'rewritten', 8],
    ['the answer opens otherwise', [...PROMPT.slice(0, -1), ...SAMPLED, ...NEXT], 'template', 6],
  ]
  for (const [what, prompt, drift, position] of cases) {
    t.strictSame(driftOf(prompt), [['drift'], true, [drift, position, 'r2', 'r1']], what)
  }
})

t.test('what merely begins alike is no drift', async (t) => {
  const others = [
    [1, 2, 60, 61, 90, 91],
    [...PROMPT.slice(0, -3), 60, 90, 91, 40, 41, 42, 43],
    PROMPT,
    PROMPT.slice(0, -1),
  ]
  for (const prompt of others) {
    const samples = buildSamples([first, second(prompt)])
    t.strictSame(
      samples.map(({ labels, drift }) => [labels, drift]),
      [
        [[], []],
        [[], []],
      ],
      String(prompt),
    )
  }
})

t.test(
  'what was said anew far before an answer is no drift, though the answer is told again',
  async (t) => {
    const told = Array.from({ length: 20 }, (_, at) => 100 + at)
    const one = callRecord(1, { prompt: [1, ...told, 90, 91], sampled: [SAMPLED] })
    const samples = buildSamples([one, second([1, 60, ...SAMPLED, ...NEXT])])
    t.strictSame(
      samples.map(({ labels, kind }) => [labels, kind]),
      [
        [[], 'main'],
        [[], 'restart'],
      ],
    )
  },
)

t.test('calls that continue the one that drifted are told of it, and drift no more', async (t) => {
  const prompt = [...PROMPT, 30, 31, 32, 33, 34, 99, ...NEXT]
  const third = callRecord(3, { prompt: [...prompt, 50, 99, ...NEXT], sampled: [[51, 99]] })
  const [one, two] = buildSamples([first, second(prompt), third])
  t.strictSame([one!.labels, two!.labels], [[], ['drift']])
  t.strictSame(
    two!.drift.map(({ id, position }) => [id, position]),
    [['r2', 7]],
  )
  t.strictSame(
    two!.turns.map(({ id }) => id),
    ['r2', 'r3'],
  )
  t.equal(two!.kind, 'main')
  t.equal(two!.conversation, one!.conversation)
})

t.test(
  'of several answers to one prompt it drifted from the one it repeats furthest',
  async (t) => {
    const answers = [
      [20, 40, 41, 42, 43, 44],
      [20, 21, 22, 45, 46, 47],
      [20, 21, 48, 49, 50, 51],
    ]
    const record = callRecord(1, { prompt: PROMPT, sampled: answers })
    const samples = buildSamples([record, second([...PROMPT, 20, 21, 22, 60, 61, 62, 63])])
    t.strictSame(
      samples.flatMap(({ drift }) => drift),
      [{ position: 10, class: 'tail', id: 'r2', of: 'r1', choice: 1 }],
    )
  },
)

t.test(
  `more than ${DRIFT_SIBLINGS_MAX} answers: the latest are compared, all are matched`,
  async (t) => {
    const count = DRIFT_SIBLINGS_MAX + 1
    const sampled = Array.from({ length: count }, (_, at) => [200 + at, 1, 2, 3, 4, 5, 6])
    const records = sampled.map((ids, at) => callRecord(at + 1, { prompt: PROMPT, sampled: [ids] }))
    const last = (prompt: number[]) =>
      buildSamples([...records, callRecord(count + 1, { prompt, sampled: [[50]] })])
    const driftTo = (at: number) =>
      last([...PROMPT, 200 + at, 1, 2, 9, 9]).flatMap(({ drift }) => drift.map(({ of }) => of))
    t.strictSame(driftTo(1), ['r2'], 'among the latest')
    t.strictSame(driftTo(0), [`r${count}`], 'not among them: another answer stands for it')
    const whole = last([...PROMPT, ...sampled[0]!, 9])
    t.strictSame(whole.length, count, 'a call that matches whole is found among any number')
  },
)
