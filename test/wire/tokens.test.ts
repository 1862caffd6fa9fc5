/** Token capture: ids and log-probs wherever engines put them, aligned by position. */

import t from 'tap'
import type { JsonObject } from '../../src/wire/json.ts'
import { ChatAssembler } from '../../src/wire/openai-chat.ts'
import { CompletionsAssembler } from '../../src/wire/openai-completions.ts'
import { tokensOfResponse } from '../../src/wire/tokens.ts'

const content = (...entries: [string, number][]) => ({
  content: entries.map(([token, logprob]) => ({ token, logprob, bytes: null, top_logprobs: [] })),
})

function streamed(assembler: ChatAssembler | CompletionsAssembler, ...chunks: JsonObject[]) {
  for (const chunk of chunks) assembler.add(chunk)
  return assembler
}

void t.test('O21: a vLLM stream gives prompt ids once, and ids of empty deltas too', (t) => {
  const root = { id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm' }
  const assembler = streamed(
    new ChatAssembler(),
    {
      ...root,
      prompt_token_ids: [1, 2, 3],
      choices: [{ index: 0, delta: { role: 'assistant', content: '' }, logprobs: null }],
    },
    {
      ...root,
      choices: [
        { index: 0, delta: { content: 'a' }, logprobs: content(['a', -0.5]), token_ids: [11] },
      ],
    },
    {
      ...root,
      choices: [
        {
          index: 0,
          delta: { content: 'bc' },
          logprobs: content(['b', -1], ['c', -9999]),
          token_ids: [12, 13],
        },
      ],
    },
    { ...root, choices: [{ index: 0, delta: {}, logprobs: content(['</s>', 0]), token_ids: [2] }] },
    { ...root, choices: [], usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 } },
  )
  t.strictSame(assembler.tokens(), [
    {
      index: 0,
      prompt_token_ids: [1, 2, 3],
      token_ids: [11, 12, 13, 2],
      logprobs: [-0.5, -1, -9999, 0],
      tokens: ['a', 'b', 'c', '</s>'],
      aligned: true,
    },
  ])
  const response = JSON.parse(assembler.response() ?? '') as JsonObject
  t.strictSame(response['prompt_token_ids'], [1, 2, 3])
  t.end()
})

void t.test('O21: prompt ids that vLLM repeats for each choice are taken once', (t) => {
  const first = (index: number) => ({
    prompt_token_ids: [1, 2],
    choices: [{ index, delta: { role: 'assistant' } }],
  })
  const assembler = streamed(new ChatAssembler(), first(0), first(1))
  t.strictSame(
    assembler.tokens()?.map((choice) => choice.prompt_token_ids),
    [
      [1, 2],
      [1, 2],
    ],
  )
  const response = JSON.parse(assembler.response() ?? '') as JsonObject
  t.strictSame(response['prompt_token_ids'], [1, 2])
  t.end()
})

void t.test(
  'O20: where ids or log-probs are missing null keeps the place, and nothing is aligned',
  (t) => {
    const choice = (more: object) => ({ choices: [{ index: 0, delta: {}, ...more }] })
    const assembler = streamed(
      new ChatAssembler(),
      choice({ token_ids: [1], logprobs: content(['a', -1]) }),
      choice({ token_ids: [2, 3] }),
      choice({ logprobs: content(['d', -4]) }),
      { choices: [], usage: { completion_tokens: 4 } },
    )
    t.strictSame(assembler.tokens(), [
      {
        index: 0,
        prompt_token_ids: null,
        token_ids: [1, 2, 3, null],
        logprobs: [-1, null, null, -4],
        tokens: ['a', null, null, 'd'],
        aligned: false,
        off: { token_ids: 3, logprobs: 2, usage: 4 },
      },
    ])
    t.end()
  },
)

void t.test('O21: ids are read from token strings and from token_id of an entry', (t) => {
  const logprobs = {
    content: [
      { token: 'token_id:1234', logprob: -1 },
      { token: 'x', token_id: 7, logprob: -2 },
      { token: 'token_id:x', logprob: -3 },
    ],
  }
  const response = { choices: [{ index: 0, message: {}, logprobs }] }
  t.strictSame(tokensOfResponse(response)?.[0]?.token_ids, [1234, 7, null])
  t.end()
})

