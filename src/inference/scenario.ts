/**
 * What a request may ask of the embedded inference server beyond the protocol: the top-level body
 * key `scenario`. Real engines refuse or ignore it; here it picks the course of one answer.
 *
 * Counts of events are SSE events as sent, the role chunk included.
 */

import { refusalOf } from './dialect.ts'
import type { Refusal } from './dialect.ts'

/** Course of one answer; everything may be left out. Times are ms. */
export interface Scenario {
  /** Exact text of the answer, in place of a seeded one. */
  readonly content?: string
  /** Words of a seeded answer; default 12. */
  readonly words?: number
  /** Words of reasoning before the answer; default 0: none. */
  readonly reasoning_words?: number
  /** Tool calls in parallel; default 0: none. Names come from the request's `tools`. */
  readonly tool_calls?: number
  /** Default `tool_calls` with tool calls, `length` when `max_tokens` cuts, else `stop`. */
  readonly finish?: 'stop' | 'length' | 'tool_calls' | 'content_filter'
  /** Answer with this error status in place of an answer, e.g. 429 or 500. */
  readonly status?: number
  /** With `status`: only the first so many requests of this `key` fail; default all. */
  readonly fail_times?: number
  /** Groups requests for `fail_times`; default: the whole body. */
  readonly key?: string
  /** `Retry-After` of an error, in seconds; default 1 with 429, else none. */
  readonly retry_after?: number
  /** Destroy the socket after so many events (stream) or in the middle of the body (unary). */
  readonly cut_after?: number
  /** Send an error event after so many events, then `[DONE]` unless `no_mark`. */
  readonly error_after?: number
  /** End the stream without `[DONE]`. */
  readonly no_mark?: boolean
  /** Fall silent after so many events, for ever. */
  readonly stall_after?: number
  /** Wait before the response head. */
  readonly first_byte_ms?: number
  /** Wait between two events; default: the server's pace. */
  readonly pace_ms?: number
  /** Send a stream in pieces of so many bytes, whatever they cut. */
  readonly write_bytes?: number
}

/** Engines that the server can be. */
export type EngineName = 'vllm' | 'sglang' | 'openai'

/** The parts of a request body that the server reads; both chat and legacy completions. */
export interface GenerationRequest {
  readonly model: string
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly n: number
  readonly seed: number
  readonly maxTokens: number | undefined
  readonly engine: EngineName
  /** `/v1/completions`. */
  readonly isLegacy: boolean
  readonly returnTokenIds: boolean
  /** vLLM gives them together with the others. */
  readonly returnPromptTokenIds: boolean
  readonly returnMetaInfo: boolean
  readonly tokensAsTokenIds: boolean
  /** Undefined: no log-probs; 0: of the sampled token only. */
  readonly topLogprobs: number | undefined
  /** Tokens per chunk of a stream, from 1. */
  readonly streamInterval: number
  readonly toolNames: readonly string[]
  /** Texts that the prompt is made of; for legacy completions one per prompt. */
  readonly prompts: readonly string[]
  readonly scenario: Scenario
}

type Json = Readonly<Record<string, unknown>>

/** Reads a body; a string says what is wrong with it, a refusal what this engine has against it. */
export function parseGenerationRequest(
  body: Buffer,
  legacy: boolean,
  engine: EngineName = 'vllm',
): GenerationRequest | Refusal | string {
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString('utf8'))
  } catch {
    return 'the body is not JSON'
  }
  if (!isObject(parsed)) return 'the body is not a JSON object'
  if (typeof parsed['model'] !== 'string') return 'model: a text is required'
  const prompts = legacy ? promptsOf(parsed['prompt']) : messagesOf(parsed['messages'])
  if (prompts === undefined) return `${legacy ? 'prompt' : 'messages'}: a value is required`
  const refusal = refusalOf(engine, parsed, { isLegacy: legacy })
  if (refusal !== undefined) return refusal
  const streamOptions = parsed['stream_options']
  const isSglang = engine === 'sglang'
  return {
    engine,
    isLegacy: legacy,
    model: parsed['model'],
    stream: parsed['stream'] === true,
    includeUsage: isObject(streamOptions) && streamOptions['include_usage'] === true,
    n: wholeOf(parsed['n'], 1),
    seed: wholeOf(parsed['seed'], 0),
    maxTokens: maxTokensOf(parsed),
    returnTokenIds: parsed['return_token_ids'] === true,
    returnPromptTokenIds:
      parsed[isSglang ? 'return_prompt_token_ids' : 'return_token_ids'] === true,
    returnMetaInfo: isSglang && parsed['return_meta_info'] === true,
    tokensAsTokenIds: parsed['return_tokens_as_token_ids'] === true,
    topLogprobs: topLogprobsOf(parsed, legacy),
    streamInterval: wholeOf(parsed['stream_interval'], 1),
    toolNames: toolNamesOf(parsed['tools']),
    prompts,
    scenario: isObject(parsed['scenario']) ? (parsed['scenario'] as Scenario) : {},
  }
}

function maxTokensOf(body: Json): number | undefined {
  const given = body['max_completion_tokens'] ?? body['max_tokens']
  return typeof given === 'number' ? given : undefined
}

function topLogprobsOf(body: Json, legacy: boolean): number | undefined {
  const logprobs = body['logprobs']
  if (legacy) return typeof logprobs === 'number' ? logprobs : undefined
  return logprobs === true ? wholeOf(body['top_logprobs'], 0) : undefined
}

function promptsOf(prompt: unknown): string[] | undefined {
  if (typeof prompt === 'string') return [prompt]
  if (!Array.isArray(prompt) || prompt.length === 0) return undefined
  return typeof prompt[0] === 'number'
    ? [prompt.join(' ')]
    : prompt.map((entry: unknown) => (Array.isArray(entry) ? entry.join(' ') : String(entry)))
}

/** All messages as one prompt text; roles stand for the template's control tokens. */
function messagesOf(messages: unknown): string[] | undefined {
  if (!Array.isArray(messages) || messages.length === 0) return undefined
  return [
    messages
      .filter(isObject)
      .map((message) => `<|${String(message['role'])}|> ${textOf(message['content'])}`)
      .join(' '),
  ]
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  return content === null || content === undefined ? '' : JSON.stringify(content)
}

function toolNamesOf(tools: unknown): string[] {
  if (!Array.isArray(tools)) return []
  return tools
    .filter(isObject)
    .map((tool) => tool['function'])
    .filter(isObject)
    .map((definition) => String(definition['name']))
}

function wholeOf(value: unknown, fallback: number): number {
  return Number.isSafeInteger(value) && Number(value) >= 0 ? Number(value) : fallback
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
