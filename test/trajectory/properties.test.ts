/**
 * What holds of any stream, drawn at random: nothing makes derive throw, known text is in the record
 * whatever stands between its events, and how the bytes were cut changes nothing but times. For
 * every protocol whose streams are understood. fast-check prints its seed; `LONG=1` draws ten times
 * as many.
 */
import * as fc from 'fast-check'
import t from 'tap'
import type { ExchangeRecord } from '../../src/trajectory/record.ts'
import { SSE, derive } from './exchange.ts'

const numRuns = process.env['LONG'] === '1' ? 2_000 : 200

/** How a protocol says pieces of text, and where a record has them. */
interface Dialect {
  readonly target: string
  readonly piece: (text: string) => object
  /** Events at the end, where the stream comes to one; after them the mark, if it is none of these. */
  readonly last: (text: string) => object[]
  readonly mark: string | null
  readonly textOf: (response: never) => string
}

const chunk = (choice: object): object => ({ id: 'c', choices: [{ index: 0, ...choice }] })

interface Events {
  readonly events: readonly Record<string, never>[]
}

const DIALECTS: Record<string, Dialect> = {
  'openai.chat': {
    target: '/v1/chat/completions',
    piece: (content) => chunk({ delta: { content } }),
    last: () => [chunk({ delta: {}, finish_reason: 'stop' })],
    mark: '[DONE]',
    textOf: ({ choices }: { choices: { message: { content: string | null } }[] }) =>
      choices[0]?.message.content ?? '',
  },
  'openai.completions': {
    target: '/v1/completions',
    piece: (text) => chunk({ text }),
    last: () => [chunk({ text: '', finish_reason: 'stop' })],
    mark: '[DONE]',
    textOf: ({ choices }: { choices: { text: string }[] }) => choices[0]?.text ?? '',
  },
  'openai.responses': {
    target: '/v1/responses',
    piece: (delta) => ({ type: 'response.output_text.delta', delta }),
    last: (text) => [
      {
        type: 'response.completed',
        response: { status: 'completed', output: [{ content: [{ text }] }] },
      },
    ],
    mark: null,
    textOf: (response: Events & { output?: { content: { text: string }[] }[] }) =>
      response.output?.[0]?.content[0]?.text ??
      response.events.map(({ delta = '' }) => delta as string).join(''),
  },
  'anthropic.messages': {
    target: '/v1/messages',
    piece: (text) => ({ type: 'content_block_delta', delta: { type: 'text_delta', text } }),
    last: () => [
      { type: 'message_delta', delta: { stop_reason: 'end_turn' } },
      { type: 'message_stop' },
    ],
    mark: null,
    textOf: ({ events }: Events) =>
      events.map(({ delta }) => (delta as { text?: string } | undefined)?.text ?? '').join(''),
  },
  'gemini.generate': {
    target: '/v1beta/models/g:streamGenerateContent?alt=sse',
    piece: (text) => ({ candidates: [{ content: { parts: [{ text }] } }] }),
    last: () => [{ candidates: [{ finishReason: 'STOP' }] }],
    mark: null,
    textOf: ({ events }: Events) =>
      events
        .flatMap(
          ({ candidates = [] }) => candidates as { content?: { parts: { text: string }[] } }[],
        )
        .map(({ content }) => content?.parts[0]?.text ?? '')
        .join(''),
  },
}

/** A line that says nothing: it must not be taken for a field of an event. */
const noise = fc
  .uint8Array({ maxLength: 12 })
  .map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 0x0a && byte !== 0x0d)))

/** What may stand between two events, line by line. */
const garbage: fc.Arbitrary<readonly Buffer[]> = fc.oneof(
  noise.map((bytes) => [Buffer.concat([Buffer.from(':'), bytes])]),
  noise.map((bytes) => [Buffer.concat([Buffer.from('x-field: '), bytes])]),
  noise.map((bytes) => [Buffer.concat([Buffer.from('data: {"broken'), bytes]), Buffer.alloc(0)]),
  fc
    .constantFrom('data', 'data:', 'data: null', 'data: [1]', 'data: {"x":1}', 'event: other')
    .map((line) => [Buffer.from(line), Buffer.alloc(0)]),
  fc.constantFrom('', 'retry: 10', 'retry: soon', 'id: 7').map((line) => [Buffer.from(line)]),
)

