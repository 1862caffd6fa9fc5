/**
 * How engines differ in what they take and in the shape of what they answer. The answers are made as
 * vLLM's; here they become SGLang's or OpenAI's.
 *
 * SGLang puts ids on the choice, refuses them in chat streams, gives each delta all its keys and tells
 * the version of its weights; OpenAI refuses fields it does not know, and log-probs of some models.
 */
import type { Generation } from './model.ts'
import type { EngineName, GenerationRequest } from './scenario.ts'

/** A request that is refused. */
export interface Refusal {
  readonly status: number
  readonly message: string
  readonly param: string | null
}

type Fields = Readonly<Record<string, unknown>>

/** Fields of ids that only engines with weights of one's own know. */
const ID_FIELDS = ['return_token_ids', 'return_prompt_token_ids', 'return_meta_info']
const OF_ENGINES = [...ID_FIELDS, 'chat_template_kwargs', 'return_tokens_as_token_ids']
const TOP_LOGPROBS_MAX = 20

/** Why this engine refuses these fields of a body; undefined when it does not. */
export function refusalOf(
  engine: EngineName,
  body: Fields,
  { isLegacy }: { readonly isLegacy: boolean },
): Refusal | undefined {
  const refuse = (message: string, param: string | null = null, status = 400): Refusal => ({
    status,
    message,
    param,
  })
  const top = body['top_logprobs']
  if (!isLegacy && typeof top === 'number' && top > TOP_LOGPROBS_MAX) {
    return refuse(`top_logprobs: ${top} is greater than ${TOP_LOGPROBS_MAX}`, 'top_logprobs')
  }
  if (!isLegacy && typeof top === 'number' && top > 0 && body['logprobs'] !== true) {
    return refuse('when using `top_logprobs`, `logprobs` must be set to true.', 'top_logprobs')
  }
  if (engine === 'sglang' && !isLegacy && body['stream'] === true) {
    const field = ID_FIELDS.find((name) => body[name] === true)
    return field === undefined ? undefined : refuse(`${field} is not supported with stream=true`)
  }
  if (engine !== 'openai') return undefined
  const unknown = OF_ENGINES.find((name) => Object.hasOwn(body, name))
  if (unknown !== undefined) return refuse(`Unrecognized request argument supplied: ${unknown}`)
  const asksLogprobs = body['logprobs'] !== undefined && body['logprobs'] !== null
  return asksLogprobs && String(body['model']).startsWith('secretive')
    ? refuse('You are not allowed to request logprobs from this model.', 'logprobs', 403)
    : undefined
}

/** A whole answer in the engine's own shape. */
export function wholeIn(answer: Fields, request: GenerationRequest, more: Told): Fields {
  if (request.engine !== 'sglang') return answer
  const { id, object, created, model, usage } = answer
  const choices = (answer['choices'] as Fields[]).map((choice, at) => {
    const { stop_reason: _stop, prompt_logprobs: _prompt, message, ...rest } = choice
    return {
      ...rest,
      ...(message === undefined ? {} : { message: withoutTwin(message as Fields) }),
      matched_stop: matchedStop(more.generation, at),
      ...sglangIds(request, more.generation, at),
    }
  })
  return {
    id,
    object,
    created,
    model,
    choices,
    usage: { ...(usage as Fields), reasoning_tokens: 0 },
    metadata: { weight_version: more.weightVersion },
  }
}

/** What shapes an answer beside what it says. */
export interface Told {
  readonly generation: Generation
  readonly weightVersion: string
}

/** An event of a stream in the engine's own shape. */
export function eventIn(event: Fields, { engine }: GenerationRequest): Fields {
  if (engine !== 'sglang') return event
  const choices = (event['choices'] as Fields[]).map(({ stop_reason: _stop, ...choice }) => {
    const delta = choice['delta'] as Fields | undefined
    if (delta === undefined) return { ...choice, matched_stop: null }
    const { role = null, content = null, reasoning_content = null, tool_calls = null } = delta
    return {
      ...choice,
      delta: { role, content, reasoning_content, tool_calls },
      matched_stop: null,
    }
  })
  return { ...event, choices, usage: event['usage'] ?? null }
}

function withoutTwin({ reasoning: _reasoning, ...message }: Fields): Fields {
  return message
}

function matchedStop({ choices }: Generation, at: number): number | null {
  const choice = choices[at]
  return choice?.finishReason === 'length' ? null : (choice?.tokens.at(-1)?.id ?? null)
}

function sglangIds(request: GenerationRequest, generation: Generation, at: number): Fields {
  const choice = generation.choices[at]
  const logprobs = choice?.tokens.map(({ logprob, id }) => [logprob, id, null])
  return {
    ...(request.returnPromptTokenIds && !request.isLegacy
      ? { prompt_token_ids: generation.promptTokenIds[choice?.prompt ?? 0] }
      : {}),
    ...(request.returnMetaInfo ? { meta_info: { output_token_logprobs: logprobs } } : {}),
  }
}
