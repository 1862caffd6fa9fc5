/** What was asked for on the tape's behalf goes out of answers: that, and nothing else. */
import * as fc from 'fast-check'
import t from 'tap'
import { stripFor } from '../../src/transforms/strip-answer.ts'
import type { AnswerStrip } from '../../src/transforms/strip-answer.ts'
import type { StripRule, StripSpec } from '../../src/transforms/transform.ts'
import { VALUE } from './json-text.ts'

const RULES: readonly StripRule[] = [
  { path: 'prompt_token_ids', how: 'remove' },
  { path: 'choices/*/token_ids', how: 'remove' },
  { path: 'choices/*/logprobs', how: 'null' },
]
const SPEC: StripSpec = {
  version: 2,
  rules: RULES,
  dropsEmpty: true,
  dropsUsage: true,
  eventBytesMax: 10_000,
  bodyBytesMax: 10_000,
}
const SSE = ['content-type', 'text/event-stream']
const JSON_TYPE = ['Content-Type', 'application/json']

function open(spec: Partial<StripSpec> = {}, flat = SSE): AnswerStrip {
  const strip = stripFor({ ...SPEC, ...spec }, { status: 200, flat })
  if (typeof strip === 'string') throw new Error(strip)
  return strip
}

/** All that comes out of these bytes, cut at these places. */
function through(strip: AnswerStrip, text: string, cuts: readonly number[] = []): string {
  const bytes = Buffer.from(text)
  const out: Buffer[] = []
  const places = cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b)
  for (const [i, from] of [0, ...places].entries()) {
    out.push(strip.push(bytes.subarray(from, places[i] ?? bytes.length)))
  }
  return Buffer.concat([...out, strip.end()]).toString()
}

const event = (data: string, end = '\n\n'): string => `data: ${data}${end}`

t.test(
  'O13 O17: ids go, log-probs become null, an event with nothing left is dropped',
  async (t) => {
    const cases: [sent: string, seen: string][] = [
      [
        '{"prompt_token_ids":[1,2],"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null}]}',
        '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null}]}',
      ],
      [
        '{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]},"token_ids":[1]}], "x":1e-05}',
        '{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":null}], "x":1e-05}',
      ],
      ['{"choices":[{"index":0,"delta":{ },"logprobs":{"content":[]},"token_ids":[1]}]}', ''],
      ['{"choices":[{"index":0,"delta":{},"finish_reason":null,"token_ids":[1]}]}', ''],
      [
        '{"choices":[{"index":0,"delta":{},"finish_reason":"stop","token_ids":[1]}]}',
        '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
      ],
      [
        '{"choices":[{"index":0,"delta":{"content":""},"token_ids":[1]}]}',
        '{"choices":[{"index":0,"delta":{"content":""}}]}',
      ],
      [
        '{"choices":[{"index":0,"delta":{},"token_ids":[1]},{"index":1,"delta":{"content":"b"},"token_ids":[2]}]}',
        '{"choices":[{"index":0,"delta":{}},{"index":1,"delta":{"content":"b"}}]}',
      ],
      ['{"choices":[{"index":0,"delta":{}}]}', '{"choices":[{"index":0,"delta":{}}]}'],
      ['{"choices":[],"usage":{"completion_tokens":1}}', ''],
      ['{"choices":[],"usage":null}', '{"choices":[],"usage":null}'],
      ['{"choices":[],"sglext":{"a":1}}', '{"choices":[],"sglext":{"a":1}}'],
      ['{"error":{"message":"no"}}', '{"error":{"message":"no"}}'],
      ['{"choices":"odd","token_ids":[1]}', '{"choices":"odd","token_ids":[1]}'],
      [
        '{"choices":[{"index":0,"tok\\u0065n_ids":[1],"text":"a"}]}',
        '{"choices":[{"index":0,"text":"a"}]}',
      ],
      ['[DONE]', '[DONE]'],
      ['{"choices":[{"token_ids":[1]', '{"choices":[{"token_ids":[1]'],
    ]
    for (const [sent, seen] of cases) {
      t.equal(through(open(), event(sent)), seen === '' ? '' : event(seen), sent)
    }
  },
)

