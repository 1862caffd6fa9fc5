// Why nothing matched: the nearest request, where it differs, what to ignore; and where two
// recordings part.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { explain, formatExplanation } from '../../src/replay/explain.ts'
import type { Candidate } from '../../src/replay/explain.ts'
import { diffJson } from '../../src/replay/json-diff.ts'
import { ignoreRules } from '../../src/replay/profiles.ts'
import { explainAside } from '../../src/supervisor/explain-aside.ts'

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname
const HEAD = 'POST /v1/chat/completions'

t.test('differences are places, each told once', async (t) => {
  const recorded = { a: 1, b: { c: [1, 2, 3], 'x/y': 'k' }, d: { e: 1 } }
  const asked = { a: 1, b: { c: [1, 5], 'x/y': 'k' }, f: null }
  t.strictSame(diffJson(recorded, asked), [
    { pointer: '/b/c/1', recorded: 2, asked: 5 },
    { pointer: '/b/c/2', recorded: 3, asked: undefined },
    { pointer: '/d', recorded: { e: 1 }, asked: undefined },
    { pointer: '/f', recorded: undefined, asked: null },
  ])
  t.strictSame(diffJson([], {}), [{ pointer: '', recorded: [], asked: {} }])
  t.equal(diffJson([1, 2, 3], [4, 5, 6], 2).length, 2)
})

t.test(
  'the nearest is the one with the fewest differences, and the rule makes it match',
  async (t) => {
    const candidates: Candidate[] = [
      {
        id: 'r-1',
        session: 's',
        turn: 1,
        unserved: null,
        request: { model: 'a', messages: [{ id: 'x', text: 'hi' }] },
      },
      { id: 'r-2', session: 's', turn: 2, unserved: null, request: { model: 'b', messages: [] } },
    ]
    const body = { model: 'a', messages: [{ id: 'y', text: 'hi' }] }
    const told = explain({ head: HEAD, body }, candidates, ignoreRules([], []))
    t.match(told, {
      nearest: { id: 'r-1', session: 's', turn: 1 },
      differences: [{ pointer: '/messages/0/id', recorded: 'x', asked: 'y' }],
      ignore: ['/messages/*/id'],
    })
    t.match(
      formatExplanation(told),
      /\/messages\/0\/id: recorded "x", asked "y"\nto match it: --ignore/,
    )
    const again = explain({ head: HEAD, body }, candidates, ignoreRules(told.ignore, []))
    t.strictSame(again.differences, [])
    // One that is served goes before one that is not, wherever it stands.
    const left: Candidate = { ...candidates[0]!, id: 'r-0', unserved: 'client_gone' }
    const same = { head: HEAD, body: left.request }
    const nearest = (of: Candidate[]): unknown => explain(same, of, ignoreRules([], [])).nearest?.id
    t.strictSame([nearest([left, ...candidates]), nearest([...candidates, left])], ['r-1', 'r-1'])
    t.match(formatExplanation(explain(same, [left], ignoreRules([], []))), /--replay-partial$/)
    t.match(
      formatExplanation(explain({ head: HEAD, body }, [], ignoreRules([], []))),
      /nothing is recorded/,
    )
  },
)

function line(session: string, turn: number, content: string, answer: string): string {
  const times = { response_time: 1, start_time: 1, end_time: 2 }
  const request = { messages: [{ content }] }
  const response = { id: `${session}${Math.random()}`, choices: [{ message: { content: answer } }] }
  const first = { model: 'm', stream: false, status: 'success', ...times, request, response }
  const ours = { error: null, id: `${session}-${turn}`, seq: turn, session, turn }
  return JSON.stringify({ ...first, ...ours, method: 'POST', path: '/v1/chat/completions' })
}

async function rolltape(args: string[], stdin = ''): Promise<{ code: number; stdout: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  let stdout = ''
  child.stdout.on('data', (text: Buffer) => (stdout += text.toString()))
  child.stdin.end(stdin)
  const [code] = (await once(child, 'close')) as [number]
  return { code, stdout }
}

t.test('the parts that rotations closed are read as well, as a replay does', async (t) => {
  const folder = t.testdir({})
  const path = (name: string): string => join(folder, name)
  writeFileSync(path('a.000001.jsonl'), `${line('s', 1, 'one', 'x')}\n`)
  writeFileSync(path('a.000002.jsonl'), `${line('s', 2, 'two', 'y')}\n{"torn`)
  writeFileSync(path('a.jsonl'), `${line('s', 3, 'three', 'z')}\n`)
  writeFileSync(path('ab.000001.jsonl'), 'not of it')
  const all = [line('s', 1, 'one', 'x'), line('s', 2, 'two', 'y'), line('s', 3, 'three', 'z')]
  writeFileSync(path('b.jsonl'), all.join('\n'))
  for (const [text, turn] of [
    ['one', 1],
    ['two', 2],
    ['three', 3],
  ] as const) {
    const body = JSON.stringify({ messages: [{ content: text }] })
    const offline = await rolltape(['explain', '--replay-file', path('a.jsonl')], body)
    t.strictSame([offline.code, offline.stdout.split(';')[0]], [0, `recorded as s-${turn}`])
  }
  const part = await rolltape(
    ['explain', '--replay-file', path('a.000002.jsonl')],
    '{"messages":[{"content":"one"}]}',
  )
  t.equal(part.code, 1, 'a part by its own name is that part alone')
  t.equal((await rolltape(['diff', path('a.jsonl'), path('b.jsonl')])).code, 0)
  const aside = await explainAside(
    {
      file: path('a.jsonl'),
      head: HEAD,
      body: { messages: [{ content: 'one' }] },
      ignore: ignoreRules([], []),
    },
    new AbortController().signal,
  )
  t.match(aside, { found: true, nearest: { id: 's-1' } })
})

t.test('explain tells it offline, diff tells where two recordings part', async (t) => {
  const folder = t.testdir({})
  const [a, b] = [join(folder, 'a.jsonl'), join(folder, 'b.jsonl')]
  writeFileSync(
    a,
    [line('s', 1, 'one', 'x'), line('s', 2, 'two', 'y'), line('t', 1, 'q', 'z')].join('\n'),
  )
  writeFileSync(b, [line('s', 1, 'one', 'x'), line('s', 2, 'two', 'Y')].join('\n'))
  const found = await rolltape(['explain', '--replay-file', a], '{"messages":[{"content":"two"}]}')
  t.strictSame([found.code, found.stdout.split(';')[0]], [0, 'recorded as s-2'])
  const missed = await rolltape(['explain', '--replay-file', a], '{"messages":[{"content":"2"}]}')
  t.equal(missed.code, 1)
  t.match(missed.stdout, /--ignore '\/messages\/\*\/content'/)
  const parted = await rolltape(['diff', '--json', a, b])
  t.equal(parted.code, 1)
  t.strictSame(
    parted.stdout
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text)),
    [
      { session: 's', turns: 2, turn: 2, what: 'response', where: '/choices/0/message/content' },
      { session: 't', turns: 1, turn: 1, what: 'missing in B', where: '' },
    ],
  )
  t.equal((await rolltape(['diff', a, a])).code, 0)
})
