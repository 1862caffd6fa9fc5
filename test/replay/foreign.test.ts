// Files of other recorders are replayed: lines with the nine first keys, and turn lines.
import { join } from 'node:path'
import t from 'tap'
import { CHAT, ask, plain, startReplay } from '../support/replayer.ts'
import { post, rawRequest } from '../support/raw-client.ts'

const NINE_KEYS = join(import.meta.dirname, 'fixture/nine-keys.jsonl')
const TURNS = join(import.meta.dirname, 'fixture/turns.jsonl')
const SSE = {
  'cache-control': 'no-cache',
  'content-type': 'text/event-stream; charset=utf-8',
  'transfer-encoding': 'chunked',
}
const json = (body: string) => ({
  'content-type': 'application/json',
  'content-length': String(Buffer.byteLength(body)),
})

t.test('R22 R25: of nine keys a unary answer is the text that the line has', async (t) => {
  const { url } = await startReplay(t, NINE_KEYS)
  const body =
    '{"id": "chatcmpl-1", "object": "chat.completion", "created": 1760000000, "model": "qwen3", ' +
    '"choices": [{"index": 0, "message": {"role": "assistant", "content": "first", ' +
    '"reasoning_content": "hm"}, "finish_reason": "stop", "stop_reason": null}], ' +
    '"system_fingerprint": "fp_1", ' +
    '"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}'
  t.strictSame(plain(await ask(url, 'one')), [200, json(body), body])
})

t.test('R26 R27: a stream is made of nine keys, the same each time', async (t) => {
  const { url } = await startReplay(t, NINE_KEYS, { onExhausted: 'repeat_last' })
  const root =
    '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"qwen3"'
  const one = { stream: true, stream_options: { include_usage: true } }
  t.strictSame(plain(await ask(url, 'one', one)), [
    200,
    SSE,
    `data: {${root},"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant",` +
      `"content":"first","reasoning_content":"hm"},"stop_reason":null,"finish_reason":"stop"}]}\n\n` +
      `data: {${root},"choices":[],` +
      `"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n` +
      'data: [DONE]\n\n',
  ])
  const [status, headers, text] = plain(await ask(url, 'two', { stream: true })) as [
    number,
    object,
    string,
  ]
  t.strictSame([status, headers], [200, SSE])
  const [first = '', mark, rest] = text.split('\n\n')
  t.strictSame([mark, rest], ['data: [DONE]', ''])
  const { id, ...chunk } = JSON.parse(first.slice(6)) as { id: string }
  t.match(id, /^chatcmpl-[0-9a-f]{24}$/)
  t.strictSame(chunk, {
    object: 'chat.completion.chunk',
    created: 1760000001,
    model: 'qwen3',
    choices: [
      {
        index: 0,
        delta: {
          role: 'assistant',
          content: null,
          tool_calls: [
            { id: 'call_a', type: 'function', function: { name: 'ls', arguments: '{}' }, index: 0 },
            {
              index: 1,
              id: 'call_b',
              type: 'function',
              function: { name: 'cat', arguments: '{"path": "a"}' },
            },
          ],
        },
        finish_reason: 'tool_calls',
      },
    ],
  })
  t.strictSame(plain(await ask(url, 'two', { stream: true }))[2], text, 'the same id again')
})

t.test('R30: a line that failed with an upstream status is that status again', async (t) => {
  const { url } = await startReplay(t, NINE_KEYS)
  const message = 'the recording has an answer with status 429 and nothing of its body'
  const error = { message, type: 'rate_limit_error', code: null, param: null }
  const body = JSON.stringify({ error, detail: message })
  t.strictSame(plain(await ask(url, 'three', { stream: true })), [429, json(body), body])
})

t.test('R30: a record without a response is 500 and stays where it is', async (t) => {
  const order = { match: 'sequence', sessionMatch: 'pooled' } as const
  const rolltape = await startReplay(t, NINE_KEYS, order)
  const { url } = rolltape
  for (const text of ['a', 'b', 'c']) await ask(url, text)
  const answers = [await ask(url, 'd'), await ask(url, 'd')]
  const message =
    'record 4 cannot be replayed: ReadTimeout; take it out of the recording, or pass over such ' +
    'records with --on-unusable skip'
  const error = { message, type: 'server_error', code: 'tape_record_unusable', param: null }
  for (const { status, body } of answers) {
    t.strictSame([status, JSON.parse(body.toString())], [500, { error, detail: message }])
  }
  t.strictSame((await rolltape.close()).verdict, {
    servedExact: 3,
    servedByRule: 0,
    missed: 0,
    exhausted: 0,
    aborted: 0,
    unusable: 2,
    modelMismatch: 0,
    live: 0,
    unused: 2,
    verified: undefined,
  })
})

