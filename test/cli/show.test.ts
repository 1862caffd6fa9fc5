/**
 * `rolltape show`: one exchange for people, its raw bytes for tools, and a tape read directly.
 */
import t, { type Test } from 'tap'

import { jsonl, recordOf, rolltape } from './harness.ts'
import { sketchSegment } from './tape.ts'

const delta = (content: string) =>
  `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"${content}"}}]}\n\n`
const FINISH =
  'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
const REQUEST = '{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}'

const CHUNKS = [
  [100, delta('A')],
  [120, delta('\\u001b[2JB')],
  [130, delta('C')],
  [395, FINISH],
] as const

const EXCHANGES = [
  { seq: 1, session: 'a', request: REQUEST, chunks: CHUNKS, ended: true },
  { seq: 2, session: 'a', request: REQUEST, chunks: CHUNKS.slice(0, 2), ended: false },
]

function recording(t: Test): string {
  const { bytes, ends } = sketchSegment(EXCHANGES)
  const tape = { segment: '0-000001.tape', end: ends[0]! }
  const record = recordOf(1, { tape, partial: true, flags: ['recovered'] })
  return t.testdir({
    'a.jsonl': jsonl([record]),
    'a.000001.jsonl': jsonl([record]),
    'a.tape': { '0-000001.tape': bytes },
  })
}

t.test('a record is shown with request, response and timeline', async (t) => {
  const { code, stdout } = await rolltape(['show', 'rec-1', `${recording(t)}/a.jsonl`])
  t.equal(code, 0)
  t.strictSame(stdout.split('\n'), [
    'exchange  rec-1',
    'session   a, turn 1',
    'request   POST /v1/chat/completions',
    'upstream  http://127.0.0.1:8000',
    'start     2025-10-09 08:53:21 UTC',
    'outcome   complete (partial), HTTP 200',
    'flags     recovered',
    'timing    TTFB 90 ms, TTFT 100 ms, whole 2.0 s, 7 chunks',
    'tokens    10 in, 5 out',
    'tags      run=17',
    '',
    '── request ─────────────────────────────────────────────────────',
    'model="qwen3" temperature=0.7',
    'tools: get_weather',
    'system: Be brief.',
    'user: What is',
    '  this?',
    '',
    '── response ────────────────────────────────────────────────────',
    'choice 0, finish reason tool_calls',
    'reasoning: Hm.',
    'A \\x1b[31mtest\\x1b[0m.',
    'tool call call_1: get_weather({})',
    '',
    'timeline  ms since the request arrived',
    '100 ms ███████████████████▎                     1 chunk, 111 B',
    '120 ms ████████████████████████████████████████ 2 chunks, 231 B',
    ...[140, 160, 180, 200, 220, 240, 260, 280, 300, 320, 340, 360].map((ms) => `${ms} ms`),
    '380 ms ███████████████████████▌                 1 chunk, 135 B',
    '',
  ])
})

t.test('--raw writes exactly the bytes of the tape, of either direction', async (t) => {
  const folder = recording(t)
  const response = CHUNKS.map(([, text]) => text).join('')
  for (const file of ['a.jsonl', 'a.000001.jsonl', 'a.tape']) {
    const path = `${folder}/${file}`
    const id = file === 'a.tape' ? 'rec-1' : '1'
    t.strictSame(
      await rolltape(['show', id, path, '--raw']),
      { code: 0, stdout: response, stderr: '' },
      file,
    )
    t.equal((await rolltape(['show', id, path, '--raw', 'request'])).stdout, REQUEST)
    t.equal((await rolltape(['show', id, path, '--raw', 'sent'])).stdout, REQUEST)
  }
})

t.test('a tape folder alone is enough, also for an exchange that a crash cut off', async (t) => {
  const { stdout } = await rolltape(['inspect', `${recording(t)}/a.tape`, '--json'])
  t.match(
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object),
    [
      { kind: 'exchange', id: 'rec-1', outcome: 'complete', finish_reasons: ['stop'] },
      { kind: 'exchange', id: 'rec-2', outcome: 'incomplete', finish_reasons: [null] },
      { kind: 'session', session: 'a', exchanges: 2, failed: 1 },
    ],
  )
})

t.test('a damaged exchange is told and left out, the others are shown', async (t) => {
  const { bytes, ends } = sketchSegment(EXCHANGES.map((each) => ({ ...each, ended: true })))
  const damaged = Buffer.from(bytes)
  const at = damaged.indexOf(REQUEST)
  damaged.write('X', at + 3)
  const tape = `${t.testdir({ 'a.tape': { '0-000001.tape': damaged } })}/a.tape`
  const { code, stdout, stderr } = await rolltape(['inspect', tape, '--json'])
  t.equal(code, 0)
  t.match(stdout, /"id":"rec-2"/)
  t.notMatch(stdout, /"id":"rec-1"/)
  t.match(stderr, new RegExp(`^rolltape: .*no sound frame.*${ends[0]} is left out\n$`))
})

t.test('a torn last line is told and left out', async (t) => {
  const folder = t.testdir({ 'a.jsonl': `${jsonl([recordOf(1)])}{"model":` })
  const { code, stdout, stderr } = await rolltape(['inspect', `${folder}/a.jsonl`, '--json'])
  t.equal(code, 0)
  t.match(stdout, /"id":"rec-1"/)
  t.equal(
    stderr,
    `rolltape: ${folder}/a.jsonl: line 2 is torn after 9 B, and left out
`,
  )
})

t.test('without its tape a record is still shown, and says what is missing', async (t) => {
  const folder = t.testdir({ 'a.jsonl': jsonl([recordOf(7)]) })
  const { code, stdout } = await rolltape(['show', '7', `${folder}/a.jsonl`])
  t.equal(code, 0)
  t.match(stdout, /\ntimeline  not available: .*a\.tape/)
  const raw = await rolltape(['show', '7', `${folder}/a.jsonl`, '--raw'])
  t.equal(raw.code, 1)
  t.equal(raw.stdout, '')
})

t.test('an id that is not there is named', async (t) => {
  const path = `${recording(t)}/a.jsonl`
  t.strictSame(await rolltape(['show', 'rec-9', path]), {
    code: 1,
    stdout: '',
    stderr: `rolltape: ${path} holds no exchange with the id or seq rec-9 (\`rolltape inspect --json ${path}\` lists ids)\n`,
  })
})
