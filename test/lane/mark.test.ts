// A terminal mark is seen in the chunk that completes it, however it is cut and spaced. A mark that
// is missed would let an answer's end go before it is on tape; one seen too often costs commits.
import * as fc from 'fast-check'
import t from 'tap'
import { MarkScanner, markSetOf } from '../../src/lane/mark.ts'
import type { MarkSet } from '../../src/lane/mark.ts'
import { createSseParser } from '../../src/wire/sse.ts'
import { isDoneMark } from '../../src/wire/protocol.ts'

const TYPES = {
  done: [],
  message_stop: ['message_stop'],
  response: ['response.completed', 'response.failed', 'response.incomplete'],
} as const

/** Marks as servers send them and as they may be spaced, each up to its last needed byte. */
const MARKS: Record<MarkSet, string[]> = {
  done: ['data: [DONE]', 'data:[DONE]', 'data:  [DONE]', 'data:\t \t[DONE]', 'data:\u00a0[DONE]'],
  message_stop: [],
  response: [],
}
for (const set of ['message_stop', 'response'] as const) {
  for (const type of TYPES[set]) {
    MARKS[set].push(
      `event: ${type}`,
      `event:${type}`,
      `event:   ${type}`,
      `data: {"type":"${type}`,
      `data:{"type": "${type}`,
      `data: {"type" : "${type}`,
      `data:   { "type":\t"${type}`,
      `data: {"index":0,"type":"${type}`,
      `data: {"text":"a\\\\","type":"${type}`,
    )
  }
}

const ENDINGS = { LF: '\n', CR: '\r', CRLF: '\r\n' }
const SETS = ['done', 'message_stop', 'response'] as const

const LINE_PIECES = [
  'data:',
  'event:',
  ' ',
  '\t',
  '\n',
  '\r',
  '\r\n',
  '\n\n',
  '[DONE]',
  '[DO',
  'NE]',
]
const JSON_PIECES = ['{"type":"', '{"type" : "', '"}', '"', '\\', ':', 'x', 'é', '\ufeff']

/** Index of the chunk that completes a mark; -1 where none does. */
function scan(set: MarkSet, chunks: readonly Buffer[]): number {
  const scanner = new MarkScanner(set)
  return chunks.findIndex((chunk) => scanner.scan(chunk))
}

for (const set of SETS) {
  for (const [ending, eol] of Object.entries(ENDINGS)) {
    t.test(`${set}, ${ending}: every mark is seen at every cut into two and three`, async (t) => {
      for (const mark of MARKS[set]) {
        for (const before of ['', '\ufeff', `: ping${eol}`, `data: {"x":1}${eol}${eol}`]) {
          const bytes = Buffer.from(before + mark)
          const wrong: number[][] = []
          for (let a = 0; a <= bytes.length; a++) {
            for (let b = a; b <= bytes.length; b++) {
              const chunks = [bytes.subarray(0, a), bytes.subarray(a, b), bytes.subarray(b)]
              const last = chunks.findLastIndex((chunk) => chunk.length > 0)
              const found = scan(set, chunks)
              // What follows may be empty chunks; what comes before is not all of the mark.
              if (found !== last) wrong.push([a, b, found])
            }
          }
          t.strictSame(wrong, [], JSON.stringify(before + mark))
        }
      }
    })
  }
}

t.test('blanks between field and mark may go on for chunks', async (t) => {
  const blanks = Buffer.alloc(100_000, ' \t')
  for (const [set, field, value] of [
    ['done', 'data:', '[DONE]'],
    ['message_stop', 'event:', 'message_stop'],
  ] as const) {
    const chunks = [Buffer.from(`: x\n${field}`), blanks, blanks, Buffer.from(value)]
    t.equal(scan(set, chunks), 3, set)
    const single = [...`\n${field}`, ...' \t '.repeat(50), ...value].map((char) =>
      Buffer.from(char),
    )
    t.equal(scan(set, single), single.length - 1, `${set}, byte by byte`)
  }
})

t.test('a mark in the middle of a line is none', async (t) => {
  const none: Record<MarkSet, string[]> = {
    done: [
      'data: {"text":"data: [DONE]"}',
      'data: x [DONE]',
      ': data: [DONE]',
      'mydata: [DONE]',
      'data [DONE]',
      'data: {"text":"[DONE]"}',
      'event: [DONE]',
    ],
    message_stop: [
      'data: {"text":"event: message_stop"}',
      'data: {"text":"say \\"message_stop\\" twice"}',
      'data: message_stop',
      'event: x message_stop',
      'data: {"type":"a message_stop"}',
    ],
    response: [
      'data: {"delta":"event: response.completed"}',
      'data: {"delta":"\\"type\\":\\"response.failed\\""}',
      'event: response.complete',
      'data: {"type":"response.output_text.delta"}',
    ],
  }
  for (const set of SETS) {
    for (const line of none[set]) {
      for (const long of ['', 'x'.repeat(200)]) {
        const bytes = Buffer.from(`${long}${line}\n\n`)
        if (long !== '' && !line.startsWith('data: {')) continue
        for (let cut = 0; cut <= bytes.length; cut++) {
          const found = scan(set, [bytes.subarray(0, cut), bytes.subarray(cut)])
          if (found >= 0) t.fail(`${set}: ${line} cut at ${cut}`)
        }
      }
      t.pass(line)
    }
  }
})

