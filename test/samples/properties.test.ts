/**
 * Sessions made at random, of few ids, so that prompts begin with each other by accident as well:
 * whatever comes, no record is lost and no token is trained twice.
 */
import * as fc from 'fast-check'
import t from 'tap'

import { buildSamples } from '../../src/samples/samples.ts'
import type { Sample } from '../../src/samples/sample.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { callRecord, logprobOf } from '../support/call-records.ts'

const id = fc.integer({ min: 0, max: 2 })
const ids = fc.array(id, { maxLength: 5 })

/** One call: which earlier call it goes on from, how it tampers with it, what is new, what is sampled. */
const step = fc.record({
  from: fc.option(fc.nat({ max: 20 }), { freq: 3, nil: null }),
  cut: fc.nat({ max: 3 }),
  more: fc.array(id, { minLength: 1, maxLength: 5 }),
  sampled: fc.array(ids, { maxLength: 3 }),
  session: fc.constantFrom('s', 't'),
  known: fc.boolean(),
  same: fc.boolean(),
})

const sessions = fc.array(step, { maxLength: 14 }).map((steps) => {
  const sequences: number[][] = []
  return steps.map(({ from, cut, more, sampled, session, known, same }, at): StoredRecord => {
    const base = from === null ? [] : (sequences[from % Math.max(1, sequences.length)] ?? [])
    const prompt = [...base.slice(0, Math.max(0, base.length - cut)), ...more]
    for (const each of sampled) sequences.push([...prompt, ...each])
    const tokens = { prompt: known || at % 3 > 0 ? prompt : null, sampled }
    const outcome = same ? 'client_gone' : 'complete'
    return callRecord(at + 1, tokens, { session, outcome })
  })
})

/** Sampled tokens whose ids are known, each by a name of its own. */
function sampledIn(records: readonly StoredRecord[]): string[] {
  return records.flatMap(({ id, tokens }) =>
    (tokens ?? []).flatMap(({ index, token_ids }) =>
      (token_ids ?? []).map((token, at) => `${id} ${index} ${at} ${token}`),
    ),
  )
}

/** Those that samples train, by the same names. */
function trainedIn(samples: readonly Sample[]): string[] {
  return samples.flatMap(({ turns, loss_mask, token_ids }) =>
    [...loss_mask.entries()].flatMap(([at, mask]) => {
      if (mask === 0) return []
      const turn = turns.find(({ start, end }) => start <= at && at < end)!
      return [`${turn.id} ${turn.choice} ${at - turn.start} ${token_ids[at]}`]
    }),
  )
}

const check = (property: fc.IProperty<[StoredRecord[]]>) => {
  fc.assert(property, { numRuns: 400 })
}

t.test('each sampled token is trained once, and nothing else is', async () => {
  check(
    fc.property(sessions, (records) => {
      const [is, should] = [trainedIn(buildSamples(records)), sampledIn(records)]
      return JSON.stringify(is.sort()) === JSON.stringify(should.sort())
    }),
  )
})

t.test('every record is in at least one sample, and the sessions stay apart', async () => {
  check(
    fc.property(sessions, (records) => {
      const samples = buildSamples(records)
      return records.every((record) => {
        const holding = samples.filter(({ turns }) => turns.some(({ id }) => id === record.id))
        return holding.length > 0 && holding.every(({ session }) => session === record.session)
      })
    }),
  )
})

t.test('the order of the records changes nothing, nor does a record that comes twice', async () => {
  const shuffled = sessions.chain((records) =>
    fc.tuple(
      fc.constant(records),
      fc.shuffledSubarray([...records, ...records], { minLength: 2 * records.length }),
    ),
  )
  fc.assert(
    fc.property(shuffled, ([records, other]) => {
      return JSON.stringify(buildSamples(records)) === JSON.stringify(buildSamples(other))
    }),
    { numRuns: 300 },
  )
})

t.test('a path is what its last call was asked and sampled, log-probs in place', async () => {
  check(
    fc.property(sessions, (records) => {
      const byId = new Map(records.map((record) => [record.id, record]))
      return buildSamples(records).every(({ turns, token_ids, logprobs, loss_mask }) => {
        if (token_ids.length !== logprobs.length) return false
        if (token_ids.length !== loss_mask.length) return false
        return turns.every(({ id, seq, choice, start, end }) => {
          const tokens = byId.get(id!)!.tokens?.find(({ index }) => index === choice)
          const prompt = tokens?.prompt_token_ids ?? []
          const whole = [...prompt, ...(tokens?.token_ids ?? [])]
          if (end === start) return true
          const told = token_ids.slice(0, end)
          return (
            JSON.stringify(told) === JSON.stringify(whole) &&
            logprobs.slice(start, end).every((p, at) => p === logprobOf(seq!, choice, at))
          )
        })
      })
    }),
  )
})

t.test('a call continues the longest earlier sequence that its prompt begins with', async () => {
  check(
    fc.property(sessions, (records) => {
      const sequenceOf = (record: StoredRecord, choice: number): number[] | undefined => {
        const tokens = record.tokens?.[choice]
        if (!tokens?.prompt_token_ids || !tokens.token_ids?.length) return undefined
        return [...tokens.prompt_token_ids, ...(tokens.token_ids as number[])]
      }
      const begins = (prompt: readonly number[], other: readonly number[]) =>
        other.every((each, at) => prompt[at] === each)
      return buildSamples(records).every(({ session, turns }) =>
        turns.every((turn, at) => {
          const record = records.find(({ id }) => id === turn.id)!
          const prompt = record.tokens?.[turn.choice]?.prompt_token_ids
          if (!prompt || turn.end === turn.start) return at === 0
          const lengths = records
            .filter((other) => other.session === session && other.seq! < record.seq!)
            .flatMap((other) => (other.tokens ?? []).map((_, choice) => sequenceOf(other, choice)))
            .filter((other) => other !== undefined && begins(prompt, other))
            .map((other) => other!.length)
          return (turns[at - 1]?.end ?? 0) === Math.max(0, ...lengths)
        }),
      )
    }),
  )
})
