/** What is sent in place of what the client has sent: by rule and by engine, in their order. */
import * as fc from 'fast-check'
import t from 'tap'
import type { Call, Engine } from '../../src/transforms/profiles.ts'
import { RequestTransforms, callOf } from '../../src/transforms/request.ts'
import type { RequestPlan, TransformOptions } from '../../src/transforms/request.ts'
import { OBJECT } from './json-text.ts'

const NONE: TransformOptions = {
  modelOverride: null,
  maxCompletionTokens: [],
  maxTokensCap: null,
  disableThinking: false,
  engines: new Map(),
  topLogprobs: 5,
  sglangStreams: 'logprobs',
}
const BASE = 'http://u:8000'

function plan(
  body: string,
  options: Partial<TransformOptions>,
  more: { call?: Call; isRecorded?: boolean; refusal?: string } = {},
): RequestPlan | undefined {
  return RequestTransforms.from({ ...NONE, ...options })?.plan({
    call: more.call ?? 'chat',
    base: BASE,
    body: Buffer.from(body),
    isRecorded: more.isRecorded ?? true,
    refusal: () => more.refusal,
  })
}

const sent = (body: string, options: Partial<TransformOptions>, call?: Call): string =>
  plan(body, options, call && { call })?.body.toString() ?? body

const engine = (name: Engine): Partial<TransformOptions> => ({
  engines: new Map([['default', name]]),
})

t.test('nothing is changed, and nothing looked at, unless something is configured', async (t) => {
  t.equal(RequestTransforms.from(NONE), undefined)
  t.equal(RequestTransforms.from({ ...NONE, ...engine('none') }), undefined)
  const elsewhere = { engines: new Map<string, Engine>([['http://other', 'vllm']]) }
  t.equal(plan('{"model":"m"}', elsewhere), undefined, 'another upstream is declared')
  t.equal(plan('{"model":"m"}', engine('vllm'), { isRecorded: false }), undefined)
})

t.test('O9: the model is replaced', async (t) => {
  const options = { modelOverride: 'new "m"' }
  t.equal(sent('{"model":"a", "x":1.0}', options), '{"model":"new \\"m\\"", "x":1.0}')
  t.equal(sent('{"x":1}', options), '{"x":1,"model":"new \\"m\\""}')
  t.strictSame(plan('{"model":"a"}', options)?.transforms, [
    {
      name: 'model_override',
      version: 1,
      changes: [{ field: 'model', from: 'a', to: 'new "m"' }],
    },
  ])
  t.equal(plan('{"model":"new \\"m\\""}', options), undefined)
})

t.test('O6: the limit gets its newer name for models that want it', async (t) => {
  const options = { maxCompletionTokens: ['gpt-5*', 'o1*'] }
  const cases: [body: string, after: string][] = [
    ['{"model":"gpt-5-mini","max_tokens":7}', '{"model":"gpt-5-mini","max_completion_tokens":7}'],
    ['{"max_tokens":1e2,"model":"openai/o1"}', '{"max_completion_tokens":1e2,"model":"openai/o1"}'],
    ['{"model":"gpt-4","max_tokens":7}', '{"model":"gpt-4","max_tokens":7}'],
    ['{"model":"x/gpt-5/y","max_tokens":7}', '{"model":"x/gpt-5/y","max_tokens":7}'],
    ['{"model":"o1"}', '{"model":"o1"}'],
    [
      '{"model":"o1","max_tokens":7,"max_completion_tokens":8}',
      '{"model":"o1","max_tokens":7,"max_completion_tokens":8}',
    ],
    [
      '{"model":"o1","max_tokens":7,"max_completion_tokens":null}',
      '{"model":"o1","max_completion_tokens":7}',
    ],
  ]
  for (const [body, after] of cases) t.equal(sent(body, options), after, body)
})

t.test('O7: both limits are capped; what is absent stays absent', async (t) => {
  const options = { maxTokensCap: 100 }
  const cases: [body: string, after: string][] = [
    [
      '{"max_tokens":101,"max_completion_tokens":1e9}',
      '{"max_tokens":100,"max_completion_tokens":100}',
    ],
    ['{"max_tokens":100}', '{"max_tokens":100}'],
    ['{"max_tokens":null}', '{"max_tokens":null}'],
    ['{"max_tokens":"many"}', '{"max_tokens":"many"}'],
    ['{}', '{}'],
    ['{"max_tokens":5,"max_tokens":500}', '{"max_tokens":5,"max_tokens":100}'],
  ]
  for (const [body, after] of cases) t.equal(sent(body, options), after, body)
})

