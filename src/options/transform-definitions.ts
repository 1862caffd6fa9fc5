/** The options of transforms and token capture; part of the table in `definitions.ts`. */
import type { OptionDefinition } from './definition.ts'
import { engines } from './engines.ts'
import { choice, duration, list, text, toggle, whole } from './kinds.ts'

/** How requests are changed on their way, and tokens captured. */
export const TRANSFORM_OPTIONS = {
  engine: {
    kind: engines,
    default: null,
    shown: 'none',
    group: 'capture',
    help: 'what the upstream is: it is asked for token ids and log-probs, which clients that did not ask do not see',
    why: 'others refuse fields they do not know, so nothing is asked of what is not declared; only while recording',
  },
  topLogprobs: {
    kind: whole(0, 20, '5'),
    default: '5',
    group: 'capture',
    help: 'alternatives per token that are asked for',
    why: '0 is the sampled token alone, which is all most trainers need, and a fifth of the bytes',
  },
  sglangStreams: {
    kind: choice(['logprobs', 'error'], 'logprobs'),
    default: 'logprobs',
    group: 'capture',
    help: 'chat streams of SGLang, which have no token ids: log-probs alone, or an error',
    why: 'an error where a trajectory without ids is of no use',
  },
  require: {
    kind: list(choice(['tokens'], 'tokens'), 'tokens', 'tokens'),
    default: null,
    shown: 'nothing',
    group: 'capture',
    help: 'flag records of chat and completions whose tokens are not all there',
    why: 'the flag is what exports and trainers go by',
  },
  modelOverride: {
    kind: text('model', 'qwen3'),
    default: null,
    shown: 'none',
    group: 'capture',
    help: 'ask for this model, whatever the client names',
    why: 'an agent that has its model built in; rules by model go by this one',
  },
  maxCompletionTokens: {
    kind: list(text('model', 'gpt-5*'), 'models, with * for any text', 'gpt-5*,o3*'),
    default: null,
    shown: 'none',
    group: 'capture',
    help: 'models that want max_tokens under the name max_completion_tokens; `known` is gpt-5*, o1*, o3*, o4*',
    why: 'goes by what stands behind the last / of the model',
  },
  maxTokensCap: {
    kind: whole(1, 1_000_000_000, '4096'),
    default: null,
    shown: 'none',
    group: 'capture',
    help: 'most tokens that a request may ask for',
    why: 'a request that names no limit is left without one',
  },
  disableThinking: {
    kind: toggle(),
    default: 'false',
    group: 'capture',
    help: 'set chat_template_kwargs.enable_thinking to false where the client does not say',
    why: 'for models that think unless they are told not to',
  },
  policyPollPath: {
    kind: text('path', '/get_weight_version'),
    default: null,
    shown: 'off',
    group: 'capture',
    help: 'path of the engine that tells the version of its weights; requests are stamped with it',
    why: 'where no trainer calls SetPolicyVersion: /get_weight_version of SGLang, /weight_info of vLLM',
  },
  policyPollInterval: {
    kind: duration('5s'),
    default: '1s',
    group: 'capture',
    help: 'how often it is asked',
    why: 'a version that changes in between is seen so much later',
  },
} as const satisfies Record<string, OptionDefinition>