t.test(
  'known false alarms: what begins like a mark and goes on, and strings named like one',
  async (t) => {
    for (const [set, line] of [
      ['done', 'data: [DONE] not quite\n'],
      ['done', 'data: {"a":\ndata: [DONE]\n'],
      ['message_stop', 'data: {"text":"message_stop"}\n'],
      ['message_stop', 'event: message_stopped\n'],
      ['response', 'data: {"delta":"response.failed is an event"}\n'],
    ] as const) {
      t.equal(scan(set, [Buffer.from(line)]), 0, line)
    }
  },
)

t.test('a mark after a long line, and in a line that is long behind it', async (t) => {
  const long = 'x'.repeat(300_000)
  for (const set of SETS) {
    const mark = MARKS[set][0]!
    t.equal(scan(set, [Buffer.from(`data: ${long}`), Buffer.from(`${long}\n${mark}${long}`)]), 1)
  }
  const terminal = `data: {"type":"response.completed","response":{"text":"${long}`
  t.equal(scan('response', [Buffer.from(terminal), Buffer.from(`${long}"}}\n\n`)]), 0)
})

t.test('no miss: whatever derive takes for the end was seen, at any cut', async (t) => {
  for (const set of SETS) {
    const pieces = fc.constantFrom(...LINE_PIECES, ...JSON_PIECES, ...TYPES[set], ...MARKS[set])
    const stream = fc.array(pieces, { maxLength: 24 }).map((parts) => Buffer.from(parts.join('')))
    const cuts = fc.array(fc.nat(200), { maxLength: 6 })
    fc.assert(
      fc.property(stream, cuts, (bytes, at) => {
        const chunks = cut(bytes, at)
        const ended = endOf(set, chunks)
        const found = scan(set, chunks)
        return ended < 0 || (found >= 0 && found <= ended)
      }),
      { numRuns: 20_000 },
    )
    t.pass(set)
  }
})

t.test('no miss behind two byte order marks, the first of them cut', async (t) => {
  const bytes = Buffer.from('\ufeff\ufeffdata:\u00a0[DONE]')
  const chunks = cut(bytes, [1])
  t.ok(endOf('done', chunks) >= 0, 'the decoder takes both off')
  t.ok(scan('done', chunks) >= 0)
})

t.test('what is seen does not depend on the cuts, but for when', async (t) => {
  for (const set of SETS) {
    const pieces = fc.constantFrom('data:', ' ', '\n', '[DONE]', 'event:', '"', '\\', ...TYPES[set])
    const stream = fc.array(pieces, { maxLength: 12 }).map((parts) => Buffer.from(parts.join('')))
    fc.assert(
      fc.property(stream, fc.array(fc.nat(100), { maxLength: 6 }), (bytes, at) => {
        return scan(set, [bytes]) >= 0 === scan(set, cut(bytes, at)) >= 0
      }),
      { numRuns: 20_000 },
    )
    t.pass(set)
  }
})

t.test('which marks a path has', async (t) => {
  const paths: [string, MarkSet | undefined][] = [
    ['/v1/chat/completions', 'done'],
    ['/v1/chat/completions/', 'done'],
    ['/v1/completions', 'done'],
    ['/v1/responses', 'response'],
    ['/v1/messages', 'message_stop'],
    ['/v1/messages/count_tokens', undefined],
    ['/v1/threads/t1/messages', undefined],
    ['/v1beta/models/g:streamGenerateContent', undefined],
    ['/generate', undefined],
    ['/', undefined],
  ]
  for (const [path, set] of paths) t.equal(markSetOf(path), set, path)
})

/** The chunk with which derive has the end of the stream, as `src/wire/` concludes it. */
function endOf(set: MarkSet, chunks: readonly Buffer[]): number {
  let end = -1
  const parser = createSseParser(
    {
      onEvent: (data, name, chunk) => {
        if (end < 0 && isEnd(set, data, name)) end = chunk
      },
    },
    1e6,
  )
  for (const chunk of chunks) parser.feed(chunk)
  parser.end()
  return end
}

function isEnd(set: MarkSet, data: string, name: string | undefined): boolean {
  if (set === 'done') return isDoneMark(data)
  try {
    const value = JSON.parse(data) as { type?: unknown } | null
    const type = typeof value?.type === 'string' && value.type !== '' ? value.type : name
    return (TYPES[set] as readonly unknown[]).includes(type)
  } catch {
    return false
  }
}

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [0, ...at.filter((place) => place < bytes.length).sort((a, b) => a - b)]
  return places.map((place, i) => bytes.subarray(place, places[i + 1] ?? bytes.length))
}
