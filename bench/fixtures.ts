/**
 * What the micro benches run on: a stream and a request as servers and agents send them. The same
 * seed gives the same bytes, on every machine.
 */
import type { TapedExchange } from '../src/tape/exchange.ts'

/** A generator of numbers below 1 (mulberry32): small, even enough, and the same everywhere. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

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
export function tapedStream(requestBody: Buffer, chunks: readonly Buffer[]): TapedExchange {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  const position = { segment: '0-000001.tape', offset: 64 }
  return {
    position,
    begin: {
      id: 'r-1',
      seq: 1,
      session: 's',
      turn: 1,
      run: 'default',
      tags: {},
      method: 'POST',
      target: '/v1/chat/completions',
      forwardedTarget: '/v1/chat/completions',
      upstream: 'http://127.0.0.1:8000',
      httpVersion: '1.1',
      headers: [['content-type', 'application/json']],
      arrivedAtUs: 1_760_000_000_000_000,
      mode: 'record',
      generation: 1,
      policyVersion: '',
    },
    requestBody,
    attempts: [],
    interim: [],
    head: {
      status: 200,
      reason: 'OK',
      headers: [['content-type', 'text/event-stream']],
      atUs: 5_000,
      own: false,
    },
    chunks: chunks.map((chunk, i) => ({ bytes: chunk, atUs: 6_000 + i * 20_000 })),
    trailers: [],
    gaps: [],
    end: {
      cause: 'upstream_end',
      bytesReceived: bytes,
      bytesForwarded: bytes,
      atUs: 6_000 + chunks.length * 20_000,
      part: 1,
      code: '',
      message: '',
    },
  }
}
