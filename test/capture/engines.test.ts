/**
 * Tokens are captured from vLLM, SGLang and OpenAI, streamed and whole: clients get, to the byte, what
 * they would have got without, and the record has every token.
 */
import OpenAI from 'openai'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { EngineName, Scenario } from '../../src/inference/scenario.ts'
import type { ExchangeRecord } from '../../src/rolltape.ts'
import { askFor, chat, eventsOf } from '../support/chat.ts'
import { startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const COMPLETIONS = '/v1/completions'

const TOOLS = ['get_weather', 'get_time'].map((name) => ({
  type: 'function',
  function: { name, parameters: { type: 'object' } },
}))

/** What clients ask for, and how the engine goes about it. */
const SITUATIONS: Record<string, [more: object, scenario?: Scenario]> = {
  plain: [{}],
  'several tokens an event': [{ stream_interval: 3 }],
  'two choices': [{ n: 2 }, { words: 5 }],
  'tool calls': [{ tools: TOOLS }, { tool_calls: 2 }],
  reasoning: [{}, { reasoning_words: 4 }],
  'all of it, cut anywhere': [
    { n: 2, tools: TOOLS, stream_interval: 2 },
    { tool_calls: 1, reasoning_words: 3, content: 'Grüße 東京', write_bytes: 97 },
  ],
  'usage asked for': [{ stream_options: { include_usage: true } }],
  'log-probs asked for': [{ logprobs: true }],
  'alternatives asked for': [{ logprobs: true, top_logprobs: 2 }],
  'log-probs asked for, with reasoning': [{ logprobs: true }, { reasoning_words: 3 }],
  'log-probs declined': [{ logprobs: false, top_logprobs: null }],
  'alternatives without log-probs': [{ top_logprobs: 3 }],
  'cut by length': [{ max_tokens: 4 }],
}

async function setUp(t: Test, engine: EngineName) {
  const upstream = await startInferenceServer({ engine })
  t.teardown(() => upstream.close())
  upstream.weightVersion = 'w-1'
  const recorder = await startRecorder(t, upstream.url, { engine })
  return { upstream, recorder, direct: upstream.url, through: recorder.url }
}

/** The ids and log-probs of each choice, as the engine gives them to somebody who asks for all. */
async function sampled(url: string, body: object, path: string) {
  const all = { logprobs: path === CHAT ? true : 1, return_token_ids: true }
  const whole = { ...body, ...all, stream: false, return_prompt_token_ids: true }
  const { text } = await askFor(url, whole, { path })
  const answer = JSON.parse(text) as {
    prompt_token_ids?: number[]
    choices: { token_ids: number[]; prompt_token_ids?: number[] }[]
  }
  return answer.choices.map(({ token_ids, prompt_token_ids }) => ({
    prompt_token_ids: prompt_token_ids ?? answer.prompt_token_ids,
    token_ids,
    aligned: true,
  }))
}

for (const engine of ['vllm', 'sglang', 'openai'] as const) {
  t.test(
    `O5 O13 O17 O20 O21: ${engine}: clients see no difference, the record has all`,
    async (t) => {
      const { direct, through, recorder } = await setUp(t, engine)
      const wanted: unknown[] = []
      for (const [name, [more, scenario]] of Object.entries(SITUATIONS)) {
        for (const stream of [false, true]) {
          for (const path of [CHAT, COMPLETIONS]) {
            if (path === COMPLETIONS && Object.hasOwn(more, 'logprobs')) continue
            const body = { ...chat(name, { ...more, stream }, scenario), prompt: name }
            const [without, captured] = [
              await askFor(direct, body, { path }),
              await askFor(through, body, { path }),
            ]
            t.strictSame(captured, without, `${name}, ${path}, stream ${stream}`)
            const hasIds = engine === 'vllm' || (engine === 'sglang' && !(stream && path === CHAT))
            // Refused by the engine, as it would be without capture.
            if (without.status === 400) continue
            wanted.push(hasIds ? await sampled(direct, body, path) : [{ token_ids: null }])
          }
        }
      }
      const all = await recorder.finish()
      const records = all.filter((record) => record.http_status !== 400)
      t.equal(all.length, records.length + 2, 'two were refused, whole and streamed')
      t.equal(records.length, wanted.length)
      for (const [i, { tokens, request, status, policy, http_status, path }] of records.entries()) {
        const what = JSON.stringify(request)
        t.match([status, http_status, tokens], ['success', 200, wanted[i]], what)
        t.ok(tokens!.every(({ logprobs }) => logprobs !== null))
        const { top_logprobs: top, stream } = request as { top_logprobs?: number; stream: boolean }
        t.equal(tokens![0]!.top_logprobs !== undefined, top === 2)
        t.equal(policy.engine, engine === 'sglang' && !stream ? 'w-1' : null, path)
      }
    },
  )
}

t.test('O10 O13: both bodies are on the tape, and the record says what was done', async (t) => {
  const { through, recorder, upstream } = await setUp(t, 'vllm')
  const body = '{"model" : "demo", "seed":1.0, "messages":[{"role":"user","content":"1e-05"}] }'
  await askFor(through, body, { headers: { 'Accept-Encoding': 'gzip' } })
  const sent = upstream.requests[0]!
  const put = ',"logprobs":true,"top_logprobs":5,"return_token_ids":true'
  t.equal(sent.body.toString(), `${body.slice(0, -2)}${put} }`)
  t.equal(sent.header('accept-encoding'), 'identity')
  t.equal(sent.header('content-length'), String(sent.body.length))
  const [record] = await recorder.finish()
  const exchange = recorder.taped(record!)
  t.equal(exchange.requestBody.toString(), body)
  t.equal(exchange.sent?.body?.toString(), sent.body.toString())
  t.match(Buffer.concat(exchange.chunks.map(({ bytes }) => bytes)).toString(), '"token_ids":[')
  t.notMatch(JSON.stringify(record?.response), 'token_ids')
  t.strictSame(record?.transforms, [
    {
      name: 'capture',
      version: 1,
      profile: 'vllm/1',
      changes: [
        { field: 'logprobs', to: true },
        { field: 'top_logprobs', to: 5 },
        { field: 'return_token_ids', to: true },
      ],
      headers: [{ field: 'accept-encoding', from: 'gzip', to: 'identity' }],
    },
    {
      name: 'strip',
      version: 2,
      removed: [
        'choices/*/logprobs',
        'prompt_token_ids',
        'choices/*/prompt_token_ids',
        'choices/*/token_ids',
      ],
    },
  ])
})

t.test('O13: a client that asks for everything gets everything, byte for byte', async (t) => {
  const { direct, through, recorder } = await setUp(t, 'vllm')
  const all = { logprobs: true, top_logprobs: 2, return_token_ids: true }
  const options = { stream_options: { include_usage: true } }
  for (const stream of [false, true]) {
    const body = chat('all', { ...all, ...(stream ? options : {}), stream, n: 2 })
    const [without, captured] = [await askFor(direct, body), await askFor(through, body)]
    t.strictSame(captured, without)
    t.match(captured.text, '"token_ids":[')
  }
  const records = await recorder.finish()
  t.ok(records.every(({ tokens }) => tokens?.every(({ aligned }) => aligned)))
  t.ok(records.every((record) => recorder.taped(record).sent?.body === undefined))
})

t.test('O5: the SDK streams and assembles as it does without capture', async (t) => {
  const { direct, through, recorder } = await setUp(t, 'vllm')
  const assembled = async (base: string): Promise<unknown> => {
    const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'none', maxRetries: 0 })
    const body = chat('sdk', { tools: TOOLS, n: 2 }, { tool_calls: 1, reasoning_words: 2 })
    const stream = openai.chat.completions.stream(body as never)
    const chunks: unknown[] = []
    for await (const chunk of stream) chunks.push(chunk)
    const whole = await openai.chat.completions.create(body as never)
    return { chunks, final: await stream.finalChatCompletion(), whole }
  }
  t.strictSame(await assembled(through), await assembled(direct))
  const [streamed, whole] = (await recorder.finish()) as [ExchangeRecord, ExchangeRecord]
  t.strictSame(streamed.tokens, whole.tokens)
  t.ok(streamed.tokens?.every(({ aligned }) => aligned))
})

