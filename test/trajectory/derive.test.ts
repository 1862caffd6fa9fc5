/** Records: what is spliced in stays as sent, keys and times are right, nothing loses a record. */

import { hash } from 'node:crypto'
import * as fc from 'fast-check'
import t from 'tap'
import { deriveRecord } from '../../src/trajectory/derive.ts'
import type { ExchangeRecord } from '../../src/trajectory/record.ts'
import { derive, JSON_TYPE, sse, SSE, taped, type Situation } from './exchange.ts'

const DELTA = { id: 'c', choices: [{ index: 0, delta: { content: 'a' }, finish_reason: null }] }
const LAST = { id: 'c', choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }

const lineOf = (situation: Situation) => deriveRecord(taped(situation)).line.toString()

void t.test('R19: the whole record of a whole stream', (t) => {
  const usage = { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6 }
  const request = '{"model":"qwen","stream":true}'
  const chunks = [
    sse({ id: 'c', choices: [{ index: 0, delta: { role: 'assistant' } }] }, null),
    ': ping\n\n',
    sse(DELTA, null),
    sse(LAST, { choices: [], usage, metadata: { weight_version: 7 } }),
  ]
  const { derived, ...record } = derive({
    begin: {
      target: '/runs/r/sessions/s/v1/chat/completions?x=1',
      run: 'r',
      turn: 3,
      seq: 12,
      tags: { env: 'größe' },
      policyVersion: 'step-7',
    },
    request,
    headers: SSE,
    chunks,
  })
  t.strictSame(record, {
    model: 'qwen',
    stream: true,
    status: 'success',
    response_time: 0.091,
    start_time: 1_760_000_000.25,
    end_time: 1_760_000_000.341,
    request: { model: 'qwen', stream: true },
    response: {
      id: 'c',
      choices: [{ index: 0, message: { role: 'assistant', content: 'a' }, finish_reason: 'stop' }],
      usage,
      metadata: { weight_version: 7 },
      object: 'chat.completion',
    },
    error: null,
    schema: 'rolltape.record/1',
    id: 'r-1',
    seq: 12,
    session: 's',
    turn: 3,
    run: 'r',
    protocol: 'openai.chat',
    method: 'POST',
    path: '/v1/chat/completions?x=1',
    http_status: 200,
    outcome: 'complete',
    partial: false,
    flags: [],
    finish_reasons: ['stop'],
    tokens: null,
    usage: {
      normalized: { input: 5, output: 1, cache_read: 0, cache_write: 0, reasoning: 0, total: 6 },
      raw: usage,
    },
    timings: { ttfb_ms: 50, ttft_ms: 80, duration_ms: 91, chunks: 4, max_gap_ms: 10 },
    attempts: [{ upstream: 'http://127.0.0.1:8000', status: 200, error: null, duration_ms: 91 }],
    policy: {
      dispatch: 'step-7',
      first_byte: 'step-7',
      end: 'step-7',
      engine: '7',
      mixed: false,
    },
    upstream: 'http://127.0.0.1:8000',
    key_hmac: null,
    sha256: { request: hash('sha256', request), response: hash('sha256', chunks.join('')) },
    tape: { segment: '0-000001.tape', end: 4096 },
    tags: { env: 'größe' },
  })
  const { request: _request, response: _response, tokens: _tokens, ...rest } = record
  t.strictSame(JSON.parse(JSON.stringify([derived.summary, derived.part])), [rest, 1])
  t.match(derived.line.toString(), '"env":"größe"', 'non-ASCII is not escaped')
  t.strictSame(Object.keys(record).slice(0, 9), [
    'model',
    'stream',
    'status',
    'response_time',
    'start_time',
    'end_time',
    'request',
    'response',
    'error',
  ])
  t.end()
})

void t.test('R19: JSON is spliced in as sent, line breaks apart', (t) => {
  const json = `\ufeff{\r\n  "seed": 12345678901234567890,\n"a":1e-05,"b":1.0,"c":-0.0,"a":"\\u00e9\\n\\/ü","d":[ ]}\n`
  const same = `{    "seed": 12345678901234567890, "a":1e-05,"b":1.0,"c":-0.0,"a":"\\u00e9\\n\\/ü","d":[ ]}`
  const line = lineOf({ request: json, chunks: [json] })
  t.ok(line.includes(`"request":${same},"response":${same},"error":null`), line)
  t.notMatch(line, /[\r\n]/)
  t.end()
})

