/**
 * What becomes of a real agent's session: ten turns, a title, a sub-agent, a call that failed and was
 * tried again, one that got lost and was asked again, a compaction.
 *
 *   m1 ─ m2 ─ m3 ─ m4 ─┬─ m5 ─ m6 ─ m7     m7 sums up, and the agent begins anew with that
 *                      └─ m5!              its client left after three tokens
 *   m8 ─ m9 ─ m10
 *   s1 ─ s2                                a sub-agent
 *   t1                                     a title
 *   m4!                                    an error: no token was sampled
 */
import t from 'tap'

import { buildSamples } from '../../src/rolltape.ts'
import type { Sample } from '../../src/rolltape.ts'
import { recordAgent } from '../support/agent-session.ts'

const { records, sampled, nameOf } = await recordAgent(t)
const samples = buildSamples(records)

const sum = (numbers: readonly number[]): number => numbers.reduce((all, each) => all + each, 0)

t.test('the forest is as drawn, and each sampled token is trained once', async (t) => {
  const drawn = samples.map(({ kind, labels, turns }) => {
    const path = turns.map(({ id, trained }) => (trained ? nameOf(id) : `(${nameOf(id)})`))
    // Whether tokens are required is a matter of configuration.
    const told = labels.filter((label) => label !== 'tokens_incomplete')
    return [kind, path.join(' '), told.join(' ')]
  })
  t.strictSame(drawn, [
    ['side_call', 't1', ''],
    ['side_chain', 's1 s2', ''],
    ['unplaced', '(m4!)', 'retried no_tokens'],
    ['main', '(m1) (m2) (m3) (m4) m5!', 'branch retry retried unaligned partial'],
    ['main', 'm1 m2 m3 m4 m5 m6 m7', 'retry'],
    ['restart', 'm8 m9 m10', ''],
  ])
  t.equal(sum(samples.flatMap(({ loss_mask }) => loss_mask)), sampled)
  const recorded = records.flatMap(({ tokens }) => tokens ?? [])
  t.equal(sum(recorded.map(({ token_ids }) => token_ids?.length ?? 0)), sampled)
  t.strictSame(new Set(samples.map(({ tags }) => tags['env'])), new Set(['dev']))
})

t.test('each sampled token stands with its id and log-prob behind the prompt it saw', async (t) => {
  const long = samples.find(({ turns }) => turns.length === 7)!
  for (const { id, start, end } of long.turns) {
    const [tokens] = records.find((record) => record.id === id)!.tokens!
    t.strictSame(long.token_ids.slice(0, start), tokens!.prompt_token_ids)
    t.strictSame(long.token_ids.slice(start, end), tokens!.token_ids)
    t.strictSame(long.logprobs.slice(start, end), tokens!.logprobs)
    t.strictSame(new Set(long.loss_mask.slice(start, end)), new Set([1]))
  }
  const told = (sample: Sample) => sample.logprobs.filter((logprob) => logprob !== null).length
  t.equal(told(long), sum(long.loss_mask), 'and there are no others')
})

t.test('what was asked again is linked to what it asks again', async (t) => {
  const linked = samples
    .flatMap(({ turns }) => turns)
    .filter(({ retry_of }) => retry_of !== null)
    .map(({ id, retry_of }) => `${nameOf(id)} ${nameOf(retry_of)}`)
  t.strictSame(new Set(linked), new Set(['m4 m4!', 'm5 m5!']))
})