t.test('O13: what was not put in stays: usage, and events that others left empty', async (t) => {
  const usage = event('{"choices":[],"usage":{"completion_tokens":1}}')
  t.equal(through(open({ dropsUsage: false }), usage), usage)
  const empty = event('{"choices":[{"index":0,"delta":{},"token_ids":[1]}]}')
  t.equal(
    through(open({ dropsEmpty: false }), empty),
    event('{"choices":[{"index":0,"delta":{}}]}'),
  )
  const path = 'choices/*/logprobs/content/*/top_logprobs'
  const own = event('{"choices":[{"logprobs":{"content":[{"logprob":-0.0,"top_logprobs":[{}]}]}}]}')
  t.equal(
    through(open({ rules: [{ path, how: 'empty' }] }), own),
    event('{"choices":[{"logprobs":{"content":[{"logprob":-0.0,"top_logprobs":[]}]}}]}'),
  )
})

t.test(
  'O17: log-probs of the client’s own keep no event that was sent for ids alone',
  async (t) => {
    const rules: readonly StripRule[] = [
      { path: 'choices/*/logprobs/content/*/top_logprobs', how: 'empty' },
      { path: 'choices/*/token_ids', how: 'remove' },
    ]
    const own = '"logprobs":{"content":[{"token":"</think>","top_logprobs":[]}]}'
    const seen = (text: string, spec: Partial<StripSpec> = {}): string =>
      through(open({ rules, ...spec }), event(text))
    const choice = (inner: string): string => `{"choices":[{"index":0,${inner}}]}`
    const silent = choice(`"delta":{},${own},"finish_reason":null,"token_ids":[1]`)
    t.equal(seen(silent), '')
    t.equal(
      seen(silent, { version: 1 }),
      event(choice(`"delta":{},${own},"finish_reason":null`)),
      'tapes of version 1 are played as they were',
    )
    const alone = choice(`"delta":{},${own}`.replace('[]', '[{"a":1}]'))
    t.equal(seen(alone), event(choice(`"delta":{},${own}`)), 'without ids it would have been sent')
    for (const kept of [
      '"delta":{},"finish_reason":"stop"',
      '"delta":{"role":"assistant","content":""}',
      '"delta":{"content":""},"finish_reason":null',
    ]) {
      t.equal(seen(choice(`${kept},${own},"token_ids":[1]`)), event(choice(`${kept},${own}`)))
    }
  },
)

t.test('O13: what is not looked through is told', async (t) => {
  const ids = '{"prompt_token_ids":[1]}'
  const bodies: [sent: string, seen: string, skipped: string | null][] = [
    [ids, '{}', null],
    [`\ufeff ${ids}`, '\ufeff {}', null],
    [`[${ids}]`, `[${ids}]`, 'the answer is no JSON object'],
    [ids.slice(0, -1), ids.slice(0, -1), 'the answer is no JSON object'],
    [`${ids}${' '.repeat(60)}`, `${ids}${' '.repeat(60)}`, 'the answer has more than 60 bytes'],
  ]
  for (const [sent, seen, skipped] of bodies) {
    const strip = open({ bodyBytesMax: 60 }, JSON_TYPE)
    t.strictSame([through(strip, sent), strip.skipped], [seen, skipped], sent)
  }
  const old = open({ version: 1 }, JSON_TYPE)
  t.equal(through(old, `\ufeff${ids}`), `\ufeff${ids}`, 'as it was in version 1')
  const stream = open({ eventBytesMax: 40 })
  t.equal(through(stream, event(ids)), event('{}'))
  t.equal(stream.skipped, null)
  through(stream, event(`${ids}${' '.repeat(40)}`))
  t.equal(stream.skipped, 'events of more than 40 bytes')
})

t.test('R21 O17: an event leaves in the call that completes it, and no sooner', async (t) => {
  const strip = open()
  const push = (text: string): string => strip.push(Buffer.from(text)).toString()
  t.equal(push('data: {"choices":[{"token_ids":[1],'), '')
  t.equal(push('"text":"a"}]}\n'), '')
  t.equal(push('\n: ping\n\ndata: [DO'), 'data: {"choices":[{"text":"a"}]}\n\n: ping\n\n')
  t.equal(push('NE]\n\n'), 'data: [DONE]\n\n')
  t.equal(strip.end().length, 0)
})

