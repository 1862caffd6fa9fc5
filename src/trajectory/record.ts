/**
 * The record: one JSON object per line of a recording's `.jsonl`, one exchange each.
 *
 * The first nine keys, in this order, are the ones that existing readers of such files expect; the
 * rest is rolltape's own. Lines are made by `trajectory/derive.ts` and read by
 * `trajectory/jsonl.ts`. See `docs/record.md`.
 */

import type { Json } from '../replay/canonical.ts'
import type { AnswerDifference } from '../replay/compare.ts'
import type { Transform } from '../transforms/transform.ts'

/** The value of every record's `schema` key. */
export const RECORD_SCHEMA = 'rolltape.record/1' as const

/** Which wire protocol an exchange spoke, by its path. */
export type Protocol =
  | 'openai.chat'
  | 'openai.completions'
  | 'openai.responses'
  | 'anthropic.messages'
  | 'gemini.generate'
  | 'raw'

/** What became of an exchange (DESIGN: Words). */
export type Outcome =
  | 'complete'
  | 'truncated'
  | 'client_gone'
  | 'upstream_error'
  | 'timeout'
  | 'cancelled'
  | 'refused'
  | 'incomplete'

/** Things a reader should know about a record beyond its outcome. */
export type RecordFlag =
  /** The process died before the end was taped, but the answer on tape is whole. */
  | 'recovered'
  /** Reading the answer failed inside rolltape; the bytes are on the tape. */
  | 'derive_failed'
  /** Tokens are required, and not every one is there with id and log-prob, or not as many as usage says. */
  | 'tokens_incomplete'
  /** The gateway repaired the answer. */
  | 'repaired'
  /** A stretch of the exchange could not be taped. */
  | 'gap'
  /** Usage holds a negative or broken number, or its sum is not its total. */
  | 'usage_odd'
  /** The request or response was not valid UTF-8; U+FFFD stands where it was not. */
  | 'invalid_utf8'

/** Token counts. All are tokens; `total = input + cache_read + cache_write + output`. */
export interface NormalizedUsage {
  readonly input: number
  readonly output: number
  readonly cache_read: number
  readonly cache_write: number
  readonly reasoning: number
  readonly total: number
}

/**
 * Per choice: what the policy sampled. The three lists are aligned by position, null standing where
 * one of them has nothing; a list that would hold nothing but nulls is null itself.
 */
export interface ChoiceTokens {
  readonly index: number
  readonly prompt_token_ids: readonly number[] | null
  readonly token_ids: readonly (number | null)[] | null
  readonly logprobs: readonly (number | null)[] | null
  /** The tokens as the server spelled them. */
  readonly tokens: readonly (string | null)[] | null
  /** Alternatives as the server sent them, position by position; only where the client asked for some. */
  readonly top_logprobs?: readonly unknown[]
  /** Which experts were used, as the server sent it. */
  readonly routed_experts?: unknown
  /** True only if every token has its id and log-prob and there are as many as usage says. */
  readonly aligned: boolean
  /** Given where they are not aligned: how many of each there are. */
  readonly off?: TokenCounts
}

/** How many tokens there are, by what tells of them. */
export interface TokenCounts {
  readonly token_ids: number
  readonly logprobs: number
  /** Over all choices; null when the server did not say. */
  readonly usage: number | null
}

/** One try at an upstream. */
export interface RecordAttempt {
  readonly upstream: string
  readonly status: number | null
  readonly error: string | null
  readonly duration_ms: number
}

/** One line of a recording. Times are epoch seconds in the first nine keys, ms in `timings`. */
export interface ExchangeRecord {
  readonly model: string | null
  readonly stream: boolean
  readonly status: 'success' | 'failure'
  readonly response_time: number
  readonly start_time: number
  readonly end_time: number
  readonly request: unknown
  readonly response: unknown
  readonly error: string | null
  readonly schema: typeof RECORD_SCHEMA
  readonly id: string
  readonly seq: number
  readonly session: string
  readonly turn: number | null
  readonly run: string
  readonly protocol: Protocol
  readonly method: string
  readonly path: string
  readonly http_status: number | null
  readonly outcome: Outcome
  readonly partial: boolean
  readonly flags: readonly RecordFlag[]
  readonly finish_reasons: readonly (string | null)[]
  readonly tokens: readonly ChoiceTokens[] | null
  readonly usage: { readonly normalized: NormalizedUsage; readonly raw: unknown } | null
  readonly timings: {
    readonly ttfb_ms: number | null
    readonly ttft_ms: number | null
    readonly duration_ms: number
    readonly chunks: number
    readonly max_gap_ms: number | null
  }
  readonly attempts: readonly RecordAttempt[]
  readonly policy: {
    readonly dispatch: string | null
    readonly first_byte: string | null
    readonly end: string | null
    readonly engine: string | null
    /** Ours are not the same at all moments that there were: not known then known counts. */
    readonly mixed: boolean
  }
  readonly upstream: string | null
  /** Digest of the credential that the client showed; null when it showed none. */
  readonly key_hmac: string | null
  /** What was done to the request, and then to the answer; given where something was, or should have been. */
  readonly transforms?: readonly Transform[]
  /** What the client called its group of samples. */
  readonly group?: string
  /** How many tries its SDK had made before this one. */
  readonly client_retry?: number
  readonly sha256: { readonly request: string; readonly response: string | null }
  readonly tape: {
    readonly segment: string
    readonly end: number
    /** Given where the request is there alone, and not in the record. */
    readonly request?: true
  }
  readonly tags: Readonly<Record<string, string>>
  /** Mode `verify` only: how this answer compares with the recorded one. */
  readonly verify?: Verification
}

/** A live answer, as it is compared with a recorded one. */
export interface LiveAnswer {
  readonly status: number | null
  readonly outcome: Outcome
  readonly isStream: boolean
  readonly response: Json | null
}

/** How a live answer compares with the recorded one. */
export interface Verification {
  /** How the record was found, or why there is none. */
  readonly how: 'raw' | 'canonical' | 'sequence' | 'missed' | 'exhausted' | 'invalid'
  /** The recording, and the record's `seq` in it; null when nothing is recorded. */
  readonly recorded: { readonly recording: string; readonly seq: number } | null
  /** Null when there was nothing to compare with. */
  readonly same: boolean | null
  /** At most 16. */
  readonly differences: readonly AnswerDifference[]
  /** Why the record could not be read. */
  readonly error?: string
}
