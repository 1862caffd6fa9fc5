/**
 * `/v1/chat/completions` as vLLM answers it: unary, and as SSE events in the order in which they
 * are sent. Pure: a generation in, texts out.
 *
 * With `return_token_ids` the role chunk carries the root `prompt_token_ids` and no `token_ids`;
 * every later chunk carries its own ids, and control tokens come in chunks with an empty delta.
 */
import { float, optional } from './encode.ts'
import type { Choice, Generation, ScoredToken, Token } from './model.ts'
import type { GenerationRequest } from './scenario.ts'

/** When every answer says that it was made; fixed, so that answers are the same on every run. */
export const CREATED_AT = 1_760_000_000

/** Token counts of an answer as the engine reports them. */
export function usageOf(generation: Generation): Readonly<Record<string, unknown>> {
  const prompt = generation.promptTokenIds.reduce((sum, ids) => sum + ids.length, 0)
  const completion = generation.choices.reduce((sum, { tokens }) => sum + tokens.length, 0)
  return {
    prompt_tokens: prompt,
    total_tokens: prompt + completion,
    completion_tokens: completion,
    prompt_tokens_details: null,
  }
}

/** The body of a unary answer. */
export function chatBody(
  request: GenerationRequest,
  generation: Generation,
): Readonly<Record<string, unknown>> {
  return {
    id: `chatcmpl-${generation.id}`,
    object: 'chat.completion',
    created: CREATED_AT,
    model: request.model,
    choices: generation.choices.map((choice) => ({
      index: choice.index,
      message: messageOf(choice),
      logprobs: logprobsOf(choice.tokens, request),
      finish_reason: choice.finishReason,
      stop_reason: null,
      ...optional(request.returnTokenIds, 'token_ids', () => choice.tokens.map(({ id }) => id)),
    })),
    service_tier: null,
    system_fingerprint: null,
    usage: usageOf(generation),
    prompt_logprobs: null,
    ...optional(request.returnTokenIds, 'prompt_token_ids', () => generation.promptTokenIds[0]),
    kv_transfer_params: null,
  }
}

/** The events of a streamed answer; `[DONE]` is the server's to send. */
export function* chatEvents(
  request: GenerationRequest,
  generation: Generation,
): Generator<Readonly<Record<string, unknown>>> {
  const root = {
    id: `chatcmpl-${generation.id}`,
    object: 'chat.completion.chunk',
    created: CREATED_AT,
    model: request.model,
  }
  for (const { index } of generation.choices) {
    const delta = { role: 'assistant', content: '' }
    yield {
      ...root,
      choices: [{ index, delta, logprobs: null, finish_reason: null }],
      ...optional(request.returnTokenIds, 'prompt_token_ids', () => generation.promptTokenIds[0]),
    }
  }
  for (const choice of interleave(generation.choices.map((each) => choiceEvents(request, each)))) {
    yield { ...root, choices: [choice] }
  }
  if (request.includeUsage) yield { ...root, choices: [], usage: usageOf(generation) }
}

/** Takes one item of each in turn until all are empty: how choices share a stream. */
export function* interleave<T>(sources: Iterator<T>[]): Generator<T> {
  let left = sources
  while (left.length > 0) {
    const going: Iterator<T>[] = []
    for (const source of left) {
      const item = source.next()
      if (item.done === true) continue
      going.push(source)
      yield item.value
    }
    left = going
  }
}

/** Runs of tokens that travel in one chunk: of one part, at most `interval` long. */
export function* runsOf(tokens: readonly Token[], interval: number): Generator<readonly Token[]> {
  let run: Token[] = []
  for (const token of tokens) {
    const [first] = run
    const fits = first === undefined || (first.part === token.part && first.call === token.call)
    if (!fits || run.length >= Math.max(1, interval)) {
      yield run
      run = []
    }
    run.push(token)
  }
  if (run.length > 0) yield run
}

function* choiceEvents(request: GenerationRequest, choice: Choice): Generator<unknown> {
  const ids = (run: readonly Token[]) =>
    optional(request.returnTokenIds, 'token_ids', () => run.map(({ id }) => id))
  const last = choice.tokens.at(-1)
  const ending = last?.part === 'control' ? [last] : []
  const body = ending.length === 0 ? choice.tokens : choice.tokens.slice(0, -1)
  const opened = new Set<number>()
  for (const run of runsOf(body, request.streamInterval)) {
    const [first] = run
    if (first === undefined) continue
    // An empty delta is sent only for the sake of its ids.
    const silent = first.part === 'control' && first.text !== '<tool_call>'
    if (silent && !request.returnTokenIds) continue
    yield {
      index: choice.index,
      delta: deltaOf(choice, run, opened),
      logprobs: logprobsOf(run, request),
      finish_reason: null,
      ...ids(run),
    }
  }
  yield {
    index: choice.index,
    delta: {},
    logprobs: ending.length === 0 ? null : logprobsOf(ending, request),
    finish_reason: choice.finishReason,
    stop_reason: null,
    ...ids(ending),
  }
}

function deltaOf(choice: Choice, run: readonly Token[], opened: Set<number>): unknown {
  const text = run.map((token) => token.text).join('')
  const [first] = run
  if (first === undefined) return {}
  switch (first.part) {
    case 'content':
      return { content: text }
    case 'reasoning':
      return { reasoning: text, reasoning_content: text }
    case 'tool':
      return { tool_calls: [{ index: first.call, function: { arguments: text } }] }
    case 'control': {
      const call = choice.calls[first.call]
      if (first.text !== '<tool_call>' || call === undefined || opened.has(first.call)) return {}
      opened.add(first.call)
      const opening = { name: call.name, arguments: '' }
      const head = { index: first.call, id: call.id, type: 'function', function: opening }
      return { tool_calls: [head] }
    }
  }
}

function messageOf(choice: Choice): unknown {
  const textOf = (part: Token['part'], call = 0) =>
    choice.tokens
      .filter((token) => token.part === part && token.call === call)
      .map(({ text }) => text)
      .join('')
  const reasoning = choice.tokens.some(({ part }) => part === 'reasoning')
    ? textOf('reasoning')
    : null
  const hasContent = choice.tokens.some(({ part }) => part === 'content')
  return {
    role: 'assistant',
    content: hasContent || choice.calls.length === 0 ? textOf('content') : null,
    refusal: null,
    annotations: null,
    audio: null,
    function_call: null,
    tool_calls: choice.calls.map(({ id, name }, call) => ({
      id,
      type: 'function',
      function: { name, arguments: textOf('tool', call) },
    })),
    reasoning,
    reasoning_content: reasoning,
  }
}

function logprobsOf(tokens: readonly Token[], request: GenerationRequest): unknown {
  if (request.topLogprobs === undefined) return null
  const shown = (token: ScoredToken) => ({
    token: request.tokensAsTokenIds ? `token_id:${token.id}` : token.text,
    logprob: float(token.logprob),
    bytes: [...Buffer.from(token.text)],
  })
  return {
    content: tokens.map((token) => ({ ...shown(token), top_logprobs: token.top.map(shown) })),
  }
}
