/**
 * The seeded model behind the embedded inference server: a request becomes tokens with ids and
 * log-probs, always the same ones for the same request.
 *
 * Tokens are words with their blank in front, as byte-pair encodings make them; some hold umlauts,
 * CJK or emoji, since those are what recorders get wrong. How tokens travel is `chat.ts`'s and
 * `completions.ts`'s business.
 */
import { createHash } from 'node:crypto'

import type { GenerationRequest } from './scenario.ts'
import { seeded } from './seeded.ts'

/** What a token is part of; `control` tokens have ids and no visible text. */
export type TokenPart = 'reasoning' | 'content' | 'tool' | 'control'

/** A token with its log-prob. */
export interface ScoredToken {
  readonly text: string
  readonly id: number
  readonly logprob: number
}

/** One sampled token. */
export interface Token extends ScoredToken {
  readonly part: TokenPart
  /** Which tool call it belongs to, from 0; only with part `tool`. */
  readonly call: number
  /** Alternatives, best first, the sampled one included; as many as were asked for. */
  readonly top: readonly ScoredToken[]
}

/** A tool call; its arguments are the text of its tokens. */
export interface ToolCall {
  readonly id: string
  readonly name: string
}

/** One choice of an answer. */
export interface Choice {
  readonly index: number
  readonly prompt: number
  readonly tokens: readonly Token[]
  readonly calls: readonly ToolCall[]
  readonly finishReason: string
}

/** An answer before it is put on the wire. */
export interface Generation {
  /** Hex digits that ids are made of. */
  readonly id: string
  readonly promptTokenIds: readonly (readonly number[])[]
  readonly choices: readonly Choice[]
}

/** Log-prob that engines give for "not among what was sampled from". */
const LOGPROB_MIN = -9999

const END_OF_TURN = { text: '<|im_end|>', id: 151_645 }
const END_OF_THOUGHT = { text: '</think>', id: 151_668 }
const TOOL_CALL = { text: '<tool_call>', id: 151_657 }

const WORDS = (
  'the reward of each turn is kept as it came so a trajectory can be read back later with all ' +
  'tokens in place naïve façade Grüße 日本語 東京 😀 "quoted" back\\slash tab\there line\nbreak <b> & ' +
  'policy gradient step batch rollout agent tool answer check seven 42 3.14 end'
).split(' ')

/** Runs the model. */
export function generate(request: GenerationRequest): Generation {
  const { scenario, prompts, seed, model } = request
  const digest = createHash('sha256')
    .update(JSON.stringify([model, seed, prompts, scenario.content ?? null]))
    .digest()
  const choices: Choice[] = []
  for (const [prompt] of prompts.entries()) {
    for (let copy = 0; copy < Math.max(1, request.n); copy += 1) {
      const index = choices.length
      const random = seeded(digest.readUInt32LE(0) + index * 0x9e3779b9)
      choices.push(sample(request, { index, prompt, random }))
    }
  }
  return {
    id: digest.toString('hex', 0, 16),
    promptTokenIds: prompts.map((prompt) => tokenize(prompt).map(tokenId)),
    choices,
  }
}

/** Splits text into tokens: words with the blank before them. */
export function tokenize(text: string): string[] {
  return text.match(/ ?[^ ]+| /g) ?? []
}

/** A stable id for a token's text, in the range of a real vocabulary. */
export function tokenId(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32LE(0) % 151_000
}

interface Draw {
  readonly index: number
  readonly prompt: number
  readonly random: () => number
}

function sample(request: GenerationRequest, { index, prompt, random }: Draw): Choice {
  const { scenario, maxTokens } = request
  const tokens: Token[] = []
  const score = (text: string, id: number): ScoredToken => ({ text, id, logprob: logprob(random) })
  const push = (part: TokenPart, text: string, id = tokenId(text), call = 0) => {
    const sampled = score(text, id)
    tokens.push({ ...sampled, part, call, top: alternatives(sampled, request) })
  }
  const reasoning = scenario.reasoning_words ?? 0
  if (reasoning > 0) {
    for (const text of words(reasoning, random)) push('reasoning', text)
    push('control', END_OF_THOUGHT.text, END_OF_THOUGHT.id)
  }
  const callCount = scenario.tool_calls ?? 0
  if (callCount === 0 || scenario.content !== undefined) {
    const content =
      scenario.content === undefined
        ? words(scenario.words ?? 12, random)
        : tokenize(scenario.content)
    for (const text of content) push('content', text)
  }
  const calls: ToolCall[] = []
  for (let call = 0; call < callCount; call += 1) {
    const name = request.toolNames[call % Math.max(1, request.toolNames.length)] ?? 'get_weather'
    calls.push({ id: `call_${hex(random)}${hex(random)}`, name })
    push('control', TOOL_CALL.text, TOOL_CALL.id, call)
    for (const text of splitArguments(random)) push('tool', text, undefined, call)
  }
  const cut = maxTokens !== undefined && tokens.length >= maxTokens
  if (cut) tokens.length = maxTokens
  else push('control', END_OF_TURN.text, END_OF_TURN.id)
  const finishReason =
    scenario.finish ?? (cut ? 'length' : calls.length > 0 ? 'tool_calls' : 'stop')
  return { index, prompt, tokens, calls, finishReason }
}

function words(count: number, random: () => number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const word = WORDS[Math.floor(random() * WORDS.length)] ?? ''
    return index === 0 ? word : ` ${word}`
  })
}

/** Arguments as a model writes them: JSON, in pieces that end anywhere. */
function splitArguments(random: () => number): string[] {
  const city = ['Tōkyō', 'Zürich', 'São Paulo', 'Kraków'][Math.floor(random() * 4)] ?? ''
  const days = 1 + Math.floor(random() * 9)
  const text = JSON.stringify({ city, days, note: 'a "quoted"\nline', exact: random() })
  return text.match(/.{1,7}/gsu) ?? []
}

/** What is sampled does not hang on how many alternatives are asked for. */
function alternatives(sampled: ScoredToken, { topLogprobs }: GenerationRequest): ScoredToken[] {
  if (topLogprobs === undefined || topLogprobs === 0) return []
  const random = seeded(sampled.id)
  const others = Array.from({ length: topLogprobs - 1 }, (_, rank) => {
    const text = ` ${WORDS[Math.floor(random() * WORDS.length)] ?? ''}`
    const last = rank === topLogprobs - 2
    return { text, id: tokenId(text), logprob: last ? LOGPROB_MIN : sampled.logprob - 1 - rank }
  })
  return [sampled, ...others]
}

/** Mostly small, at times exactly 0 or very small: where number formats go wrong. */
function logprob(random: () => number): number {
  const draw = random()
  if (draw < 0.1) return 0
  if (draw < 0.2) return -draw * 1e-6
  return -Math.round(draw * 1e6) / 1e6
}

function hex(random: () => number): string {
  return Math.floor(random() * 0x1_0000_0000)
    .toString(16)
    .padStart(8, '0')
}
