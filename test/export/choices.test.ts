/**
 * What is exported of a recording and what is not, in which order, and what happens when it cannot
 * be done. Records are made by hand, so that each differs in what a choice looks at.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import t, { type Test } from 'tap'

import { PARQUET_GROUP_ROWS_MAX, PARQUET_GROUP_TOKENS_MAX } from '../../src/limits.ts'
import type { Sample } from '../../src/rolltape.ts'
import { readSourceLine } from '../../src/replay/source-line.ts'
import type { SourceLine } from '../../src/replay/source-line.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { jsonl, recordOf, rolltape } from '../cli/harness.ts'
import { callRecord } from '../support/call-records.ts'
import { makeFolder } from '../support/recorder.ts'

const under = (version: string, mixed = false) => ({
  policy: { dispatch: version, first_byte: null, end: mixed ? `${version}+` : null, engine: null },
})
const digest = (text: string) => ({ sha256: { request: text, response: null } })
const lost = { status: 'failure', outcome: 'client_gone', partial: true } as const

/** A chain of four under two versions, with a lost attempt; another session; an error; a listing. */
const RECORDS: StoredRecord[] = [
  callRecord(
    3,
    { prompt: [1, 2, 3, 4, 5], sampled: [[6]] },
    { ...under('v1'), ...digest('b'), ...lost },
  ),
  callRecord(2, { prompt: [9], sampled: [[8]] }, { session: 'u', ...under('v2'), ...digest('x') }),
  callRecord(1, { prompt: [1, 2], sampled: [[3, 4]] }, { ...under('v1'), ...digest('a') }),
  callRecord(4, { prompt: [1, 2, 3, 4, 5], sampled: [[6, 7]] }, { ...under('v2'), ...digest('b') }),
  callRecord(
    5,
    { prompt: [1, 2, 3, 4, 5, 6, 7, 8], sampled: [[9]] },
    { ...under('v2', true), ...digest('c') },
  ),
  callRecord(6, { prompt: null, sampled: [[1, null]] }, { session: 'u', ...digest('y') }),
  callRecord(
    7,
    { prompt: null, sampled: [] },
    { turn: null, method: 'GET', path: '/v1/models', protocol: 'raw' },
  ),
]

function recording(t: Test, records: readonly StoredRecord[] = RECORDS): string {
  const file = join(makeFolder(t), 'a.jsonl')
  writeFileSync(file, jsonl(records))
  return file
}

/** Each sample: its session, its calls (in brackets where they are not trained), its ids and mask. */
async function told(file: string, ...flags: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await rolltape(['export', file, ...flags])
  if (code !== 0) throw new Error(stderr)
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const { session, turns, token_ids, loss_mask } = JSON.parse(line) as Sample
      const path = turns.map(({ id, trained }) => (trained ? id : `(${id})`))
      return `${session}: ${path.join(' ')} | ${token_ids.join('')} ${loss_mask.join('')}`
    })
}

const U = ['u: r2 | 98 01', 'u: (r6) |  ']
const LISTING = 's: (r7) |  '

t.test('without a choice all of it is exported, sessions and calls as they came', async (t) => {
  t.strictSame(await told(recording(t)), [
    's: (r1) r3 | 123456 000001',
    's: r1 r4 r5 | 123456789 001101101',
    LISTING,
    ...U,
  ])
})

t.test('what is not chosen is context for what is: its tokens stay, untrained', async (t) => {
  const file = recording(t)
  t.strictSame(await told(file, '--policy-version', 'v2'), [
    'u: r2 | 98 01',
    's: r4 | 1234567 0000011',
  ])
  t.strictSame(await told(file, '--policy-version', 'v1', '--policy-version', 'v2'), [
    's: (r1) r3 | 123456 000001',
    's: r1 r4 | 1234567 0011011',
    'u: r2 | 98 01',
  ])
  t.strictSame(await told(file, '--retries', 'drop'), [
    's: r1 r4 r5 | 123456789 001101101',
    LISTING,
    ...U,
  ])
  t.strictSame(await told(file, '--aligned', '--outcome', 'complete'), [
    's: r1 r4 r5 | 123456789 001101101',
    'u: r2 | 98 01',
  ])
  t.strictSame(await told(file, '--outcome', 'client_gone,timeout'), ['s: r3 | 123456 000001'])
  t.strictSame(await told(file, '--session', 'u'), U)
  t.strictSame(await told(file, '--session', 'none'), [])
})

t.test('what asks again stays linked to what was left out', async (t) => {
  const { stdout } = await rolltape(['export', recording(t), '--retries', 'drop'])
  const [first] = stdout.split('\n').map((line) => JSON.parse(line || '{}') as Sample)
  t.strictSame(
    first!.turns.map(({ id, retry_of }) => [id, retry_of]),
    [
      ['r1', null],
      ['r4', 'r3'],
      ['r5', null],
    ],
  )
})

