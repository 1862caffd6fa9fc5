/**
 * A small engine whose prompts are real token sequences: its template puts each message between
 * control tokens, so a prompt that repeats an answer begins with the very ids that were sampled.
 * It speaks as vLLM does (WIRE: `return_token_ids`), streamed and whole.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'

/** What the engine says to a request. */
export interface Said {
  readonly content: string
  /** Name and arguments of a call to a tool, behind the content. */
  readonly call?: readonly [name: string, args: string]
  /** An error status in place of an answer. */
  readonly status?: number
  /** Fall silent after so many tokens of a stream, until the client leaves. */
  readonly silentAfter?: number
}

interface Message {
  readonly role: string
  readonly content?: string | null
  readonly tool_calls?: {
    readonly function: { readonly name: string; readonly arguments: string }
  }[]
}

/** A request, as far as the engine reads it. */
export interface Asked {
  readonly user?: string
  readonly messages: readonly Message[]
  readonly stream?: boolean
}

/** A running engine. */
export interface TokenEngine {
  readonly url: string
  /** Tokens that it has sent. */
  readonly sampled: number
}

const [IM_START, IM_END, NEW_LINE] = [1, 2, 3]

/** Starts an engine that answers as `say` wants; it ends with the test. */
export async function startTokenEngine(
  t: Test,
  say: (asked: Asked) => Said | Promise<Said>,
): Promise<TokenEngine> {
  const engine = { url: '', sampled: 0 }
  const ids = new Map<string, number>()
  const encode = (words: string): number[] =>
    (words.match(/ ?[^ ]+| /g) ?? []).map((word) => {
      if (!ids.has(word)) ids.set(word, 10 + ids.size)
      return ids.get(word)!
    })
  const render = ({ role, content, tool_calls: calls }: Message): number[] => {
    const told = (calls ?? []).map(({ function: { name, arguments: args } }) =>
      callText(name, args),
    )
    const body = encode([content ?? '', ...told].join(''))
    return [IM_START!, ...encode(role), NEW_LINE!, ...body, IM_END!, NEW_LINE!]
  }
  const server = createServer((request, response) => {
    void text(request).then(async (body) => {
      const asked = JSON.parse(body) as Asked
      const said = await say(asked)
      if (said.status !== undefined) {
        response.writeHead(said.status, { 'content-type': 'application/json' })
        return response.end(`{"error":{"message":"no","code":${said.status}}}`)
      }
      const opening = [IM_START!, ...encode('assistant'), NEW_LINE!]
      const prompt = [...asked.messages.flatMap(render), ...opening]
      const spoken = said.content + (said.call === undefined ? '' : callText(...said.call))
      const tokens = [...encode(spoken), IM_END!]
      return asked.stream === true
        ? stream(response, said, prompt, tokens)
        : whole(response, said, prompt, tokens)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  engine.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return engine

  function whole(response: ServerResponse, said: Said, prompt: number[], tokens: number[]): void {
    engine.sampled += tokens.length
    const message = { role: 'assistant', content: said.content, tool_calls: callsOf(said) }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(
      JSON.stringify({
        ...ROOT,
        object: 'chat.completion',
        prompt_token_ids: prompt,
        choices: [
          {
            index: 0,
            message,
            logprobs: { content: tokens.map(logprobOf) },
            finish_reason: said.call === undefined ? 'stop' : 'tool_calls',
            token_ids: tokens,
          },
        ],
        usage: usageOf(prompt, tokens),
      }),
    )
  }

  async function stream(
    response: ServerResponse,
    said: Said,
    prompt: number[],
    tokens: number[],
  ): Promise<void> {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const send = (chunk: object) =>
      response.write(`data: ${JSON.stringify({ ...ROOT, ...chunk })}\n\n`)
    send({ prompt_token_ids: prompt, choices: [{ index: 0, delta: { role: 'assistant' } }] })
    const words = said.content.match(/ ?[^ ]+| /g) ?? []
    for (const [at, id] of tokens.entries()) {
      if (at === said.silentAfter) return void (await once(response, 'close'))
      engine.sampled++
      const isLast = at === tokens.length - 1
      const calls = callsOf(said).map((call, index) => ({ ...call, index }))
      const opens = at === words.length && calls.length > 0
      const delta = opens ? { tool_calls: calls } : words[at] ? { content: words[at] } : {}
      const reason = said.call === undefined ? 'stop' : 'tool_calls'
      const choice = { index: 0, delta, finish_reason: isLast ? reason : null, token_ids: [id] }
      send({ choices: [{ ...choice, logprobs: { content: [logprobOf(id)] } }] })
    }
    send({ choices: [], usage: usageOf(prompt, tokens) })
    response.end('data: [DONE]\n\n')
  }
}

const ROOT = { id: 'chatcmpl-1', created: 1_760_000_000, model: 'demo' }

function logprobOf(id: number): object {
  return { token: `t${id}`, logprob: -id / 128, bytes: null, top_logprobs: [] }
}

function usageOf(prompt: number[], tokens: number[]): object {
  const [prompt_tokens, completion_tokens] = [prompt.length, tokens.length]
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

function callText(name: string, args: string): string {
  return ` <tool_call> ${name} ${args}`
}

function callsOf({ call }: Said): object[] {
  if (call === undefined) return []
  return [{ id: 'call_1', type: 'function', function: { name: call[0], arguments: call[1] } }]
}
