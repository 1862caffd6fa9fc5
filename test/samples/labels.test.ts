/**
 * What a sample tells of itself beside its tokens: labels, policy versions, groups.
 */
import t from 'tap'

import { buildSamples } from '../../src/samples/samples.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { callRecord } from '../support/call-records.ts'

const policy = (dispatch: string | null, more: object = {}) => ({
  policy: { dispatch, first_byte: null, end: null, engine: null, ...more },
})

/** The labels of the only sample of one record. */
function labelsOf(record: StoredRecord): readonly string[] {
  const [sample, ...more] = buildSamples([record])
  t.strictSame(more, [])
  return sample!.labels
}

t.test('a record without ids is kept, and says why it trains nothing', async (t) => {
  const cases: [string, StoredRecord, readonly string[]][] = [
    ['no tokens', callRecord(1, { prompt: [1], sampled: [] }), ['no_tokens']],
    [
      'an id is missing',
      callRecord(1, { prompt: [1], sampled: [[2, null]] }),
      ['no_tokens', 'unaligned'],
    ],
    ['no prompt ids', callRecord(1, { prompt: null, sampled: [[2]] }), ['no_prompt_tokens']],
    [
      'no generation',
      callRecord(1, { prompt: null, sampled: [] }, { turn: null }),
      ['no_tokens', 'no_generation'],
    ],
    [
      'required, and not there',
      callRecord(1, { prompt: [1], sampled: [] }, { flags: ['tokens_incomplete'] }),
      ['no_tokens', 'tokens_incomplete'],
    ],
    ['ids that are none', callRecord(1, { prompt: [1.5], sampled: [[2]] }), ['no_prompt_tokens']],
    ['sampled ids that are none', callRecord(1, { prompt: [1], sampled: [[-2]] }), ['no_tokens']],
  ]
  for (const [what, record, labels] of cases) t.strictSame(labelsOf(record), labels, what)
})

t.test('without prompt ids a completion is a sequence of its own', async (t) => {
  const [sample] = buildSamples([callRecord(1, { prompt: null, sampled: [[5, 6]] })])
  t.match(sample, {
    token_ids: [5, 6],
    loss_mask: [1, 1],
    logprobs: [-1, -1.001],
    kind: 'unplaced',
  })
  t.match(sample!.turns, [{ start: 0, end: 2, trained: true }])
})

t.test(
  'spans tell which policy version sampled what, and where it changed meanwhile',
  async (t) => {
    const [sample] = buildSamples([
      callRecord(1, { prompt: [1], sampled: [[2]] }, policy('v1')),
      callRecord(2, { prompt: [1, 2, 3], sampled: [[4, 5]] }, policy('v1', { end: 'v1' })),
      callRecord(3, { prompt: [1, 2, 3, 4, 5], sampled: [[6]] }, policy('v1', { end: 'v2' })),
      callRecord(4, { prompt: [1, 2, 3, 4, 5, 6], sampled: [[7]] }, policy('v2', { engine: 'e9' })),
      callRecord(
        5,
        { prompt: [1, 2, 3, 4, 5, 6, 7], sampled: [[8]] },
        policy('v2', { mixed: true }),
      ),
    ])
    t.strictSame(sample!.policy_version, [
      { start: 1, end: 5, version: 'v1', mixed: false },
      { start: 5, end: 6, version: 'v1', mixed: true },
      { start: 6, end: 7, version: 'e9', mixed: false },
      { start: 7, end: 8, version: 'v2', mixed: true },
    ])
    t.strictSame(sample!.labels, ['mixed_policy'])
    t.strictSame(labelsOf(callRecord(1, { prompt: [1], sampled: [[2]] }, policy('v1'))), [])
  },
)

t.test('n answers to one prompt are n sequences of one group', async (t) => {
  const sampled = [[5], [6], [7, 8]]
  const more = { group: 'g1', tags: { env: 'a' } }
  const next = callRecord(2, { prompt: [1, 2, 6, 9], sampled: [[4]] }, { tags: { env: 'b' } })
  const samples = buildSamples([callRecord(1, { prompt: [1, 2], sampled }, more), next])
  t.strictSame(
    samples.map(({ token_ids, group, tags, conversation, kind, turns }) => [
      token_ids,
      group,
      tags['env'],
      conversation,
      kind,
      turns.map(({ choice }) => choice),
    ]),
    [
      [[1, 2, 5], 'g1', 'a', 1, 'main', [0]],
      [[1, 2, 7, 8], 'g1', 'a', 1, 'main', [2]],
      [[1, 2, 6, 9, 4], null, 'b', 1, 'main', [1, 0]],
    ],
  )
})

t.test('of answers that are the same, the one that came whole is gone on from', async (t) => {
  const prompt = [1, 2]
  const lost = { outcome: 'client_gone', partial: true }
  const samples = buildSamples([
    callRecord(1, { prompt, sampled: [[3]] }),
    callRecord(2, { prompt, sampled: [[3]] }, lost),
    callRecord(3, { prompt: [1, 2, 3, 4], sampled: [[5]] }),
  ])
  t.strictSame(
    samples.map(({ turns }) => turns.map(({ id }) => id)),
    [['r2'], ['r1', 'r3']],
  )
})