t.test(
  'the same asked again after an answer is a retry only where the client says so',
  async (t) => {
    const said = { prompt: [1], sampled: [[2]] }
    const records = [
      callRecord(1, said, digest('a')),
      callRecord(2, said, digest('a')),
      callRecord(3, said, { ...digest('a'), client_retry: 1 }),
      callRecord(4, said, { ...digest('a'), session: 't', client_retry: 1 }),
      callRecord(5, said, { ...digest('a'), path: '/v1/completions', client_retry: 1 }),
      callRecord(6, said, { ...digest('b'), client_retry: 1 }),
    ]
    const { stdout } = await rolltape(['export', recording(t, records), '--format', 'openenv'])
    const lines = stdout.trim().split('\n')
    t.strictSame(
      lines.map((line) => {
        const { id, retry_of } = JSON.parse(line) as { id: string; retry_of: string | null }
        return `${id} ${retry_of}`
      }),
      ['r1 null', 'r2 null', 'r3 r2', 'r5 null', 'r6 null', 'r4 null'],
    )
  },
)

t.test('runs of one session are sequences of their own', async (t) => {
  const records = [
    callRecord(1, { prompt: [1], sampled: [[2]] }, { run: 'x' }),
    callRecord(2, { prompt: [1, 2, 3], sampled: [[4]] }, { run: 'y' }),
    callRecord(3, { prompt: [1, 2, 3], sampled: [[5]] }, { run: 'x' }),
  ]
  t.strictSame(await told(recording(t, records)), ['s: r1 r3 | 1235 0101', 's: r2 | 1234 0001'])
})

t.test('files of other recorders are exported as far as they go', async (t) => {
  const { model, stream, status, response_time, start_time, end_time, request, response, error } =
    callRecord(1, { prompt: null, sampled: [] })
  const nine = { model, stream, status, response_time, start_time, end_time, request, response }
  const turn = { turn: 1, request, response, latency_s: 0.5 }
  const file = recording(t, [{ ...nine, error }, turn as unknown as StoredRecord])
  t.strictSame(await told(file), ['default: (null) |  ', 'default: (null) |  '])
  for (const format of ['openenv', 'openai-chat', 'sharegpt', 'har', 'parquet']) {
    const { code, stderr } = await rolltape(['export', file, '--format', format])
    t.strictSame([code, stderr.split('\n')[0]?.split(' ')[0]], [0, '2'], format)
  }
})

t.test(
  'O26: turn lines have the log-probs that were sent, else those that are known',
  async (t) => {
    const sent = {
      choices: [{ logprobs: { content: [{ token: 'hi', logprob: -3, bytes: null }] } }],
    }
    const records = [
      callRecord(1, { prompt: [1], sampled: [[2, 3]] }),
      callRecord(2, { prompt: [1], sampled: [[2]] }, { response: sent }),
      callRecord(3, { prompt: [1], sampled: [] }),
    ]
    const { stdout } = await rolltape(['export', recording(t, records), '--format', 'openenv'])
    t.strictSame(
      stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { logprobs: unknown }).logprobs),
      [
        [
          { token: 'token_id:2', logprob: -1 },
          { token: 'token_id:3', logprob: -1.001 },
        ],
        [{ token: 'hi', logprob: -3, bytes: null }],
        null,
      ],
    )
  },
)

t.test('O26: turn lines tell of errors and of answers that are not whole', async (t) => {
  const none = { prompt: null, sampled: [] }
  const records = [
    callRecord(1, none, { http_status: 429, status: 'failure', response: null }),
    callRecord(2, none, lost),
    callRecord(3, none, { outcome: 'truncated', partial: true, status: 'failure' }),
    callRecord(4, none, {
      http_status: null,
      outcome: 'timeout',
      status: 'failure',
      response: null,
    }),
  ]
  const { stdout } = await rolltape(['export', recording(t, records), '--format', 'openenv'])
  const read = stdout
    .trim()
    .split('\n')
    .map((line) => readSourceLine(JSON.parse(line) as StoredRecord) as SourceLine)
  t.strictSame(
    read.map(({ writer, status, outcome, isCut, response }) => [
      writer,
      status,
      outcome,
      isCut,
      response.kind,
    ]),
    [
      ['turns', 429, 'complete', false, 'error'],
      ['turns', 200, 'client_gone', true, 'member'],
      ['turns', 200, 'truncated', true, 'member'],
      ['turns', 200, 'complete', false, 'none'],
    ],
  )
})

t.test('what a format has no place for is told', async (t) => {
  const { stderr } = await rolltape(['export', recording(t), '--format', 'openenv'])
  t.equal(
    stderr,
    '6 turns of 2 sessions\nleft out: 1 exchange (no generation request, so without a turn)\n',
  )
})

t.test('an empty recording is an empty export of each format', async (t) => {
  const file = recording(t, [])
  for (const format of ['samples', 'openenv', 'openai-chat', 'sharegpt']) {
    t.strictSame(await rolltape(['export', file, '--format', format]), {
      code: 0,
      stdout: '',
      stderr: `0 ${format === 'samples' ? 'samples' : format === 'openenv' ? 'turns' : 'conversations'} of 0 sessions\n`,
    })
  }
  const har = await rolltape(['export', file, '--format', 'har'])
  t.match(JSON.parse(har.stdout), { log: { version: '1.2', entries: [] } })
  const out = file.replace('.jsonl', '.parquet')
  await rolltape(['export', file, '--format', 'parquet', '--out', out])
  t.strictSame(await groupsOf(out), [])
})