/** An event's lines: its JSON in one, or in as many as it has when it is indented. */
function linesOf(event: object | string, isSplit: boolean): Buffer[] {
  const text = typeof event === 'string' ? event : JSON.stringify(event, null, isSplit ? 1 : 0)
  return [...text.split('\n').map((line) => Buffer.from(`data: ${line}`)), Buffer.alloc(0)]
}

interface Drawn {
  readonly texts: readonly string[]
  readonly between: readonly (readonly Buffer[])[]
  readonly lineEnd: string
  readonly isSplit: boolean
  readonly isWhole: boolean
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  texts: fc.array(fc.string({ unit: 'binary', maxLength: 8 }), { minLength: 1, maxLength: 6 }),
  between: fc.array(garbage, { maxLength: 10 }),
  lineEnd: fc.constantFrom('\n', '\r\n', '\r'),
  isSplit: fc.boolean(),
  isWhole: fc.boolean(),
})

/** The stream's bytes: garbage before each event as long as there is some. */
function streamOf({ piece, last, mark }: Dialect, drawn: Drawn): Buffer {
  const { texts, between, lineEnd, isSplit, isWhole } = drawn
  const ends = isWhole ? [...last(texts.join('')), ...(mark === null ? [] : [mark])] : []
  const lines = [...texts.map(piece), ...ends].flatMap((event, i) => [
    ...(between[i] ?? []),
    ...linesOf(event, isSplit),
  ])
  return Buffer.concat(lines.flatMap((line) => [line, Buffer.from(lineEnd)]))
}

/** All of a record but what hangs on when chunks came. */
const TIMES = new Set(['response_time', 'end_time', 'timings', 'duration_ms', 'derived'])

function timeless(record: ExchangeRecord): string {
  return JSON.stringify(record, (key, value: unknown) => (TIMES.has(key) ? undefined : value))
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length))
}

for (const [protocol, dialect] of Object.entries(DIALECTS)) {
  const request = '{"model":"m","stream":true}'
  const begin = { target: dialect.target }
  const read = (chunks: readonly Buffer[]) => derive({ begin, request, headers: SSE, chunks })

  t.test(
    `R20 R21: ${protocol}: known text is in the record, whatever stands between`,
    async (t) => {
      let wholes = 0
      const property = fc.property(drawn, (stream) => {
        const record = read([streamOf(dialect, stream)])
        if (stream.isWhole && record.outcome === 'complete') wholes++
        if (record.flags.includes('derive_failed')) throw new Error(String(record.error))
        const text = dialect.textOf(record.response as never)
        if (text !== stream.texts.join('')) throw new Error(`${JSON.stringify(text)} is what came`)
        if (stream.isWhole && record.outcome !== 'complete') throw new Error(record.outcome)
      })
      t.doesNotThrow(() => fc.assert(property, { numRuns }))
      t.ok(wholes > 0)
    },
  )

  t.test(`R21: ${protocol}: any cuts give the same record but for its times`, async (t) => {
    const places = fc.array(fc.nat(), { maxLength: 12 })
    const property = fc.property(drawn, places, (stream, at) => {
      const bytes = streamOf(dialect, stream)
      const [one, many] = [read([bytes]), read(cut(bytes, at))].map(timeless)
      if (one !== many) throw new Error(`${many} is not ${one}`)
    })
    t.doesNotThrow(() => fc.assert(property, { numRuns }))
  })

  t.test(`R20: ${protocol}: no bytes at all make derive fail`, async (t) => {
    const word = fc
      .constantFrom('data: ', 'event: ', '\n\n', '\r', '{"choices":[', '{', '}', ']', '"delta":{')
      .map((text) => Buffer.from(text))
    const anything = fc.array(
      fc.oneof(
        word,
        fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
        fc.json().map((text) => Buffer.from(`data: ${text}\n\n`)),
        fc.json().map((of) => Buffer.from(`data: {"choices":[${of}],"candidates":${of}}\n\n`)),
        fc.json().map((of) => Buffer.from(`data: {"choices":[{"delta":${of},"index":${of}}]}\n\n`)),
        fc.json().map((of) => Buffer.from(`data: {"type":"message_delta","delta":${of}}\n\n`)),
      ),
      { maxLength: 12 },
    )
    const property = fc.property(anything, fc.boolean(), (chunks, isStream) => {
      const headers = isStream ? SSE : []
      const record = derive({ begin, request, headers, chunks })
      if (record.flags.includes('derive_failed')) throw new Error(String(record.error))
    })
    t.doesNotThrow(() => fc.assert(property, { numRuns }))
  })
}