void t.test('O21: completions give ids per choice and log-probs as parallel lists', (t) => {
  const choice = (text: string, id: number, more: object = {}) => ({
    object: 'text_completion',
    choices: [
      {
        index: 0,
        text,
        token_ids: [id],
        logprobs: {
          text_offset: [id],
          token_logprobs: [-id],
          tokens: [text],
          top_logprobs: [null],
        },
        finish_reason: null,
        ...more,
      },
    ],
  })
  const assembler = streamed(
    new CompletionsAssembler(),
    choice('a', 1, { prompt_token_ids: [9, 8] }),
    choice('b', 2, { finish_reason: 'stop' }),
    { object: 'text_completion', choices: [], usage: { completion_tokens: 2 } },
  )
  const expected = {
    index: 0,
    prompt_token_ids: [9, 8],
    token_ids: [1, 2],
    logprobs: [-1, -2],
    tokens: ['a', 'b'],
    aligned: true,
  }
  const response = JSON.parse(assembler.response() ?? '') as JsonObject
  t.strictSame(assembler.tokens(), [expected])
  t.strictSame(tokensOfResponse(response), [expected], 'the assembled response says the same')
  t.strictSame(response, {
    object: 'text_completion',
    choices: [
      {
        index: 0,
        text: 'ab',
        token_ids: [1, 2],
        logprobs: {
          text_offset: [1, 2],
          token_logprobs: [-1, -2],
          tokens: ['a', 'b'],
          top_logprobs: [null, null],
        },
        finish_reason: 'stop',
        prompt_token_ids: [9, 8],
      },
    ],
    usage: { completion_tokens: 2 },
  })
  t.end()
})

void t.test("O21: SGLang's meta_info is read once, also where a stream repeats it growing", (t) => {
  const meta = (...samples: [number, number, string | null][]) => ({
    meta_info: { output_token_logprobs: samples },
  })
  const expected = {
    index: 0,
    prompt_token_ids: null,
    token_ids: [5, 6],
    logprobs: [-0.1, -0.2],
    tokens: ['a', null],
    aligned: true,
  }
  const whole = meta([-0.1, 5, 'a'], [-0.2, 6, null])
  const usage = { completion_tokens: 2 }
  t.strictSame(tokensOfResponse({ choices: [{ index: 0, ...whole }], usage }), [expected])
  const assembler = streamed(
    new CompletionsAssembler(),
    { choices: [{ index: 0, text: 'a', ...meta([-0.1, 5, 'a']) }] },
    { choices: [{ index: 0, text: 'b', ...whole }], usage },
  )
  t.strictSame(assembler.tokens(), [expected])
  t.end()
})

void t.test('O20: aligned holds the choices together against the one count in usage', (t) => {
  const choice = (index: number, ids: number[]) => ({
    index,
    token_ids: ids,
    logprobs: content(...ids.map((id): [string, number] => [`t${id}`, -id])),
  })
  const aligned = (completion_tokens: number) =>
    tokensOfResponse({
      choices: [choice(0, [1, 2]), choice(1, [3])],
      usage: { completion_tokens },
    })?.map((tokens) => tokens.aligned)
  t.strictSame(
    [aligned(3), aligned(4)],
    [
      [true, true],
      [false, false],
    ],
  )
  t.end()
})

void t.test('O20: alternatives keep their places, experts are kept as sent', (t) => {
  const top = [{ token: 'a', logprob: -1 }]
  const logprobs = {
    content: [
      { token: 'a', logprob: -1, top_logprobs: top },
      { token: 'b', logprob: -2, top_logprobs: [] },
    ],
  }
  const choice = { index: 0, token_ids: [1, 2], logprobs, routed_experts: 'k05VTVBZ' }
  const usage = { completion_tokens: 2 }
  t.match(tokensOfResponse({ choices: [choice], usage }), [
    { top_logprobs: [top, null], routed_experts: 'k05VTVBZ', aligned: true },
  ])
  const assembler = streamed(
    new ChatAssembler(),
    { choices: [{ index: 0, delta: {}, token_ids: [1] }] },
    { choices: [], sglext: { routed_experts: 'AAAA' } },
  )
  t.match(assembler.tokens(), [
    { routed_experts: 'AAAA', off: { token_ids: 1, logprobs: 0, usage: null } },
  ])
  t.end()
})

void t.test('O20: an answer without ids and log-probs has no tokens', (t) => {
  t.equal(tokensOfResponse({ choices: [{ index: 0, message: {}, logprobs: null }] }), null)
  t.equal(tokensOfResponse({ error: {} }), null)
  t.end()
})