t.test(
  'R21: data on several lines, other fields, comments, a last event nobody closed',
  async (t) => {
    const cases: [sent: string, seen: string][] = [
      [
        'event: x\ndata: {"choices":[{"text":"a",\ndata: "token_ids":\ndata:[1,2],"b":1}]}\nid: 1\n\n',
        'event: x\ndata: {"choices":[{"text":"a","b":1}]}\nid: 1\n\n',
      ],
      ['\ufeffdata:{"prompt_token_ids":[1]}\r\n\r\n', '\ufeffdata:{}\r\n\r\n'],
      [
        ': c\n\n\n\ndata\n\ndatax: {"prompt_token_ids":[1]}\n\n',
        ': c\n\n\n\ndata\n\ndatax: {"prompt_token_ids":[1]}\n\n',
      ],
      ['data: {"prompt_token_ids":[1]}', 'data: {}'],
      ['data: {"prompt_token_ids":[1]', 'data: {"prompt_token_ids":[1]'],
    ]
    for (const [sent, seen] of cases) {
      for (let cut = 0; cut <= Buffer.byteLength(sent); cut++) {
        t.equal(through(open(), sent, [cut]), seen, `${JSON.stringify(sent)} at ${cut}`)
      }
    }
  },
)

const END = fc.constantFrom('\n\n', '\r\n\r\n', '\r\r', '\n\r\n', '\r\n\r', '\r\n\n', '\n\r')

/** An answer as it would be without capture, and as it is with it. */
const ANSWER = fc
  .record({
    root: fc.array(VALUE, { maxLength: 2 }),
    choices: fc.array(
      fc.record({ before: fc.array(VALUE, { maxLength: 2 }), at: fc.nat(), ids: fc.boolean() }),
      { maxLength: 3 },
    ),
    prompt: fc.boolean(),
    at: fc.nat(),
    gap: fc.constantFrom('', ' ', '\t'),
  })
  .map(({ root, choices, prompt, at, gap }) => {
    const put = (members: string[], place: number, member: string): string[] =>
      members.toSpliced(1 + (place % members.length), 0, member)
    const made = (isCaptured: boolean): string => {
      const inner = choices.map((choice, index) => {
        const members = [`"index":${index}`, `"delta":{"content":"c"}`]
        members.push(...choice.before.map((value, i) => `"m${i}":${gap}${oneLine(value)}`))
        members.push(`"logprobs":${isCaptured ? '{"content":[{"token":"\\"}"}]}' : 'null'}`)
        const all =
          isCaptured && choice.ids ? put(members, choice.at, '"token_ids":[1,2]') : members
        return `{${all.join(`,${gap}`)}${gap}}`
      })
      const members = root.map((value, i) => `"r${i}":${gap}${oneLine(value)}`)
      const all = [...members, `"choices":[${inner.join(',')}]`]
      const shown = isCaptured && prompt ? put(all, at, '"prompt_token_ids":[3]') : all
      return `{${shown.join(`,${gap}`)}}`
    }
    return { captured: made(true), plain: made(false) }
  })

function oneLine(value: string): string {
  return value.replaceAll(/[\r\n]/g, ' ')
}

t.test('O13: stripping what an engine puts in gives the answer without it', async (t) => {
  fc.assert(
    fc.property(ANSWER, ({ captured, plain }) => {
      t.equal(through(open({}, JSON_TYPE), captured), plain)
      t.equal(through(open(), event(captured)), event(plain))
    }),
  )
})

