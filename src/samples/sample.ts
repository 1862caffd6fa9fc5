/**
 * The sample: one training sequence, as `buildSamples` and `rolltape export --format samples` give
 * it. A sample is a path through the forest of a session's calls, from a root to a leaf. Where each
 * field comes from, with a picture, is in `docs/training-data.md`.
 */

import type { Outcome } from '../trajectory/record.ts'

/** The value of every sample's `schema` key. */
export const SAMPLE_SCHEMA = 'rolltape.sample/1' as const

/**
 * What the conversation that a sample belongs to is among those of its session. Told by structure
 * alone: rolltape does not guess what a call was for.
 *
 * - `main`: the one with the most calls
 * - `restart`: begins anew with the system prompt and tools of `main` (after a compaction)
 * - `side_chain`: of several calls, with another system prompt or other tools (a sub-agent)
 * - `side_call`: of a single call (a title, a classification)
 * - `unplaced`: a call that told no prompt ids, so that nothing can be said
 */
export type SampleKind = 'main' | 'restart' | 'side_chain' | 'side_call' | 'unplaced'

/** What somebody who picks samples should know about one. */
export type SampleLabel =
  /** It begins with sampled tokens that another sample trains. */
  | 'branch'
  /** One of its calls asks again what an earlier record asked. */
  | 'retry'
  /** Its last call was asked again later: its answer was not used. */
  | 'retried'
  /** One of its prompts spells an earlier completion with other tokens; see `drift`. */
  | 'drift'
  /** The sampled tokens are not known: no ids came, or not for every token. Its lists are empty. */
  | 'no_tokens'
  /** The sampled tokens are known, and the prompt's are not. It holds the completion alone. */
  | 'no_prompt_tokens'
  /** The exchange made no model produce anything (such as `GET /v1/models`). */
  | 'no_generation'
  /** Some call's tokens are not aligned: ids, log-probs and usage do not agree. */
  | 'unaligned'
  /** Some call's record has the flag `tokens_incomplete`. */
  | 'tokens_incomplete'
  /** Some call's answer is not whole. */
  | 'partial'
  /** Its tokens were not all sampled under one policy version. */
  | 'mixed_policy'

/** How a prompt differs from the completion it should repeat. */
export type DriftClass =
  /** What opened the completion: the prompt's own last tokens are others now. */
  | 'template'
  /** A stretch of the completion is left out (reasoning that a template strips). */
  | 'left_out'
  /** Something was put between the completion's tokens. */
  | 'put_in'
  /** A stretch has other tokens, then the completion's own follow again (re-tokenised text). */
  | 'respelled'
  /** Only the last few tokens differ (an end-of-turn mark). */
  | 'tail'
  /** The completion's tokens do not come again. */
  | 'rewritten'

/** A place where a prompt does not repeat what had been sampled there. */
export interface Drift {
  /** Index in `token_ids` of the first token that differs. */
  readonly position: number
  readonly class: DriftClass
  /** The record whose prompt differs, and the one whose completion it should repeat. */
  readonly id: string | null
  readonly of: string | null
  /** The choice of that one. */
  readonly choice: number
}

/** A stretch of `token_ids` whose sampled tokens come from one policy version. */
export interface PolicySpan {
  /** From `start` up to, not including, `end`. */
  readonly start: number
  readonly end: number
  /** Null where none was told. */
  readonly version: string | null
  /** The version changed while these were sampled; `version` is the one they began under. */
  readonly mixed: boolean
}

/** One call of a sample. */
export interface SampleTurn {
  readonly id: string | null
  readonly seq: number | null
  readonly turn: number | null
  /** Index of the choice that this sample goes through. */
  readonly choice: number
  /** Where its sampled tokens stand in `token_ids`: from `start` up to, not including, `end`. */
  readonly start: number
  readonly end: number
  /** False where another sample trains these tokens; their `loss_mask` is 0 here. */
  readonly trained: boolean
  readonly finish_reason: string | null
  readonly outcome: Outcome | null
  /** The record that this one asks again. */
  readonly retry_of: string | null
}

/** One training sequence. The three lists of tokens have one length. */
export interface Sample {
  readonly schema: typeof SAMPLE_SCHEMA
  readonly session: string
  readonly run: string
  /** Number of this sample in its session and run, from 1. */
  readonly sample: number
  /** Number of the conversation it belongs to, from 1. */
  readonly conversation: number
  readonly kind: SampleKind
  readonly labels: readonly SampleLabel[]
  readonly model: string | null
  /** Of the last call: samples of one prompt, as `x-rolltape-group` tells it. */
  readonly group: string | null
  /** Of the last call. */
  readonly tags: Readonly<Record<string, string>>
  readonly token_ids: readonly number[]
  /** 1 where a token was sampled and is trained here, else 0. */
  readonly loss_mask: readonly (0 | 1)[]
  /** Null where nothing was sampled, or no log-prob was told. */
  readonly logprobs: readonly (number | null)[]
  readonly policy_version: readonly PolicySpan[]
  readonly turns: readonly SampleTurn[]
  readonly drift: readonly Drift[]
}
