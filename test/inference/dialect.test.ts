/** The embedded server as SGLang and as OpenAI: what they take and refuse, and the shape of answers. */
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { EngineName } from '../../src/inference/scenario.ts'
import { askFor, chat, eventsOf } from '../support/chat.ts'

const LEGACY = { path: '/v1/completions' }
const IDS = { return_token_ids: true, return_prompt_token_ids: true, return_meta_info: true }

async function serve(t: Test, engine: EngineName) {
  const server = await startInferenceServer({ engine })
  t.teardown(() => server.close())
  server.weightVersion = 'w-2'
  return server.url
}

type Answer = { choices: Record<string, unknown>[] } & Record<string, unknown>

t.test(
  'SGLang: ids and meta_info on the choice, the version of the weights at the root',
  async (t) => {
    const url = await serve(t, 'sglang')
    const { text } = await askFor(url, chat('x', IDS, { reasoning_words: 2 }))
    const { choices, metadata, ...root } = JSON.parse(text) as Answer
    const [choice] = choices
    const ids = choice!['token_ids'] as number[]
    t.strictSame(metadata, { weight_version: 'w-2' })
    t.notOk('prompt_token_ids' in root)
    t.match(choice, { prompt_token_ids: [Number], matched_stop: ids.at(-1), logprobs: null })
    const meta = choice!['meta_info'] as { output_token_logprobs: [number, number, null][] }
    t.strictSame(
      meta.output_token_logprobs.map(([, id]) => id),
      ids,
    )
    const message = choice!['message'] as object
    t.ok('reasoning_content' in message && !('reasoning' in message))
  },
)

t.test('SGLang: ids are refused in chat streams, and come in streams of completions', async (t) => {
  const url = await serve(t, 'sglang')
  for (const field of Object.keys(IDS)) {
    const refused = await askFor(url, chat('x', { stream: true, [field]: true }))
    t.match([refused.status, refused.text], [400, new RegExp(`${field} is not supported`)])
  }
  const stream = { model: 'm', prompt: 'x', stream: true, ...IDS }
  const events = eventsOf((await askFor(url, stream, LEGACY)).text) as Answer[]
  t.match(events[0]!.choices, [{ token_ids: [Number], prompt_token_ids: [Number] }])
  const silent = chat('x', { stream: true, logprobs: true }, { reasoning_words: 1 })
  const deltas = (eventsOf((await askFor(url, silent)).text).slice(0, -1) as Answer[]).map(
    ({ choices }) => choices[0]!,
  )
  const keys = ['role', 'content', 'reasoning_content', 'tool_calls']
  t.ok(deltas.every(({ delta }) => Object.keys(delta as object).join() === keys.join()))
})

t.test('OpenAI: unknown fields are refused, and log-probs of some models', async (t) => {
  const url = await serve(t, 'openai')
  const cases: [more: object, status: number, text: RegExp][] = [
    [{ return_token_ids: true }, 400, /Unrecognized request argument supplied: return_token_ids/],
    [{ model: 'secretive', logprobs: true }, 403, /not allowed to request logprobs/],
    [{ model: 'secretive' }, 200, /"logprobs":null/],
    [{ logprobs: true, top_logprobs: 21 }, 400, /top_logprobs: 21/],
    [{ top_logprobs: 1 }, 400, /`logprobs` must be set/],
    [{ logprobs: true, top_logprobs: 1 }, 200, /"top_logprobs":\[\{/],
  ]
  for (const [more, status, text] of cases) {
    const got = await askFor(url, { ...chat('x'), ...more })
    t.match([got.status, got.text], [status, text])
  }
})

t.test('what is sampled does not hang on what is told of it', async (t) => {
  const url = await serve(t, 'vllm')
  const texts = await Promise.all(
    [{}, { logprobs: true }, { logprobs: true, top_logprobs: 5, return_token_ids: true }].map(
      async (more) => {
        const { text } = await askFor(url, chat('x', more, { tool_calls: 1, reasoning_words: 3 }))
        return (JSON.parse(text) as Answer).choices[0]!['message']
      },
    ),
  )
  t.strictSame(texts[1], texts[0])
  t.strictSame(texts[2], texts[0])
})

t.test('a stream is sent in pieces of any size', async (t) => {
  const url = await serve(t, 'vllm')
  const [whole, cut] = [
    await askFor(url, chat('x', { stream: true })),
    await askFor(url, chat('x', { stream: true }, { write_bytes: 100 })),
  ]
  t.equal(cut.text, whole.text)
  t.match(await (await fetch(`${url}/weight_info`)).json(), { weight_version: 'w-2' })
})
