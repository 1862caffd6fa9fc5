/** Records of calls whose token ids a test chooses, in the shape that rolltape writes. */
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import type { ChoiceTokens } from '../../src/trajectory/record.ts'
import { recordOf } from './record-lines.ts'

/** What one call was asked and what it sampled, one list per choice. */
export interface CallTokens {
  readonly prompt: readonly number[] | null
  readonly sampled: readonly (readonly (number | null)[])[]
}

/** The log-prob that a test gives to the token at a place: another one for each place. */
export function logprobOf(seq: number, choice: number, at: number): number {
  return -(seq + choice / 10 + at / 1000)
}

/** The record with this `seq`; `changes` replace keys of it. */
export function callRecord(
  seq: number,
  { prompt, sampled }: CallTokens,
  changes: Readonly<Record<string, unknown>> = {},
): StoredRecord {
  const tokens: ChoiceTokens[] = sampled.map((ids, index) => ({
    index,
    prompt_token_ids: prompt,
    token_ids: ids,
    logprobs: ids.map((_, at) => logprobOf(seq, index, at)),
    tokens: null,
    aligned: !ids.includes(null),
  }))
  return {
    ...recordOf(seq - 1, { session: 's', turn: seq }),
    id: `r${seq}`,
    tokens: tokens.length === 0 ? null : tokens,
    finish_reasons: sampled.map(() => 'stop'),
    ...changes,
  } as unknown as StoredRecord
}