void t.test('R19: JSON that is not UTF-8 makes a line that is, and says so', (t) => {
  const bytes = Buffer.from('{"model":"m","a":"\xff"}', 'latin1')
  const { derived, request, response, flags } = derive({ request: bytes, chunks: [bytes] })
  t.strictSame(
    [request, response],
    [
      { model: 'm', a: '\ufffd' },
      { model: 'm', a: '\ufffd' },
    ],
  )
  t.strictSame(flags, ['invalid_utf8'])
  t.doesNotThrow(() => new TextDecoder('utf-8', { fatal: true }).decode(derived.line))
  t.end()
})

void t.test('R2: of a request that is no JSON what can be read is told', (t) => {
  const { model, stream, request } = derive({
    request: '{"model":"m","stream":true,"messages":[{"content":"cut',
  })
  t.strictSame([model, stream, request], ['m', true, null])
  const empty = derive({ request: '' })
  t.strictSame([empty.model, empty.stream, empty.request], [null, false, null])
  t.end()
})

void t.test('M1: a Gemini path tells model and stream', (t) => {
  const target = '/v1beta/models/gemini-3%2Dpro:streamGenerateContent?alt=sse'
  const { model, stream, protocol } = derive({ begin: { target }, request: '{}', headers: SSE })
  t.strictSame([model, stream, protocol], ['gemini-3-pro', true, 'gemini.generate'])
  t.end()
})

void t.test('M1: unary answers of all protocols tell reasons and usage', (t) => {
  const cases = [
    [
      '/v1/chat/completions',
      { choices: [{ finish_reason: 'stop' }, {}], usage: { prompt_tokens: 1 } },
    ],
    ['/v1/completions', { choices: [{ finish_reason: 'length' }], usage: { prompt_tokens: 1 } }],
    ['/v1/responses', { object: 'response', status: 'completed', usage: { input_tokens: 1 } }],
    ['/v1/messages', { type: 'message', stop_reason: 'end_turn', usage: { input_tokens: 1 } }],
    [
      '/v1beta/models/g:generateContent',
      { candidates: [{ finishReason: 'STOP' }], usageMetadata: { promptTokenCount: 1 } },
    ],
    [
      '/v1beta/models/g:streamGenerateContent',
      [
        { candidates: [{}] },
        { candidates: [{ finishReason: 'STOP' }], usageMetadata: { promptTokenCount: 1 } },
      ],
    ],
    ['/v1/messages', { type: 'error', error: {} }],
  ] as const
  const readings = cases.map(([target, body]) => {
    const { finish_reasons, usage } = derive({ begin: { target }, chunks: [JSON.stringify(body)] })
    return [finish_reasons, usage?.normalized.input]
  })
  t.strictSame(readings, [
    [['stop', null], 1],
    [['length'], 1],
    [['completed'], 1],
    [['end_turn'], 1],
    [['STOP'], 1],
    [['STOP'], 1],
    [[], undefined],
  ])
  t.end()
})

void t.test(
  'O20, M55: tokens that are required and not all there, and odd usage, are flagged',
  (t) => {
    const body = {
      choices: [{ index: 0, message: {}, token_ids: [1, 2] }],
      usage: { prompt_tokens: -1, completion_tokens: 2 },
    }
    const chunks = [JSON.stringify(body)]
    const begin = { requiresTokens: true } as const
    t.strictSame(derive({ chunks, begin }).flags, ['tokens_incomplete', 'usage_odd'])
    t.strictSame(derive({ chunks }).flags, ['usage_odd'], 'nobody requires them')
    t.strictSame(derive({ chunks: ['{"choices":[]}'], begin }).flags, ['tokens_incomplete'])
    t.strictSame(derive({ chunks: ['{}'], status: 400, begin }).flags, [])
    t.strictSame(
      derive({ chunks: ['{}'], begin: { ...begin, target: '/v1/embeddings' } }).flags,
      [],
    )
    t.end()
  },
)