t.test('O8: thinking is switched off unless the client says what it wants', async (t) => {
  const options = { disableThinking: true }
  const off = '"enable_thinking":false'
  const cases: [body: string, after: string][] = [
    ['{}', `{"chat_template_kwargs":{${off}}}`],
    ['{"chat_template_kwargs":null}', `{"chat_template_kwargs":{${off}}}`],
    ['{"chat_template_kwargs":{ "a":1.0}}', `{"chat_template_kwargs":{ "a":1.0,${off}}}`],
    [
      '{"chat_template_kwargs":{"enable_thinking":true}}',
      '{"chat_template_kwargs":{"enable_thinking":true}}',
    ],
    ['{"chat_template_kwargs":7}', '{"chat_template_kwargs":7}'],
  ]
  for (const [body, after] of cases) t.equal(sent(body, options), after, body)
})

t.test('O6 O7 O8 O9: all of them, each seeing what the one before has done', async (t) => {
  const done = plan('{"model":"a","max_tokens":500,"stream":true}', {
    modelOverride: 'org/gpt-5',
    maxCompletionTokens: ['gpt-5*'],
    maxTokensCap: 100,
    disableThinking: true,
    ...engine('openai'),
  })
  t.equal(
    done?.body.toString(),
    '{"model":"org/gpt-5","max_completion_tokens":100,"stream":true,' +
      '"chat_template_kwargs":{"enable_thinking":false},"logprobs":true,"top_logprobs":5}',
  )
  t.strictSame(
    done?.transforms.map(({ name }) => name),
    ['model_override', 'max_completion_tokens', 'max_tokens_cap', 'disable_thinking', 'capture'],
  )
  t.equal(done?.model, 'org/gpt-5')
})

t.test('O5: what each engine is asked, per call, whole and streamed', async (t) => {
  const ids = ',"return_token_ids":true'
  const prompt = ',"return_prompt_token_ids":true'
  const chat = '"logprobs":true,"top_logprobs":5'
  const usage = ',"stream_options":{"include_usage":true}'
  const cases: [Engine, Call, whole: string, stream: string][] = [
    ['vllm', 'chat', chat + ids, chat + ids + usage],
    ['sglang', 'chat', chat + ids + prompt, chat + usage],
    ['openai', 'chat', chat, chat],
    ['vllm', 'completions', `"logprobs":5${ids}`, `"logprobs":5${ids}${usage}`],
    ['sglang', 'completions', `"logprobs":5${ids}${prompt}`, `"logprobs":5${ids}${prompt}${usage}`],
    ['openai', 'completions', '"logprobs":5', '"logprobs":5'],
  ]
  for (const [name, call, whole, stream] of cases) {
    t.equal(sent('{"a":1}', engine(name), call), `{"a":1,${whole}}`, `${name} ${call}`)
    const body = '{"stream":true}'
    t.equal(sent(body, engine(name), call), `{"stream":true,${stream}}`, `${name} ${call} stream`)
  }
  const none = { ...engine('vllm'), topLogprobs: 0 }
  t.equal(sent('{}', none), `{"logprobs":true,"top_logprobs":0${ids}}`)
})

t.test('O5: alternatives without log-probs are left to the upstream as they are', async (t) => {
  const skipped = 'the client asks for top_logprobs without logprobs'
  const bodies = [
    '{"top_logprobs":3}',
    '{"top_logprobs":3,"logprobs":false}',
    '{"top_logprobs":-1}',
  ]
  for (const name of ['vllm', 'sglang', 'openai'] as const) {
    const ofZero = name === 'openai' ? ['{"logprobs":null,"top_logprobs":0}'] : []
    for (const body of [...bodies, ...ofZero]) {
      const done = plan(body, engine(name))
      t.strictSame([done?.body.toString(), done?.injected, done?.strip], [body, [], undefined])
      const transform = { name: 'capture', version: 1, profile: `${name}/1`, skipped }
      t.strictSame(done?.transforms, [transform], `${name} ${body}`)
    }
  }
})

t.test('O5 O13: what the client has asked for is kept, what it has declined is not', async (t) => {
  const cases: [body: string, after: string, stripped: string[]][] = [
    [
      '{"logprobs":false,"top_logprobs":null}',
      '{"logprobs":true,"top_logprobs":5,"return_token_ids":true}',
      [
        'choices/*/logprobs',
        'prompt_token_ids',
        'choices/*/prompt_token_ids',
        'choices/*/token_ids',
      ],
    ],
    [
      '{"logprobs":true,"return_token_ids":true}',
      '{"logprobs":true,"return_token_ids":true,"top_logprobs":5}',
      ['choices/*/logprobs/content/*/top_logprobs'],
    ],
    [
      '{"logprobs":true,"top_logprobs":2,"return_token_ids":false}',
      '{"logprobs":true,"top_logprobs":2,"return_token_ids":true}',
      ['prompt_token_ids', 'choices/*/prompt_token_ids', 'choices/*/token_ids'],
    ],
    [
      '{"top_logprobs":0,"return_token_ids":true}',
      '{"top_logprobs":0,"return_token_ids":true,"logprobs":true}',
      ['choices/*/logprobs'],
    ],
    [
      '{"logprobs":3,"return_token_ids":true}',
      '{"logprobs":3,"return_token_ids":true,"top_logprobs":5}',
      ['choices/*/logprobs/content/*/top_logprobs'],
    ],
  ]
  for (const [body, after, stripped] of cases) {
    const done = plan(body, engine('vllm'))
    t.equal(done?.body.toString(), after)
    t.strictSame(
      done?.strip?.rules.map(({ path }) => path),
      stripped,
      body,
    )
  }
  const all = '{"logprobs":true,"top_logprobs":1,"return_token_ids":true}'
  const done = plan(all, engine('vllm'))
  t.strictSame([done?.body.toString(), done?.strip, done?.injected], [all, undefined, []])
  t.equal(
    sent('{"logprobs":0,"return_token_ids":true}', engine('vllm'), 'completions'),
    '{"logprobs":0,"return_token_ids":true}',
  )
})

