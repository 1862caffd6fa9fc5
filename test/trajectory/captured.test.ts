/**
 * An exchange whose answer was stripped on its way to the client: the record tells what the client
 * got, and its tokens are those of the answer as it came.
 */
import { hash } from 'node:crypto'
import t from 'tap'
import type { SentFrame, TapedExchange } from '../../src/tape/exchange.ts'
import { tapedAnswer } from '../../src/replay/answer.ts'
import { deriveRecord } from '../../src/trajectory/derive.ts'
import type { ExchangeRecord } from '../../src/trajectory/record.ts'
import { JSON_TYPE, SSE, sse, taped } from './exchange.ts'
import type { Situation } from './exchange.ts'

const SENT: SentFrame = {
  transforms: [{ name: 'capture', version: 1, profile: 'vllm/1', changes: [] }],
  strip: {
    version: 1,
    rules: [
      { path: 'prompt_token_ids', how: 'remove' },
      { path: 'choices/*/token_ids', how: 'remove' },
      { path: 'choices/*/logprobs', how: 'null' },
    ],
    dropsEmpty: true,
    dropsUsage: true,
    eventBytesMax: 10_000,
    bodyBytesMax: 10_000,
  },
}

const logprobs = (...given: number[]) => ({
  content: given.map((logprob) => ({ token: 't', logprob, top_logprobs: [] })),
})

const WHOLE = JSON.stringify({
  prompt_token_ids: [7, 8],
  choices: [
    { index: 0, message: { content: 'ab' }, logprobs: logprobs(-1, -2), token_ids: [1, 2] },
  ],
  usage: { prompt_tokens: 2, completion_tokens: 2, total_tokens: 4 },
})
const SEEN =
  '{"choices":[{"index":0,"message":{"content":"ab"},"logprobs":null}],' +
  '"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}'

const EVENTS = [
  sse({ prompt_token_ids: [7], choices: [{ index: 0, delta: { role: 'assistant' } }] }, null),
  sse({ choices: [{ index: 0, delta: {}, logprobs: logprobs(-1), token_ids: [1] }] }, null),
  sse(
    { choices: [{ index: 0, delta: { content: 'b' }, logprobs: logprobs(-2), token_ids: [2] }] },
    null,
  ),
  sse(
    { choices: [{ index: 0, delta: {}, finish_reason: 'stop', logprobs: null, token_ids: [] }] },
    null,
  ),
  sse({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 } }),
]
const SEEN_EVENTS = [
  sse({ choices: [{ index: 0, delta: { role: 'assistant' } }] }, null),
  sse({ choices: [{ index: 0, delta: { content: 'b' }, logprobs: null }] }, null),
  sse({ choices: [{ index: 0, delta: {}, finish_reason: 'stop', logprobs: null }] }, null),
  sse(),
]

function stripped(situation: Situation, sent: SentFrame = SENT): TapedExchange {
  return { ...taped(situation), sent }
}

function recordOf(exchange: TapedExchange): ExchangeRecord {
  return JSON.parse(deriveRecord(exchange).line.toString()) as ExchangeRecord
}

/** What a replay of it gives: the body, its chunks, headers, and whether it ends well. */
function replayed(exchange: TapedExchange) {
  const answer = tapedAnswer(exchange)
  if (typeof answer === 'string') throw new Error(answer)
  const { body, lengths, head, whole } = answer
  return { body: Buffer.from(body).toString(), lengths: [...lengths], flat: head.flat, whole }
}

t.test('O13 O20: an answer in one piece', async (t) => {
  const length = (bytes: number): [string, string] => ['Content-Length', String(bytes)]
  const headers = [...JSON_TYPE, length(WHOLE.length)]
  const exchange = stripped({
    headers,
    chunks: [WHOLE.slice(0, 20), WHOLE.slice(20)],
    end: { bytesForwarded: SEEN.length },
  })
  const record = recordOf(exchange)
  t.equal(JSON.stringify(record.response), SEEN)
  t.match(record, {
    status: 'success',
    outcome: 'complete',
    partial: false,
    sha256: { response: hash('sha256', SEEN) },
    tokens: [{ prompt_token_ids: [7, 8], token_ids: [1, 2], logprobs: [-1, -2], aligned: true }],
    timings: { chunks: 2 },
  })
  t.strictSame(record.transforms, [
    ...SENT.transforms,
    {
      name: 'strip',
      version: 1,
      removed: ['prompt_token_ids', 'choices/*/token_ids', 'choices/*/logprobs', 'usage'],
    },
  ])
  t.strictSame(replayed(exchange), {
    body: SEEN,
    lengths: [SEEN.length],
    flat: [...JSON_TYPE.flat(), ...length(SEEN.length)],
    whole: true,
  })
  t.strictSame(recordOf({ ...exchange, end: undefined }).flags, ['recovered'])
  t.equal(replayed({ ...exchange, end: undefined }).body, SEEN)
  const unsized = stripped({ chunks: [WHOLE], cause: null })
  t.match(recordOf(unsized), { outcome: 'complete', response: JSON.parse(SEEN) })
})

t.test('O17 O20: a stream, event by event, at the times they came', async (t) => {
  const seen = SEEN_EVENTS.join('')
  const end = { bytesForwarded: seen.length }
  const exchange = stripped({ headers: SSE, chunks: EVENTS, end })
  const record = recordOf(exchange)
  t.match(record, {
    status: 'success',
    outcome: 'complete',
    sha256: { response: hash('sha256', seen) },
    usage: { normalized: { input: 1, output: 2 } },
    tokens: [{ prompt_token_ids: [7], token_ids: [1, 2], logprobs: [-1, -2], aligned: true }],
    timings: { ttft_ms: 80, chunks: 5 },
  })
  t.notMatch(JSON.stringify(record.response), /token_ids|usage|"t"/)
  t.strictSame(replayed(exchange), {
    body: seen,
    lengths: SEEN_EVENTS.map(({ length }) => length),
    flat: SSE.flat(),
    whole: true,
  })
})