void t.test('O20: a request that is no generation has no turn', (t) => {
  t.equal(derive({ begin: { turn: 0, target: '/v1/models', method: 'GET' } }).turn, null)
  t.end()
})

void t.test('M40: without an end the times are those of the last thing on tape', (t) => {
  const times = (situation: Situation) => derive({ cause: null, ...situation }).timings
  t.strictSame(
    [times({ chunks: ['{', '}'] }), times({}), times({ head: false })],
    [
      { ttfb_ms: 50, ttft_ms: null, duration_ms: 70, chunks: 2, max_gap_ms: 10 },
      { ttfb_ms: 50, ttft_ms: null, duration_ms: 50, chunks: 0, max_gap_ms: null },
      { ttfb_ms: null, ttft_ms: null, duration_ms: 0, chunks: 0, max_gap_ms: null },
    ],
  )
  t.end()
})

void t.test('M40: what rolltape answers itself has no first byte of an upstream', (t) => {
  t.equal(derive({ own: true, status: 503, chunks: ['{}'] }).timings.ttfb_ms, null)
  t.end()
})

void t.test('R18: the answer hash is that of the bytes forwarded', (t) => {
  const hashOf = (situation: Situation) => derive(situation).sha256.response
  const part = hashOf({ chunks: ['{}', 'x'], cause: 'client_gone', end: { bytesForwarded: 2 } })
  t.equal(part, hashOf({ chunks: ['{}'] }))
  t.equal(hashOf({ head: false, cause: 'client_gone' }), null)
  t.end()
})

void t.test('M53: attempts are told with their upstream, status, error and duration', (t) => {
  const attempts = [
    { upstream: 'http://a', status: null, error: 'upstream_reset', durationMs: 3 },
    { upstream: 'http://b', status: 200, error: null, durationMs: 5 },
  ]
  const { line } = deriveRecord({ ...taped({ chunks: ['{}'] }), attempts })
  t.strictSame((JSON.parse(line.toString()) as { attempts: unknown }).attempts, [
    { upstream: 'http://a', status: null, error: 'upstream_reset', duration_ms: 3 },
    { upstream: 'http://b', status: 200, error: null, duration_ms: 5 },
  ])
  t.end()
})

