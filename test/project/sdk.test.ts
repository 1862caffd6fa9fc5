/**
 * The official SDK through rolltape: base URLs as people write them, errors as the upstream sent
 * them, and the times that the record tells of a stream.
 */
import OpenAI, { APIError, BadRequestError, InternalServerError, RateLimitError } from 'openai'
import t from 'tap'

import { startInferenceServer } from '../../src/inference/server.ts'
import type { Scenario } from '../../src/inference/scenario.ts'
import { startRecorder } from '../support/recorder.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

function params(stream: boolean, scenario: Scenario): OpenAI.ChatCompletionCreateParams {
  const messages = [{ role: 'user', content: 'Hi' }]
  // `scenario` is none of the SDK's fields.
  return {
    model: 'demo',
    messages,
    stream,
    scenario,
  } as unknown as OpenAI.ChatCompletionCreateParams
}

function open(baseURL: string): OpenAI {
  return new OpenAI({ baseURL, apiKey: 'sk-test', maxRetries: 0 })
}

t.test(
  'O12 R7: bases with and without a version, and a last slash, meet at one path',
  async (t) => {
    for (const base of ['', '/', '/v1', '/v1/']) {
      const recorder = await startRecorder(t, `${upstream.url}${base}`)
      for (const own of ['/v1', '/v1/', '/sessions/a/v1']) {
        const openai = open(`${recorder.url}${own}`)
        const models = await openai.models.list()
        t.equal(models.data[0]?.id, 'demo', `upstream ${base || 'bare'}, client ${own}`)
        await openai.chat.completions.create(params(false, {}))
      }
      const records = await recorder.finish()
      t.strictSame(
        records.map(({ path, http_status }) => [path, http_status]),
        Array.from({ length: 3 }).flatMap(() => [
          ['/v1/models', 200],
          ['/v1/chat/completions', 200],
        ]),
      )
    }
  },
)

t.test(
  'O16 R9 R16: an error is an error to the SDK, streamed or not, as the upstream sent it',
  async (t) => {
    const recorder = await startRecorder(t, upstream.url)
    const direct = open(`${upstream.url}/v1`)
    const through = open(`${recorder.url}/v1`)
    for (const [status, type] of [
      [400, BadRequestError],
      [429, RateLimitError],
      [500, InternalServerError],
      [503, InternalServerError],
    ] as const) {
      for (const stream of [false, true]) {
        const thrown = await Promise.all(
          [direct, through].map((openai) =>
            openai.chat.completions.create(params(stream, { status })).then(
              () => undefined,
              (error: unknown) => error as APIError,
            ),
          ),
        )
        const [wanted, met] = thrown
        t.ok(met instanceof type, `${status}, stream ${stream}`)
        t.strictSame([met?.status, met?.error], [wanted?.status, wanted?.error])
      }
    }
    const records = await recorder.finish()
    t.ok(records.every(({ outcome, status }) => outcome === 'complete' && status === 'failure'))
  },
)

t.test(
  'M40 M41: the record times the head, the first visible output and the longest gap',
  async (t) => {
    const recorder = await startRecorder(t, upstream.url)
    const openai = open(`${recorder.url}/v1`)
    const scenario = { first_byte_ms: 60, pace_ms: 15, words: 4 }
    const ask = async (extra: Scenario) => {
      const stream = await openai.chat.completions.create({
        ...(params(true, { ...scenario, ...extra }) as OpenAI.ChatCompletionCreateParamsStreaming),
      })
      let events = 0
      for await (const _ of stream) events += 1
      return events
    }
    const events = [await ask({}), await ask({ reasoning_words: 3 })]
    await openai.chat.completions.create(params(false, { first_byte_ms: 60 }))
    const records = await recorder.finish()
    for (const [index, record] of records.slice(0, 2).entries()) {
      const { head, chunks, end } = recorder.taped(record)
      const at = chunks.map(({ atUs }) => atUs / 1e3)
      const visible = chunks.findIndex(({ bytes }) =>
        /"(?:content|reasoning)":"[^"]/.test(`${bytes}`),
      )
      t.strictSame(record.timings, {
        ttfb_ms: head!.atUs / 1e3,
        ttft_ms: at[visible],
        duration_ms: end!.atUs / 1e3,
        chunks: chunks.length,
        max_gap_ms: Math.max(
          0,
          ...chunks.slice(1).map(({ atUs }, i) => (atUs - chunks[i]!.atUs) / 1e3),
        ),
      })
      t.equal(record.response_time, end!.atUs / 1e6)
      t.ok(head!.atUs >= 55_000, 'the head was waited for')
      t.ok(end!.atUs >= 60_000 + 14_000 * (events[index]! - 1), 'and so was each event')
    }
    const [, thinking, unary] = records
    const [first] = recorder
      .taped(thinking!)
      .chunks.filter(({ bytes }) => bytes.includes('"reasoning":"'))
    t.equal(thinking!.timings.ttft_ms, first!.atUs / 1e3, 'reasoning is visible')
    t.equal(unary!.timings.ttft_ms, null)
    t.ok(unary!.timings.ttfb_ms! >= 55)
  },
)