t.test(
  'O5: the usage is asked for in streams, and its event dropped, unless the client did',
  async (t) => {
    const own = '"logprobs":true,"top_logprobs":1,"return_token_ids":true,"stream":true'
    const cases: [options: string, after: string, drops: boolean | undefined][] = [
      ['{"include_usage":true}', '{"include_usage":true}', undefined],
      ['{"include_usage":false}', '{"include_usage":true}', true],
      ['{ }', '{"include_usage":true }', true],
      ['null', '{"include_usage":true}', true],
      ['{"continuous_usage_stats":true}', '{"continuous_usage_stats":true}', undefined],
      ['7', '7', undefined],
    ]
    for (const [options, after, drops] of cases) {
      const done = plan(`{${own},"stream_options":${options}}`, engine('vllm'))
      t.equal(done?.body.toString(), `{${own},"stream_options":${after}}`)
      t.equal(done?.strip?.dropsUsage, drops, options)
    }
  },
)

t.test('O5: a chat stream of SGLang comes with log-probs alone, or is refused', async (t) => {
  const error = { ...engine('sglang'), sglangStreams: 'error' } as const
  t.throws(() => plan('{"stream":true}', error), { code: 'capture_unavailable' })
  t.equal(sent('{"stream":false}', error), sent('{"stream":false}', engine('sglang')))
  t.doesNotThrow(() => plan('{"stream":true}', error, { call: 'completions' }))
})

t.test('O10: what is no JSON object passes as it is, and that is said', async (t) => {
  const options = { modelOverride: 'm', maxTokensCap: 1, ...engine('vllm') }
  const skipped = 'the body is no JSON object'
  for (const body of ['', '[1]', '{"a":', '\x1f\x8b']) {
    const done = plan(body, options)
    t.equal(done?.body.toString(), body)
    t.strictSame(done?.transforms, [
      { name: 'model_override', version: 1, skipped },
      { name: 'max_tokens_cap', version: 1, skipped },
      { name: 'capture', version: 1, profile: 'vllm/1', skipped },
    ])
  }
})

t.test('O29: what an upstream is known to refuse is not asked', async (t) => {
  const done = plan('{"model":"m"}', engine('openai'), { refusal: 'refused with status 403' })
  t.equal(done?.body.toString(), '{"model":"m"}')
  t.strictSame(done?.transforms, [
    { name: 'capture', version: 1, profile: 'openai/1', skipped: 'refused with status 403' },
  ])
})

t.test('O10: for any object, what is sent less what was put in is the body', async (t) => {
  const fields = new Set(['logprobs', 'top_logprobs', 'return_token_ids', 'stream_options'])
  fc.assert(
    fc.property(OBJECT, (text) => {
      const plain = JSON.parse(text.replace(/^\ufeff/, '')) as Record<string, unknown>
      fc.pre(!Object.keys(plain).some((name) => fields.has(name)))
      const after = sent(text, engine('vllm'))
      const put =
        /,?"logprobs":true,"top_logprobs":5,"return_token_ids":true(?:,"stream_options":\{"include_usage":true\})?(?=\s*\}\s*$)/
      t.equal(after.replace(put, ''), text)
      const { logprobs, top_logprobs, return_token_ids, ...rest } = JSON.parse(
        after.replace(/^\ufeff/, ''),
      ) as Record<string, unknown>
      delete rest['stream_options']
      t.strictSame([logprobs, top_logprobs, return_token_ids], [true, 5, true])
      t.equal(JSON.stringify(rest), JSON.stringify(plain))
    }),
  )
})

t.test('chat and completions are touched, and no other call', async (t) => {
  const cases: [method: string, path: string, call: Call | undefined][] = [
    ['POST', '/v1/chat/completions', 'chat'],
    ['POST', '/v1/chat/completions/', 'chat'],
    ['POST', '/openai/v1/completions', 'completions'],
    ['GET', '/v1/chat/completions', undefined],
    ['POST', '/v1/responses', undefined],
    ['POST', '/v1/messages', undefined],
    ['POST', '/generate', undefined],
    ['POST', '/xcompletions', undefined],
  ]
  for (const [method, path, call] of cases) t.equal(callOf(method, path), call, path)
})
