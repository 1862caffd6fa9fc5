/**
 * What is said about a change of a body: in a tape's SENT frame, and so in the record. These shapes
 * are on disk, so they only ever grow.
 */

/** A top-level field that was changed; without `from` it was added, without `to` taken out. */
export interface FieldChange {
  readonly field: string
  readonly from?: unknown
  readonly to?: unknown
}

/** One transform, and what it did. */
export interface Transform {
  readonly name:
    | 'model_override'
    | 'max_completion_tokens'
    | 'max_tokens_cap'
    | 'disable_thinking'
    | 'capture'
    | 'strip'
  /** Counted up whenever the same transform would make something else of the same body. */
  readonly version: number
  /** Of `capture`: the engine's profile and its version, such as `vllm/1`. */
  readonly profile?: string
  readonly changes?: readonly FieldChange[]
  /** Request headers that were changed. */
  readonly headers?: readonly FieldChange[]
  /** Of `strip`: places of the answer that were taken out, such as `choices/…/token_ids`. */
  readonly removed?: readonly string[]
  /** Why it changed nothing; beside `removed`, which events alone were left as they were. */
  readonly skipped?: string
}

/** A place in an answer that is taken out of the client's view. */
export interface StripRule {
  /** Names from the root on, joined by `/`; `*` is every item of a list. */
  readonly path: string
  /** The member goes; or its value becomes null, or an empty list. */
  readonly how: 'remove' | 'null' | 'empty'
}

/**
 * How an answer is made into what the client gets. On the tape, whole: an answer is stripped the
 * same way for ever, whatever later versions do.
 */
export interface StripSpec {
  /** 2: log-probs keep no event, and a byte-order mark before a whole answer is passed over. */
  readonly version: number
  readonly rules: readonly StripRule[]
  /** Events go whose choices have nothing left in them. */
  readonly dropsEmpty: boolean
  /** The event goes that has the usage and no choices. */
  readonly dropsUsage: boolean
  /** A longer event passes as it is. */
  readonly eventBytesMax: number
  /** A longer answer that is no stream passes as it is. */
  readonly bodyBytesMax: number
}
