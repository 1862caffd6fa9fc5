/**
 * The options of transforms and token capture: what a user may say, what the rest of the code reads,
 * and the way from one to the other.
 */
import { RolltapeError } from '../errors.ts'
import type { DurationOption } from '../options.ts'
import type { Engine } from '../transforms/profiles.ts'
import type { OptionValues } from './definitions.ts'

/** Part of what a library user passes to `startRolltape`. */
export interface TransformFace {
  /** What upstreams are: one engine, or engines by base URL. Default none: nothing is captured. */
  readonly engine?: Engine | Readonly<Record<string, Engine>>
  /** Alternatives per token that are asked for, 0 to 20. Default 5. */
  readonly topLogprobs?: number
  /** Chat streams of SGLang have no token ids: log-probs alone (default), or an error. */
  readonly sglangStreams?: 'logprobs' | 'error'
  /** `tokens`: flag records whose tokens are not all there. Default nothing. */
  readonly require?: readonly 'tokens'[]
  /** Model that is asked for, whatever the client names. Default none. */
  readonly modelOverride?: string
  /** Models that want `max_completion_tokens`, `*` for any text; `known` for those known to. */
  readonly maxCompletionTokens?: readonly string[]
  /** Most tokens a request may ask for, from 1. Default none. */
  readonly maxTokensCap?: number
  /** Switch thinking off where the client does not say. Default false. */
  readonly disableThinking?: boolean
  /** Path of the engine that tells the version of its weights. Default off. */
  readonly policyPollPath?: string
  /** How often it is asked. Default 1 s. */
  readonly policyPollInterval?: DurationOption
}

/** Part of a configuration. */
export interface TransformConfig {
  /** By base URL; `default` stands for the others. */
  readonly engines: ReadonlyMap<string, Engine>
  readonly topLogprobs: number
  readonly sglangStreams: 'logprobs' | 'error'
  readonly requires: readonly 'tokens'[]
  readonly modelOverride: string | null
  readonly maxCompletionTokens: readonly string[]
  readonly maxTokensCap: number | null
  readonly disableThinking: boolean
  readonly policyPollPath: string | null
  readonly policyPollIntervalMs: number
}

/**
 * Settles these options.
 * @throws RolltapeError `bad_option` for an engine of no upstream.
 */
export function transformConfigOf(values: OptionValues): TransformConfig {
  return {
    engines: settleEngines(values),
    maxCompletionTokens: expandModels(values.maxCompletionTokens ?? []),
    topLogprobs: values.topLogprobs,
    sglangStreams: values.sglangStreams,
    requires: values.require ?? Object.freeze([]),
    modelOverride: values.modelOverride,
    maxTokensCap: values.maxTokensCap,
    disableThinking: values.disableThinking,
    policyPollPath: values.policyPollPath,
    policyPollIntervalMs: values.policyPollInterval,
  }
}

/** Models that are known to refuse `max_tokens`. */
const WANT_COMPLETION_TOKENS = ['gpt-5*', 'o1*', 'o3*', 'o4*']

function expandModels(models: readonly string[]): readonly string[] {
  const all = models.flatMap((model) => (model === 'known' ? WANT_COMPLETION_TOKENS : [model]))
  return Object.freeze([...new Set(all)])
}

/** A base URL that no request goes to is a slip, and its tokens would be missed in silence. */
function settleEngines({ engine, proxyBaseUrl, proxyRules }: OptionValues) {
  const known = new Set([...(proxyBaseUrl ?? []), ...(proxyRules?.values() ?? []), 'default'])
  const stray = [...(engine?.keys() ?? [])].find((base) => !known.has(base))
  if (stray !== undefined) {
    throw new RolltapeError('bad_option', `engine names ${stray}, which is no upstream`, {
      hint: 'write it as in proxy_base_url or proxy_rules, or give one engine for all of them',
    })
  }
  return engine ?? new Map<string, Engine>()
}