t.test('O13: what was too long to be stripped is told', async (t) => {
  const last = (bounds: object, situation: Situation) => {
    const sent = { ...SENT, strip: { ...SENT.strip!, ...bounds } }
    return recordOf(stripped(situation, sent)).transforms?.at(-1)
  }
  t.strictSame(last({ bodyBytesMax: 50 }, { headers: JSON_TYPE, chunks: [WHOLE] }), {
    name: 'strip',
    version: 1,
    skipped: 'the answer has more than 50 bytes',
  })
  const removed = ['prompt_token_ids', 'choices/*/token_ids', 'choices/*/logprobs', 'usage']
  t.strictSame(last({ eventBytesMax: 60 }, { headers: SSE, chunks: EVENTS }), {
    name: 'strip',
    version: 1,
    removed,
    skipped: 'events of more than 60 bytes',
  })
})

t.test('O13: what broke off is what the client got of it', async (t) => {
  const cut = stripped({
    headers: [...JSON_TYPE, ['content-length', String(WHOLE.length)]],
    chunks: [WHOLE.slice(0, 50)],
    cause: 'upstream_reset',
    end: { bytesForwarded: 0 },
  })
  t.match(recordOf(cut), { outcome: 'upstream_error', partial: true, response: null })
  t.match(replayed(cut), { body: '', whole: false })
  const seen = SEEN_EVENTS[0]!
  const stream = stripped({
    headers: SSE,
    chunks: [EVENTS[0]!, EVENTS[2]!.slice(0, 40)],
    cause: 'upstream_reset',
    end: { bytesForwarded: seen.length },
  })
  t.match(recordOf(stream), {
    outcome: 'upstream_error',
    sha256: { response: hash('sha256', seen) },
  })
  t.match(replayed(stream), { body: seen, whole: false })
  const left = stripped({ headers: SSE, chunks: EVENTS, end: { bytesForwarded: 10 } })
  t.match(recordOf(left), { outcome: 'client_gone', tokens: [{ aligned: true }] })
})

t.test('an answer that could not be stripped is told as it is', async (t) => {
  const body = JSON.stringify({ error: { message: 'no' } })
  const exchange = stripped({ status: 500, chunks: [body] })
  t.strictSame(recordOf(exchange).transforms?.at(-1), {
    name: 'strip',
    version: 1,
    skipped: 'status 500',
  })
  t.equal(replayed(exchange).body, body)
  const own = { ...stripped({ own: true, status: 502, chunks: [body] }) }
  t.strictSame(recordOf(own).transforms, SENT.transforms)
})

t.test('O20: alternatives are recorded where the client has asked for some', async (t) => {
  const top = [{ token: 'x', logprob: -3 }]
  const content = [{ token: 't', logprob: -1, top_logprobs: top }]
  const body = JSON.stringify({ choices: [{ index: 0, logprobs: { content }, token_ids: [1] }] })
  const asked = (request: object) =>
    recordOf(taped({ request: JSON.stringify(request), chunks: [body] })).tokens?.[0]?.top_logprobs
  t.strictSame(asked({ logprobs: true, top_logprobs: 1 }), [top])
  t.strictSame(asked({ logprobs: true, top_logprobs: 0 }), undefined)
  t.strictSame(asked({ logprobs: true }), undefined)
  t.strictSame(asked({}), undefined)
  t.strictSame(asked({ logprobs: 2 }), [top], 'completions')
})

t.test('the policy at three moments, the group, and the SDK that tries again', async (t) => {
  const policy = (begin: string, more: TapedExchange['policy'], situation: Situation = {}) =>
    recordOf({
      ...taped({ chunks: ['{}'], ...situation, begin: { policyVersion: begin } }),
      ...(more && { policy: more }),
    }).policy
  const stamps =
    (mixed: boolean) =>
    (dispatch: string | null, ...more: (string | null)[]) => {
      const [first_byte = null, end = null] = more
      return { dispatch, first_byte, end, engine: null, mixed }
    }
  const [told, mixed] = [stamps(false), stamps(true)]
  t.strictSame(policy('', undefined), told(null, null, null))
  t.strictSame(policy('1', undefined), told('1', '1', '1'))
  t.strictSame(policy('1', { end: '2' }), mixed('1', '1', '2'))
  t.strictSame(policy('1', { firstByte: '2', end: '2' }), mixed('1', '2', '2'))
  t.strictSame(policy('', { end: '2' }), mixed(null, null, '2'), 'known late')
  t.strictSame(policy('', { firstByte: '2', end: '2' }), mixed(null, '2', '2'), 'known late')
  t.strictSame(policy('1', { end: '' }), mixed('1', '1', null), 'forgotten')
  t.strictSame(policy('1', { end: '2' }, { head: false }), mixed('1', null, '2'))
  t.strictSame(policy('1', undefined, { head: false }), told('1', null, '1'), 'no such moment')
  t.strictSame(policy('1', { end: '2' }, { cause: null }), told('1', '1', null))
  const retry = (value: string) =>
    recordOf(taped({ begin: { headers: [['X-Stainless-Retry-Count', value]] } })).client_retry
  t.strictSame(['0', '1', '2', 'x', ''].map(retry), [undefined, 1, 2, undefined, undefined])
  t.equal(recordOf(taped({ begin: { group: 'g 1' } })).group, 'g 1')
  t.notOk('group' in recordOf(taped()))
})