void t.test('R18: an answer that derive stumbles over is a record still', (t) => {
  // Deeper than merging can recurse.
  const deep = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`
  const text = `data: {"choices":[{"index":0,"delta":{"x":${deep}}}]}\n\ndata: [DONE]\n\n`
  const { status, response, flags, error, request, sha256 } = derive({
    headers: SSE,
    chunks: [text],
  })
  t.strictSame([status, response, flags], ['failure', null, ['derive_failed']])
  t.match(error, /^derive_failed: /)
  t.strictSame(request, { model: 'm', messages: [] })
  t.match(sha256.response, /^[0-9a-f]{64}$/)
  t.end()
})

void t.test('R18: an answer over a bound is a failure that names the bound', (t) => {
  const limits = { decodedBytesMax: 400, eventCharsMax: 200 }
  const read = (situation: Situation) => {
    const { line } = deriveRecord(taped(situation), limits)
    const { response, error, outcome } = JSON.parse(line.toString()) as ExchangeRecord
    return [response !== null, error, outcome]
  }
  t.strictSame(read({ chunks: ['{}'.padEnd(400)] }), [true, null, 'complete'])
  t.strictSame(read({ chunks: ['{}'.padEnd(401)] }), [
    false,
    'the answer has more than 400 bytes',
    'complete',
  ])
  const long = [sse(DELTA, null), `data: ${'x'.repeat(201)}`, '\n\n']
  t.strictSame(read({ headers: SSE, chunks: long, cause: 'client_gone' }), [
    false,
    'client_gone: the client went away before it had the whole answer',
    'client_gone',
  ])
  const tooLong = 'an event has more than 200 characters'
  const ended = [...long, 'data: [DO', 'NE]\n\n']
  t.strictSame(read({ headers: SSE, chunks: ended }), [false, tooLong, 'complete'])
  t.strictSame(
    read({ headers: SSE, chunks: ended, cause: 'client_gone' }),
    [false, tooLong, 'complete'],
    'the client left behind the mark',
  )
  const bytesForwarded = long.join('').length
  t.match(
    read({ headers: SSE, chunks: ended, cause: 'client_gone', end: { bytesForwarded } }),
    [false, /^client_gone/, 'client_gone'],
    'the client left before the mark',
  )
  t.match(read({ headers: SSE, chunks: long }), [false, /^truncated/, 'truncated'])
  const many = Array.from({ length: 10 }, () => sse(DELTA, null))
  const whole = [...many, 'data: [DONE]\n\n']
  const tooMany = 'the answer has more than 400 bytes'
  t.strictSame(read({ headers: SSE, chunks: whole }), [false, tooMany, 'complete'])
  t.match(read({ headers: SSE, chunks: many }), [false, /^truncated/, 'truncated'])
  const afterMark = [sse(DELTA), `data: ${'x'.repeat(201)}`, '\n\n']
  t.strictSame(read({ headers: SSE, chunks: afterMark }), [
    true,
    'an event has more than 200 characters',
    'complete',
  ])
  t.end()
})

void t.test('R18: the line owns its memory', (t) => {
  const { line } = deriveRecord(taped({ chunks: ['{}'] }))
  t.strictSame([line.byteOffset, line.buffer.byteLength], [0, line.length])
  t.end()
})

void t.test('R20: any chunking of a stream gives the same record, times apart', (t) => {
  const call = (delta: object) => ({ choices: [{ index: 0, delta: { tool_calls: [delta] } }] })
  const bytes = Buffer.from(
    `: hi\r\n\r\n${sse(
      { id: 'c', choices: [{ index: 0, delta: { content: 'größer 😀' } }] },
      call({ index: 0, id: 't', function: { name: 'f', arguments: '{"ü":' } }),
      call({ index: 0, function: { arguments: '1}' } }),
      LAST,
    )}`,
  )
  const bodyOf = (chunks: Buffer[]) => {
    const { derived: _derived, timings: _timings, ...rest } = derive({ headers: SSE, chunks })
    const { response_time: _time, end_time: _end, attempts: _attempts, ...record } = rest
    return JSON.stringify(record)
  }
  const whole = bodyOf([bytes])
  for (let cut = 1; cut < bytes.length; cut++) {
    const same = bodyOf([bytes.subarray(0, cut), bytes.subarray(cut)]) === whole
    if (!same) t.fail(`cut at ${cut}`)
  }
  const property = fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
    const places = [0, ...cuts.sort((a, b) => a - b), bytes.length]
    return bodyOf(places.slice(1).map((to, at) => bytes.subarray(places[at], to))) === whole
  })
  t.doesNotThrow(() => fc.assert(property, { numRuns: 200 }))
  t.end()
})

void t.test('R18: any bytes anywhere give one line of valid JSON', (t) => {
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.json().map((text) => Buffer.from(text)),
    fc
      .array(fc.jsonValue(), { maxLength: 4 })
      .map((values) => Buffer.from(sse(...(values as object[])))),
  )
  const property = fc.property(
    body,
    fc.array(body, { maxLength: 3 }),
    fc.constantFrom(
      '/v1/chat/completions',
      '/v1/completions',
      '/v1/messages',
      '/v1/responses',
      '/x',
      '/m:generateContent',
    ),
    fc.constantFrom(SSE, JSON_TYPE, []),
    fc.constantFrom('gzip', 'deflate', 'br', 'zstd', 'identity', 'made-up, gzip'),
    fc.constantFrom('upstream_end', 'client_gone', 'upstream_reset', null),
    (request, chunks, target, type, encoding, cause) => {
      const headers: [string, string][] = [...type, ['content-encoding', encoding]]
      const situation = {
        begin: { target },
        request: Buffer.from(request),
        chunks: chunks.map((chunk) => Buffer.from(chunk)),
        headers: encoding === 'identity' ? type : headers,
        cause,
      }
      const line = new TextDecoder('utf-8', { fatal: true }).decode(
        deriveRecord(taped(situation)).line,
      )
      const { flags } = JSON.parse(line) as { flags: string[] }
      return !/[\r\n]/.test(line) && !flags.includes('derive_failed')
    },
  )
  t.doesNotThrow(() => fc.assert(property, { numRuns: 3000 }))
  t.end()
})