t.test('R21 O17: every kind of line end may be cut in its middle', async (t) => {
  const dropped = 'data: {"choices":[{"index":0,"delta":{},"token_ids":[1]}]}'
  const kept = 'data: {"prompt_token_ids":[1],"a":1}'
  for (const end of ['\n\n', '\r\n\r\n', '\r\r', '\n\r\n', '\r\n\r', '\r\n\n', '\n\r']) {
    // A lone CR that an LF follows is no end of its own.
    const after = end.endsWith('\r') ? kept : `x\r\n${kept}`
    const text = [dropped, kept, dropped, after].join(end) + end
    const seen = through(open(), text)
    t.equal(seen.split('"a":1').length, 3, JSON.stringify(end))
    for (let cut = 0; cut <= text.length; cut++) {
      t.equal(through(open(), text, [cut]), seen, `${JSON.stringify(end)} at ${cut}`)
    }
    const each = Array.from({ length: text.length }, (_, cut) => cut)
    t.equal(through(open(), text, each), seen, `${JSON.stringify(end)} byte by byte`)
  }
})

t.test('O17: however a stream is cut, the same bytes come out', async (t) => {
  const stream = fc.array(
    fc.tuple(
      fc.oneof(
        ANSWER.map(({ captured }) => `data: ${captured}`),
        fc.constantFrom(
          ': ping',
          'data: [DONE]',
          'data: {"choices":[{"index":0,"delta":{},"token_ids":[1]}]}',
          `data: {"prompt_token_ids":[${'1,'.repeat(100)}1]}`,
          'event: a\rdata: {"prompt_token_ids":\rdata: [1]}',
        ),
      ),
      END,
    ),
    { maxLength: 5 },
  )
  fc.assert(
    fc.property(stream, fc.array(fc.nat(), { maxLength: 8 }), (events, cuts) => {
      const text = events.map(([each, end]) => each + end).join('')
      const small = { eventBytesMax: 150 }
      t.equal(through(open(), text, cuts), through(open(), text))
      t.equal(through(open(small), text, cuts), through(open(small), text))
    }),
  )
})

t.test('an event that is too long passes as it is; the ones after it are stripped', async (t) => {
  const long = event(`{"prompt_token_ids":[${'1,'.repeat(50)}1]}`)
  const short = event('{"prompt_token_ids":[1],"a":1}')
  const strip = open({ eventBytesMax: long.length - 1 })
  t.equal(through(strip, short + long + short), `data: {"a":1}\n\n${long}data: {"a":1}\n\n`)
  t.equal(through(open({ eventBytesMax: long.length }), long), 'data: {}\n\n')
})

t.test('an answer in one piece has its new length, and one that is too long its own', async (t) => {
  const body = '{"prompt_token_ids":[1,2,3],"a":1}'
  const flat = [...JSON_TYPE, 'Content-Length', String(body.length)]
  const strip = open({}, flat)
  t.ok(strip.holdsHead)
  t.equal(strip.push(Buffer.from(body)).length, 0)
  t.equal(strip.end().toString(), '{"a":1}')
  t.strictSame(strip.headers(flat), [...JSON_TYPE, 'Content-Length', '7'])
  const short = open({ bodyBytesMax: 10 }, flat)
  t.equal(short.push(Buffer.from(body.slice(0, 10))).length, 0)
  t.equal(short.push(Buffer.from(body.slice(10, 12))).toString(), body.slice(0, 12))
  t.equal(short.push(Buffer.from(body.slice(12))).toString(), body.slice(12))
  t.strictSame([short.end().length, short.headers(flat)], [0, flat])
})

t.test('errors, other types and encoded answers are left alone', async (t) => {
  const cases: [status: number, flat: string[], why: string | undefined][] = [
    [200, SSE, undefined],
    [200, ['Content-Type', 'application/json; charset=utf-8'], undefined],
    [400, JSON_TYPE, 'status 400'],
    [204, JSON_TYPE, 'status 204'],
    [200, ['content-type', 'text/html'], 'content-type text/html'],
    [200, [], 'content-type '],
    [200, [...SSE, 'Content-Encoding', 'gzip'], 'content-encoding gzip'],
    [200, [...SSE, 'content-encoding', 'identity'], undefined],
  ]
  for (const [status, flat, why] of cases) {
    const strip = stripFor(SPEC, { status, flat })
    t.equal(typeof strip === 'string' ? strip : undefined, why)
  }
  const sized = ['content-length', '9', ...SSE]
  t.strictSame(open({}, sized).headers(sized), SSE, 'a stream loses its length')
})
