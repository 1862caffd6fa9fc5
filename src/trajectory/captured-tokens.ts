/**
 * What a record tells of captured tokens: those of the answer as it came, whatever of it the client
 * got, and whether they are all there.
 */
import type { TapedExchange } from '../tape/exchange.ts'
import type { Transform } from '../transforms/transform.ts'
import type { JsonObject } from '../wire/json.ts'
import type { ClientSide } from './client-side.ts'
import type { ChoiceTokens, Protocol } from './record.ts'

/** The tokens as a record has them: alternatives only where the client asked for some. */
export function recordedTokens(
  tokens: readonly ChoiceTokens[] | null,
  request: JsonObject,
): readonly ChoiceTokens[] | null {
  if (tokens === null || asksAlternatives(request)) return tokens
  return tokens.map(({ top_logprobs: _top, ...rest }) => rest)
}

/** Chat asks with two fields, completions with one number. */
function asksAlternatives({ logprobs, top_logprobs: top }: JsonObject): boolean {
  if (typeof logprobs === 'number') return logprobs > 0
  return logprobs === true && typeof top === 'number' && top > 0
}

/** Whether tokens are required of this exchange and are not all there. */
export function lacksTokens(
  { begin, head }: TapedExchange,
  protocol: Protocol,
  tokens: readonly ChoiceTokens[] | null,
): boolean {
  const isCaptured = protocol === 'openai.chat' || protocol === 'openai.completions'
  if (begin.requiresTokens !== true || !isCaptured) return false
  if (head === undefined || head.own || head.status >= 400) return false
  return tokens === null || tokens.length === 0 || tokens.some(({ aligned }) => !aligned)
}

/** What was done to the request and to the answer; of the answer, what of it was left alone. */
export function transformsOf(
  { sent, head }: TapedExchange,
  { skipped, isStripped }: Pick<ClientSide, 'skipped' | 'isStripped'>,
): readonly Transform[] | undefined {
  if (sent?.strip === undefined || head === undefined || head.own) return sent?.transforms
  const { version, rules, dropsUsage } = sent.strip
  const removed = [...rules.map(({ path }) => path), ...(dropsUsage ? ['usage'] : [])]
  const done = skipped === null || isStripped ? { removed } : {}
  const left = skipped === null ? {} : { skipped }
  return [...sent.transforms, { name: 'strip', version, ...done, ...left }]
}