t.test(
  `a row group has ${PARQUET_GROUP_ROWS_MAX} rows, or ${PARQUET_GROUP_TOKENS_MAX} tokens`,
  async (t) => {
    const rows = Array.from({ length: PARQUET_GROUP_ROWS_MAX + 1 }, (_, at) =>
      callRecord(at + 1, { prompt: [at, 1], sampled: [[2]] }),
    )
    const prompt = Array.from({ length: PARQUET_GROUP_TOKENS_MAX / 2 }, () => 7)
    const long = [1, 2, 3].map((seq) =>
      callRecord(seq, { prompt: [seq, ...prompt], sampled: [[2]] }),
    )
    for (const [records, groups] of [
      [rows, [PARQUET_GROUP_ROWS_MAX, 1]],
      [long, [2, 1]],
    ] as const) {
      const file = recording(t, records)
      const out = file.replace('.jsonl', '.parquet')
      await rolltape(['export', file, '--format', 'parquet', '--out', out])
      t.strictSame(await groupsOf(out), groups)
    }
  },
)

/** Rows of each row group, as DuckDB reads them. */
async function groupsOf(path: string): Promise<number[]> {
  const connection = await (await DuckDBInstance.create(':memory:')).connect()
  const reader = await connection.runAndReadAll(
    `select distinct row_group_id, row_group_num_rows::int from parquet_metadata('${path}') order by 1`,
  )
  connection.closeSync()
  return reader.getRowsJson().map((row) => (row as [string, number])[1])
}

t.test('what cannot be done is told, and leaves no file', async (t) => {
  const file = recording(t)
  const folder = makeFolder(t)
  mkdirSync(join(folder, 'a.tape'))
  writeFileSync(join(folder, 'b.jsonl'), `${jsonl(RECORDS)}oops\n`)
  const out = join(folder, 'out')
  const cases: [string[], number, string][] = [
    [[join(folder, 'no.jsonl')], 1, `${folder}/no.jsonl: no such file (give a .jsonl)`],
    [[join(folder, 'a.tape')], 2, 'is a folder, and exports read a .jsonl'],
    [[join(folder, 'b.jsonl'), '--out', out], 1, `line 8 of ${folder}/b.jsonl`],
    [[file, '--outcome', 'fine'], 2, "--outcome: 'fine' is no outcome (there are complete, trunc"],
    [[file, '--format', 'csv'], 2, 'samples, openenv, openai-chat, sharegpt, har, parquet'],
    [[file, '--out', file], 2, 'is a file of the recording itself (give another name)'],
    [
      [file, '--out', join(folder, 'no', 'out')],
      2,
      `--out ${folder}/no/out cannot be written: ENOENT`,
    ],
    [[file, '--out', join(folder, 'a.tape')], 2, `--out ${folder}/a.tape is a folder`],
  ]
  const before = readFileSync(file)
  for (const [argv, exit, line] of cases) {
    const { code, stdout, stderr } = await rolltape(['export', ...argv])
    t.strictSame([code, stdout, stderr.split('\n').length], [exit, '', 2], argv.join(' '))
    t.match(stderr, line)
  }
  t.strictSame(readdirSync(folder).sort(), ['a.tape', 'b.jsonl'])
  t.ok(readFileSync(file).equals(before))
})

t.test('an export of nothing says what it looked for', async (t) => {
  const file = recording(t)
  const cases: [string[], string][] = [
    [
      [file, '--session', 'nope', '--outcome', 'timeout,refused', '--aligned'],
      `nothing was chosen: ${file} has no exchange for --session nope --outcome timeout,refused --aligned`,
    ],
    [
      [file, '--policy-version', 'none'],
      `nothing was chosen: ${file} has no exchange for --policy-version none`,
    ],
  ]
  for (const [argv, line] of cases) {
    const { code, stdout, stderr } = await rolltape(['export', ...argv])
    t.strictSame([code, stdout, stderr], [0, '', `0 samples of 0 sessions\n${line}\n`])
  }
})

t.test('an export that is interrupted leaves no file', async (t) => {
  const file = recording(t)
  const out = file.replace('.jsonl', '.out')
  const stopping = AbortSignal.abort()
  const { code, stderr } = await rolltape(['export', file, '--out', out], { stopping })
  t.strictSame([code, stderr], [1, 'rolltape: the export was interrupted\n'])
  t.notOk(existsSync(out))
  t.strictSame(
    readdirSync(dirname(out)).filter((name) => name.endsWith('.part')),
    [],
  )
})

t.test('what a responder answered has a URL in an HTTP Archive', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  writeFileSync(file, jsonl([recordOf(1, { upstream: 'responder:', path: '/v1/completions' })]))
  const { stdout } = await rolltape(['export', file, '--format', 'har', '--out', '-'])
  const { log } = JSON.parse(stdout) as { log: { entries: { request: { url: string } }[] } }
  t.equal(log.entries[0]?.request.url, 'http://localhost/v1/completions')
})