t.test('O5: SGLang refuses ids in chat streams: log-probs alone, or an error', async (t) => {
  const upstream = await startInferenceServer({ engine: 'sglang' })
  t.teardown(() => upstream.close())
  const body = chat('x', { stream: true })
  t.equal((await askFor(upstream.url, { ...body, return_token_ids: true })).status, 400)
  const options = { engine: 'sglang', require: ['tokens'] } as const
  const [lenient, strict] = [
    await startRecorder(t, upstream.url, options),
    await startRecorder(t, upstream.url, { ...options, sglangStreams: 'error' }),
  ]
  t.equal((await askFor(lenient.url, body)).status, 200)
  const refused = await askFor(strict.url, body)
  t.match(
    [refused.status, JSON.parse(refused.text)],
    [400, { error: { code: 'capture_unavailable' } }],
  )
  t.equal((await askFor(strict.url, chat('x'))).status, 200, 'a whole answer has them')
  const [record] = await lenient.finish()
  const [first] = record!.tokens!
  t.match(first, { token_ids: null, aligned: false, off: { token_ids: 0 } })
  t.equal(first!.off!.usage, first!.logprobs!.length)
  t.strictSame(record!.flags, ['tokens_incomplete'])
  const [wrong, right] = await strict.finish()
  t.match(wrong, { outcome: 'refused', flags: [] })
  t.match(right, { outcome: 'complete', flags: [], tokens: [{ aligned: true }] })
})

t.test('O5: nothing is put in where no engine is declared, or nothing is recorded', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const body = chat('x', { stream: true })
  const engine = { [upstream.url]: 'none', default: 'vllm' } as const
  const recorder = await startRecorder(t, upstream.url, { engine })
  await askFor(recorder.url, body)
  const [record] = await recorder.finish()
  t.strictSame([record!.tokens, record!.transforms], [null, undefined])
  const passing = await startRecorder(t, upstream.url, { engine: 'vllm', mode: 'passthrough' })
  const seen = await askFor(passing.url, body)
  t.equal(eventsOf(seen.text).at(-1), '[DONE]')
  t.ok(upstream.requests.every((sent) => sent.body.toString() === JSON.stringify(body)))
})
