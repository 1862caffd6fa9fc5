/**
 * `rolltape stats`: sums per session, and how tokens and times are spread.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import t from 'tap'

import { Histogram } from '../../src/cli/histogram.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { countToolCalls } from '../../src/trajectory/tool-calls.ts'
import { makeFolder } from '../support/recorder.ts'
import { jsonl, recordOf, rolltape } from './harness.ts'

const sampled = (...lists: (number | null)[][]) => ({
  tokens: lists.map((token_ids, index) => ({
    index,
    prompt_token_ids: null,
    token_ids,
    logprobs: null,
    tokens: null,
    aligned: false,
  })),
})
const usage = (input: number, output: number) => ({
  usage: {
    normalized: { input, output, cache_read: 1, cache_write: 2, reasoning: 0, total: 3 },
    raw: {},
  },
})
const timings = (ttft_ms: number | null, duration_ms: number) => ({
  timings: { ttfb_ms: 1, ttft_ms, duration_ms, chunks: 1, max_gap_ms: 0 },
})

/** Two sessions over a rotation, an error and a listing among them. */
function recording(): string {
  const file = join(makeFolder(t), 'a.jsonl')
  const closed = [
    recordOf(1, { ...sampled([1, 2, 3]), ...usage(7, 3), ...timings(90, 1500) }),
    recordOf(2, { session: 'b', ...sampled([1], [2, null]), ...usage(97, 4), ...timings(15, 90) }),
  ]
  const open = [
    recordOf(3, { ...usage(47, 40), ...timings(null, 4000), response: null, status: 'failure' }),
    recordOf(4, { turn: null, protocol: 'raw', ...timings(null, 9), usage: null }),
  ]
  writeFileSync(file.replace('.jsonl', '.000001.jsonl'), jsonl(closed))
  writeFileSync(file, jsonl(open))
  return file
}

t.test('O30: turns, tool calls, errors, tokens and times stand by session', async (t) => {
  const { code, stdout, stderr } = await rolltape(['stats', recording()])
  t.strictSame({ code, stderr }, { code: 0, stderr: '' })
  t.strictSame(stdout.split('\n'), [
    'SESSION               EXCHANGES   TURNS  TOOL CALLS  ERRORS          IN         OUT     SAMPLED  START (UTC)              SPAN    WAITED',
    'a                             3       2           1       1          54          43           3  2025-10-09 08:53:21     5.0 s     5.5 s',
    'b                             1       1           1       0          97           4           1  2025-10-09 08:53:22     2.0 s     90 ms',
    'all 2                         4       3           2       1         151          47           4  2025-10-09 08:53:21     5.0 s     5.6 s',
    '',
    'prompt tokens of a turn: p50 50, p90 100, p99 100, max 100, of 3',
    ' ≥ 10 ████████████████████████████████████████ 1',
    ' ≥ 20',
    ' ≥ 50 ████████████████████████████████████████ 1',
    '≥ 100 ████████████████████████████████████████ 1',
    '',
    'output tokens of a turn: p50 4, p90 40, p99 40, max 40, of 3',
    ' ≥ 2 ████████████████████████████████████████ 2',
    ' ≥ 5',
    '≥ 10',
    '≥ 20 ████████████████████                     1',
    '',
    'time to the first token: p50 15 ms, p90 90 ms, p99 90 ms, max 90 ms, of 2',
    '≥ 10 ms ████████████████████████████████████████ 1',
    '≥ 20 ms',
    '≥ 50 ms ████████████████████████████████████████ 1',
    '',
    'time of a whole turn: p50 1.5 s, p90 4.0 s, p99 4.0 s, max 4.0 s, of 3',
    ' ≥ 50 ms ████████████████████████████████████████ 1',
    '≥ 100 ms',
    '≥ 200 ms',
    '≥ 500 ms',
    ' ≥ 1.0 s ████████████████████████████████████████ 1',
    ' ≥ 2.0 s ████████████████████████████████████████ 1',
    '',
  ])
})

