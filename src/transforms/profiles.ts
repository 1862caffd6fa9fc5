/**
 * What is known of engines: which fields make them tell what they sampled, where that stands in
 * their answers, and what they refuse. Data, with a version per profile.
 *
 * Sources: vLLM `vllm/entrypoints/openai/protocol.py` and `serving_chat.py`, SGLang
 * `sglang/srt/entrypoints/openai/protocol.py` and `serving_chat.py`, OpenAI's API reference.
 */
import type { StripRule } from './transform.ts'

/** Engines that can be declared. */
export const ENGINES = ['vllm', 'sglang', 'openai', 'none'] as const

/** One of {@link ENGINES}. */
export type Engine = (typeof ENGINES)[number]

/** The calls that are captured. */
export type Call = 'chat' | 'completions'

/** A field that is put into requests, and what of the answer goes because of it. */
export interface Injection {
  readonly field: string
  /**
   * `true`: the field becomes true, unless it is; `number`: it becomes the number of alternatives,
   * unless it is one; `usage`: `stream_options.include_usage`.
   */
  readonly value: 'true' | 'number' | 'usage'
  readonly strips: readonly StripRule[]
  /** The engine sends events for its sake that have nothing else in them. */
  readonly addsEvents?: boolean
}

/** One engine. */
export interface Profile {
  readonly version: number
  /** By call; for answers in one piece, and for streams. */
  readonly injections: Readonly<
    Record<Call, { readonly whole: readonly Injection[]; readonly stream: readonly Injection[] }>
  >
  /** Why streams of chat come without ids; undefined where they have them. */
  readonly streamLacksIds?: string
}

const LOGPROBS: Injection = {
  field: 'logprobs',
  value: 'true',
  strips: [{ path: 'choices/*/logprobs', how: 'null' }],
}
const TOP: Injection = {
  field: 'top_logprobs',
  value: 'number',
  strips: [{ path: 'choices/*/logprobs/content/*/top_logprobs', how: 'empty' }],
}
/** Of `/v1/completions`: a number, and all there is to ask for. */
const LEGACY_LOGPROBS: Injection = { ...LOGPROBS, value: 'number' }
const USAGE: Injection = { field: 'stream_options', value: 'usage', strips: [] }

const VLLM_IDS: Injection = {
  field: 'return_token_ids',
  value: 'true',
  strips: [
    { path: 'prompt_token_ids', how: 'remove' },
    { path: 'choices/*/prompt_token_ids', how: 'remove' },
    { path: 'choices/*/token_ids', how: 'remove' },
  ],
}
const SGLANG_IDS: readonly Injection[] = [
  {
    field: 'return_token_ids',
    value: 'true',
    strips: [{ path: 'choices/*/token_ids', how: 'remove' }],
  },
  {
    field: 'return_prompt_token_ids',
    value: 'true',
    strips: [{ path: 'choices/*/prompt_token_ids', how: 'remove' }],
  },
]

/** The profiles. */
export const PROFILES: Readonly<Record<Exclude<Engine, 'none'>, Profile>> = {
  vllm: {
    version: 1,
    injections: {
      chat: {
        whole: [LOGPROBS, TOP, VLLM_IDS],
        stream: [LOGPROBS, TOP, { ...VLLM_IDS, addsEvents: true }, USAGE],
      },
      completions: {
        whole: [LEGACY_LOGPROBS, VLLM_IDS],
        stream: [LEGACY_LOGPROBS, VLLM_IDS, USAGE],
      },
    },
  },
  sglang: {
    version: 1,
    injections: {
      chat: { whole: [LOGPROBS, TOP, ...SGLANG_IDS], stream: [LOGPROBS, TOP, USAGE] },
      completions: {
        whole: [LEGACY_LOGPROBS, ...SGLANG_IDS],
        stream: [LEGACY_LOGPROBS, ...SGLANG_IDS, USAGE],
      },
    },
    streamLacksIds: 'SGLang gives no token ids in chat streams',
  },
  openai: {
    version: 1,
    injections: {
      chat: { whole: [LOGPROBS, TOP], stream: [LOGPROBS, TOP] },
      completions: { whole: [LEGACY_LOGPROBS], stream: [LEGACY_LOGPROBS] },
    },
  },
}