t.test('R30: with on_unusable skip the next record answers', async (t) => {
  const order = { match: 'sequence', sessionMatch: 'pooled', onUnusable: 'skip' } as const
  const { url } = await startReplay(t, NINE_KEYS, order)
  const statuses: unknown[] = []
  for (const text of ['a', 'b', 'c', 'd', 'e']) {
    const { status, body } = await ask(url, text)
    const { choices, error } = JSON.parse(body.toString())
    statuses.push([status, choices?.[0].message.content ?? error?.message ?? 'two calls'])
  }
  t.strictSame(statuses, [
    [200, 'first'],
    [200, 'two calls'],
    [429, 'the recording has an answer with status 429 and nothing of its body'],
    [200, 'fifth'],
    [404, 'trajectory exhausted at step 4 (total recorded steps=4)'],
  ])
})

t.test('R24: another model in sequence is served and counted', async (t) => {
  const order = { match: 'sequence', logLevel: 'silent' } as const
  const rolltape = await startReplay(t, NINE_KEYS, order)
  const answer = await ask(rolltape.url, 'whatever', { model: 'other' })
  t.strictSame([answer.status, JSON.parse(answer.body.toString()).model], [200, 'qwen3'])
  await ask(rolltape.url, 'whatever')
  t.match(rolltape.verdict, { modelMismatch: 1, servedExact: 2 })
})

t.test('R2: in sequence too a broken body is refused and moves nothing', async (t) => {
  const { url } = await startReplay(t, NINE_KEYS, { match: 'sequence' })
  for (const bad of ['[1]', '{"a":', 'x', '"text"', '{"model":"qwen3","stream":flase}']) {
    t.equal((await rawRequest(url, post(CHAT, bad))).status, 400, bad)
  }
  const first = await rawRequest(url, post(CHAT, ''))
  t.match(JSON.parse(first.body.toString()), { id: 'chatcmpl-1' }, 'an empty body counts as {}')
})

t.test(
  'R22: turn lines answer what the agent asked, not what its recorder made of it',
  async (t) => {
    const { url } = await startReplay(t, TURNS)
    const model = 'Qwen/Qwen3-4B'
    const going = await ask(url, 'go', { model })
    t.match(JSON.parse(going.body.toString()), { choices: [{ message: { content: 'going' } }] })
    const title = await ask(url, 'title', { model, stream: true })
    t.match(title.body.toString(), '"logprob":-1e-05', 'numbers keep their digits')
    t.match(title.body.toString(), '"created":1760000000,')
    const body = '{"error": {"message": "engine is loading", "code": 503}}'
    t.strictSame(plain(await ask(url, 'more', { model, stream: true })), [503, json(body), body])
  },
)

t.test('R23: turn lines are in the order of their turns', async (t) => {
  const { url } = await startReplay(t, TURNS, { match: 'sequence' })
  const texts: unknown[] = []
  for (let turn = 0; turn < 3; turn++) {
    const { body } = await ask(url, 'next', { model: 'Qwen/Qwen3-4B' })
    const { choices, error } = JSON.parse(body.toString())
    texts.push(choices?.[0].message.content ?? error.message)
  }
  t.strictSame(texts, ['going', 'A title', 'engine is loading'])
})

t.test('what a profile ignores in requests does not count', async (t) => {
  const ignoreProfile = ['codex']
  const { url } = await startReplay(t, NINE_KEYS, { ignoreProfile })
  const answer = await ask(url, 'one', { prompt_cache_key: 'new each time' })
  t.match(JSON.parse(answer.body.toString()), { id: 'chatcmpl-1' })
  const long = { prompt_cache_key: 'x'.repeat(100_000) }
  const five = await ask(url, 'five', long)
  t.match(JSON.parse(five.body.toString()), { id: 'chatcmpl-5' }, 'nor where a worker looks')
})