t.test('O30: --json has one object per session, and one for all', async (t) => {
  const { stdout } = await rolltape(['stats', recording(), '--json'])
  const [a, b, total, ...more] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object)
  t.strictSame(more, [])
  t.strictSame(a, {
    kind: 'session',
    session: 'a',
    exchanges: 3,
    turns: 2,
    tool_calls: 1,
    errors: 1,
    input: 54,
    output: 43,
    sampled: 3,
    start_time: 1_760_000_001,
    end_time: 1_760_000_006,
    waited_ms: 5_509,
  })
  t.match(b, { kind: 'session', session: 'b', sampled: 1 })
  t.match(total, {
    kind: 'total',
    sessions: 2,
    exchanges: 4,
    tool_calls: 2,
    spread: {
      output_tokens: {
        count: 3,
        sum: 47,
        min: 3,
        max: 40,
        p50: 4,
        p90: 40,
        p99: 40,
        buckets: [
          { from: 2, to: 5, count: 2 },
          { from: 5, to: 10, count: 0 },
          { from: 10, to: 20, count: 0 },
          { from: 20, to: 50, count: 1 },
        ],
      },
    },
  })
})

t.test('one session alone, and a recording without records', async (t) => {
  const file = recording()
  const alone = await rolltape(['stats', file, '--session', 'b'])
  t.notMatch(alone.stdout, /^a /m)
  t.match(alone.stdout, /^b .*\n\nprompt tokens of a turn: p50 100, .* of 1$/m)
  writeFileSync(file, '')
  writeFileSync(file.replace('.jsonl', '.000001.jsonl'), '')
  const none = await rolltape(['stats', file])
  t.strictSame([none.code, none.stdout.split('\n').length], [0, 2])
  const json = await rolltape(['stats', file, '--json'])
  t.match(JSON.parse(json.stdout), { kind: 'total', sessions: 0, exchanges: 0 })
})

t.test('percentiles are exact or off by 9 % at most, whatever the numbers are', async () => {
  const numbers = fc.array(fc.oneof(fc.nat({ max: 20 }), fc.nat({ max: 1_000_000 })), {
    minLength: 1,
    maxLength: 200,
  })
  fc.assert(
    fc.property(numbers, (list) => {
      const histogram = new Histogram()
      for (const number of list) histogram.add(number)
      const sorted = list.toSorted((a, b) => a - b)
      const { count, sum, min, max, buckets, ...marks } = histogram.spread()
      const exact = (part: number) => sorted[Math.ceil(list.length * part) - 1]!
      const close = (told: number | null, is: number) => Math.abs(told! - is) <= is * 0.0906
      return (
        count === list.length &&
        sum === list.reduce((all, each) => all + each, 0) &&
        min === sorted[0] &&
        max === sorted.at(-1) &&
        close(marks.p50, exact(0.5)) &&
        close(marks.p90, exact(0.9)) &&
        close(marks.p99, exact(0.99)) &&
        buckets.every(
          ({ from, to, count }) =>
            count === list.filter((number) => number >= from && number < to).length,
        ) &&
        buckets.reduce((all, { count }) => all + count, 0) === list.length
      )
    }),
  )
})

t.test(
  'calls are counted in each protocol, those that the server makes itself are not',
  async (t) => {
    const block = (type: string) => ({ type: 'content_block_start', content_block: { type } })
    const part = { functionCall: { name: 'ls', args: {} } }
    const candidates = [{ content: { parts: [{ text: 'a' }, part, part] } }]
    const cases: [StoredRecord['protocol'], unknown, number][] = [
      ['openai.chat', { choices: [{ message: { tool_calls: [{}, {}] } }, { message: {} }] }, 2],
      ['openai.chat', { choices: [{ message: { function_call: {}, tool_calls: [] } }] }, 1],
      [
        'openai.responses',
        { output: [{ type: 'function_call' }, { type: 'web_search_call' }, { type: 'message' }] },
        1,
      ],
      ['anthropic.messages', { content: [{ type: 'tool_use' }, { type: 'text' }] }, 1],
      ['anthropic.messages', { events: [block('tool_use'), block('server_tool_use'), {}] }, 1],
      ['gemini.generate', { candidates }, 2],
      ['gemini.generate', { events: [{ candidates }, { candidates }] }, 4],
      ['openai.completions', { choices: [{ text: 'x' }] }, 0],
      ['raw', { choices: [{ message: { tool_calls: [{}] } }] }, 0],
      ['openai.chat', null, 0],
    ]
    for (const [protocol, response, count] of cases) {
      const record = recordOf(1, { protocol: protocol!, response })
      t.equal(countToolCalls(record), count, `${protocol} ${JSON.stringify(response)}`)
    }
  },
)
