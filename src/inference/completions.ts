/**
 * `/v1/completions` as vLLM answers it: several prompts, `n` choices each, ids per choice, and
 * log-probs in the legacy shape. Pure, like `chat.ts`.
 */
import { CREATED_AT, interleave, runsOf, usageOf } from './chat.ts'
import { float, optional } from './encode.ts'
import type { Choice, Generation, ScoredToken, Token } from './model.ts'
import type { GenerationRequest } from './scenario.ts'

/** The body of a unary answer. */
export function completionsBody(
  request: GenerationRequest,
  generation: Generation,
): Readonly<Record<string, unknown>> {
  return {
    id: `cmpl-${generation.id}`,
    object: 'text_completion',
    created: CREATED_AT,
    model: request.model,
    choices: generation.choices.map((choice) => ({
      index: choice.index,
      text: textOf(choice.tokens),
      logprobs: logprobsOf(choice.tokens, 0, request),
      finish_reason: choice.finishReason,
      stop_reason: null,
      ...optional(request.returnTokenIds, 'token_ids', () => choice.tokens.map(({ id }) => id)),
      prompt_logprobs: null,
      ...promptIds(request, generation, choice),
    })),
    service_tier: null,
    system_fingerprint: null,
    usage: usageOf(generation),
    kv_transfer_params: null,
  }
}

/** The events of a streamed answer; `[DONE]` is the server's to send. */
export function* completionsEvents(
  request: GenerationRequest,
  generation: Generation,
): Generator<Readonly<Record<string, unknown>>> {
  const root = {
    id: `cmpl-${generation.id}`,
    object: 'text_completion',
    created: CREATED_AT,
    model: request.model,
  }
  const sources = generation.choices.map((each) => choiceEvents(request, generation, each))
  for (const choice of interleave(sources)) yield { ...root, choices: [choice] }
  if (request.includeUsage) yield { ...root, choices: [], usage: usageOf(generation) }
}

function* choiceEvents(
  request: GenerationRequest,
  generation: Generation,
  choice: Choice,
): Generator<unknown> {
  const runs = [...runsOf(choice.tokens, request.streamInterval)]
  let offset = 0
  for (const [position, run] of runs.entries()) {
    const last = position === runs.length - 1
    yield {
      index: choice.index,
      text: textOf(run),
      logprobs: logprobsOf(run, offset, request),
      finish_reason: last ? choice.finishReason : null,
      stop_reason: null,
      ...optional(request.returnTokenIds, 'token_ids', () => run.map(({ id }) => id)),
      ...(position === 0 ? promptIds(request, generation, choice) : {}),
    }
    offset += textOf(run).length
  }
}

function promptIds(request: GenerationRequest, generation: Generation, choice: Choice) {
  return optional(
    request.returnPromptTokenIds,
    'prompt_token_ids',
    () => generation.promptTokenIds[choice.prompt],
  )
}

function textOf(tokens: readonly Token[]): string {
  return tokens
    .filter(({ part }) => part !== 'control')
    .map(({ text }) => text)
    .join('')
}

function logprobsOf(tokens: readonly Token[], start: number, request: GenerationRequest): unknown {
  if (request.topLogprobs === undefined) return null
  const shown = ({ id, text }: ScoredToken) => (request.tokensAsTokenIds ? `token_id:${id}` : text)
  let offset = start
  return {
    text_offset: tokens.map((token) => {
      const at = offset
      offset += textOf([token]).length
      return at
    }),
    token_logprobs: tokens.map(({ logprob }) => float(logprob)),
    tokens: tokens.map(shown),
    top_logprobs: tokens.map((token) =>
      Object.fromEntries(
        (token.top.length === 0 ? [token] : token.top).map((each) => [
          shown(each),
          float(each.logprob),
        ]),
      ),
    ),
  }
}
