/**
 * What the micro benches run on: a stream and a request as servers and agents send them. The same
 * seed gives the same bytes, on every machine.
 */
import type { TapedExchange } from '../src/tape/exchange.ts'
import { seeded } from '../src/inference/seeded.ts'
import { SSE, taped } from '../test/trajectory/exchange.ts'

const SYLLABLES = ['ka', 'lo', 'mi', 'tu', 're', 'sa', 'né', 'go', 'pi', 'zu']

/** Words with a space behind each. */
export function words(count: number, random: () => number): string {
  const word = (): string =>
    Array.from({ length: 1 + Math.floor(random() * 3) }, () => {
      return SYLLABLES[Math.floor(random() * SYLLABLES.length)] ?? ''
    }).join('')
  return Array.from({ length: count }, () => `${word()} `).join('')
}

/** The chunks of a chat stream with token ids, an event each, usage and `[DONE]` at its end. */
export function streamChunks(events: number, seed: number): Buffer[] {
  const random = seeded(seed)
  const head = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'm' }
  const data = (event: object): Buffer => Buffer.from(`data: ${JSON.stringify(event)}\n\n`)
  const chunks = Array.from({ length: events }, (_, i) => {
    const delta = i === 0 ? { role: 'assistant', content: '' } : { content: words(1, random) }
    const token = Math.floor(random() * 150_000)
    const choice = { index: 0, delta, logprobs: null, finish_reason: null, token_ids: [token] }
    return data({ ...head, choices: [choice] })
  })
  const last = { index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }
  const usage = { prompt_tokens: 9, completion_tokens: events, total_tokens: events + 9 }
  chunks.push(data({ ...head, choices: [last] }), data({ ...head, choices: [], usage }))
  chunks.push(Buffer.from('data: [DONE]\n\n'))
  return chunks
}

/** An agent's request of at least so many bytes; the model stands at its end, where it costs most. */
export function chatRequest(bytes: number, seed: number): Buffer {
  const random = seeded(seed)
  const messages: { role: string; content: string }[] = []
  for (let have = 0; have < bytes; have += (messages.at(-1)?.content.length ?? 0) + 40) {
    const role = messages.length % 2 === 0 ? 'user' : 'assistant'
    messages.push({ role, content: words(60, random) })
  }
  return Buffer.from(JSON.stringify({ messages, stream: true, temperature: 0.7, model: 'm' }))
}

/** An exchange as it comes off the tape: that request, answered by that stream. */
export function tapedStream(request: Buffer, chunks: readonly Buffer[]): TapedExchange {
  return taped({ request, chunks, headers: SSE })
}
