/**
 * A recorded agent in every format, read back by others: DuckDB, Python, a replay.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import t from 'tap'

import { FORMATS } from '../../src/export/formats.ts'
import type { Sample } from '../../src/rolltape.ts'
import { ROOT } from '../../tools/tree.ts'
import { rolltape } from '../cli/harness.ts'
import { recordAgent } from '../support/agent-session.ts'
import { makeFolder } from '../support/recorder.ts'
import { CHAT, startReplay } from '../support/replayer.ts'
import { post, rawRequest } from '../support/raw-client.ts'

const { file, records, sampled, nameOf } = await recordAgent(t)
const folder = makeFolder(t)
appendFileSync(
  file.replace('.jsonl', '.annotations.jsonl'),
  [
    { session: 'task-7', at: 1, reward: 0.25, done: false, tags: { env: 'test', step: '1' } },
    { session: 'other', at: 2, reward: 9 },
    { session: 'task-7', at: 3, reward: 0.5, done: true, tags: { step: '2' } },
  ]
    .map((line) => `${JSON.stringify({ schema: 'rolltape.annotation/1', ...line })}\n`)
    .join(''),
)

/** Exports to a file and gives its path. */
async function exported(format: string, ...flags: string[]): Promise<string> {
  const out = join(folder, `${createHash('sha1').update(flags.join()).digest('hex')}.${format}`)
  const { code, stdout, stderr } = await rolltape(
    ['export', file, '--format', format, '--out', out].concat(flags),
  )
  t.strictSame([code, stdout], [0, ''], stderr)
  return out
}

async function lines<T>(format: string, ...flags: string[]): Promise<T[]> {
  const text = readFileSync(await exported(format, ...flags), 'utf8')
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T)
}

const duckdb = await (await DuckDBInstance.create(':memory:')).connect()
t.teardown(() => duckdb.closeSync())

async function query(path: string, sql: string): Promise<unknown[]> {
  return (await duckdb.runAndReadAll(sql.replace('TABLE', `'${path}'`))).getRowsJson()
}

t.test('every format is the same to the byte each time, in a file or on stdout', async (t) => {
  for (const format of Object.keys(FORMATS)) {
    const first = readFileSync(await exported(format))
    const again = readFileSync(await exported(format))
    t.ok(first.length > 100, format)
    t.ok(first.equals(again), `${format}: twice`)
    if (format === 'parquet') continue
    const { stdout } = await rolltape(['export', file, '--format', format])
    t.equal(stdout, first.toString(), `${format}: on stdout`)
  }
})

t.test('the order of the lines changes nothing', async (t) => {
  const shuffled = join(folder, 'shuffled.jsonl')
  const text = readFileSync(file, 'utf8').trim().split('\n').toReversed().join('\n')
  writeFileSync(shuffled, `${text}\n`)
  writeFileSync(
    join(folder, 'shuffled.annotations.jsonl'),
    readFileSync(file.replace('.jsonl', '.annotations.jsonl')),
  )
  for (const format of Object.keys(FORMATS).filter((name) => name !== 'parquet')) {
    const { stdout } = await rolltape(['export', shuffled, '--format', format])
    t.equal(stdout, readFileSync(await exported(format), 'utf8'), format)
  }
})

t.test('DuckDB counts in the Parquet the tokens that were sampled', async (t) => {
  const path = await exported('parquet')
  const sums = await query(
    path,
    `select session, sum(tokens_sampled), sum(list_sum(loss_mask)),
       sum(len(list_filter(logprobs, x -> x is not null)) * (len(turns) = 3)::int) from TABLE group by session`,
  )
  const restart = records.filter(({ id }) => /^m(8|9|10)$/.test(nameOf(id)))
  const logprobs = restart.flatMap(({ tokens }) => tokens![0]!.logprobs)
  t.strictSame(sums, [['task-7', String(sampled), String(sampled), String(logprobs.length)]])
  const types = await query(
    path,
    'select column_name, column_type from (describe select * from TABLE)',
  )
  t.strictSame(types, [
    ['session', 'VARCHAR'],
    ['run', 'VARCHAR'],
    ['sample', 'INTEGER'],
    ['conversation', 'INTEGER'],
    ['kind', 'VARCHAR'],
    ['labels', 'VARCHAR[]'],
    ['model', 'VARCHAR'],
    ['group', 'VARCHAR'],
    ['tags', 'JSON'],
    ['reward', 'DOUBLE'],
    ['done', 'BOOLEAN'],
    ['note', 'VARCHAR'],
    ['tokens_sampled', 'INTEGER'],
    ['token_ids', 'INTEGER[]'],
    ['loss_mask', 'INTEGER[]'],
    ['logprobs', 'DOUBLE[]'],
    [
      'policy_version',
      'STRUCT("start" INTEGER, "end" INTEGER, "version" VARCHAR, mixed BOOLEAN)[]',
    ],
    [
      'turns',
      'STRUCT(id VARCHAR, seq BIGINT, turn INTEGER, choice INTEGER, "start" INTEGER, "end" INTEGER, trained BOOLEAN, finish_reason VARCHAR, outcome VARCHAR, retry_of VARCHAR)[]',
    ],
    [
      'drift',
      'STRUCT("position" INTEGER, "class" VARCHAR, id VARCHAR, "of" VARCHAR, choice INTEGER)[]',
    ],
  ])
})

t.test('what is in the Parquet is what is in the samples', async (t) => {
  const samples = await lines<Record<string, unknown>>('samples')
  const rows = await query(
    await exported('parquet'),
    `select to_json(t) from (select * exclude (tags, tokens_sampled), tags::varchar as tags from TABLE) t`,
  )
  t.strictSame(
    rows.map((row) => {
      const { tags, ...rest } = JSON.parse((row as [string])[0]) as Record<string, unknown>
      return { ...rest, tags: JSON.parse(String(tags)) as unknown }
    }),
    samples.map(({ schema: _schema, ...rest }) => rest),
  )
})

const python = spawnSync('python3', ['--version']).status === 0
const skip = !python && 'python3 is not here'

t.test('Python reads the same numbers out of the records', { skip }, async (t) => {
  const { stdout, stderr } = spawnSync('python3', [join(ROOT, 'docs/read_records.py'), file])
  t.equal(String(stderr), '')
  const [sum] = await query(
    await exported('parquet', '--retries', 'keep'),
    `select sum(tokens_sampled)::int, sum(x)::double from (select tokens_sampled,
       list_sum(list_transform(list_zip(loss_mask, logprobs), p -> p[1] * coalesce(p[2], 0))) as x from TABLE)`,
  )
  const [tokens, logprobs] = sum as [number, number]
  const { logprob_sum, ...told } = JSON.parse(String(stdout)) as Record<string, number>
  t.strictSame(told, {
    session: 'task-7',
    exchanges: 15,
    turns: 15,
    failed: 2,
    tokens_sampled: tokens,
  })
  t.ok(Math.abs(logprob_sum! - logprobs) < 1e-9, `${logprob_sum} ${logprobs}`)
})

t.test('Python joins closed parts and takes a torn last line for none', { skip }, async (t) => {
  const all = readFileSync(file, 'utf8').trim().split('\n')
  const stem = join(folder, 'parts')
  writeFileSync(`${stem}.000001.jsonl`, `${all.slice(0, 5).join('\n')}\n`)
  writeFileSync(`${stem}.000010.jsonl`, `${all.slice(5, 9).join('\n')}\n`)
  writeFileSync(`${stem}.jsonl`, `${all.slice(9).join('\n')}\n{"model":"x","sess`)
  const run = (path: string) =>
    String(spawnSync('python3', [join(ROOT, 'docs/read_records.py'), path]).stdout)
  t.equal(run(`${stem}.jsonl`), run(file))
  const { stdout, stderr } = await rolltape(['export', `${stem}.jsonl`])
  t.match(
    stderr,
    /parts\.jsonl: line 7 is torn after 18 bytes, and left out\n6 samples of 1 session\n/,
  )
  const { stdout: whole } = await rolltape(['export', file])
  const tokensIn = (text: string) =>
    text
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as Sample).token_ids)
  t.strictSame(tokensIn(stdout), tokensIn(whole), 'as the export does')
})

t.test('annotations stand with what they are about, the last word of each', async (t) => {
  const told = { reward: 0.5, done: true, tags: { env: 'test', step: '2' } }
  for (const format of ['samples', 'openenv']) {
    for (const line of await lines<object>(format)) t.match(line, told, format)
  }
  for (const format of ['openai-chat', 'sharegpt']) {
    for (const line of await lines<object>(format)) {
      t.match(line, { metadata: { reward: '0.5', done: 'true', env: 'test', step: '2' } }, format)
    }
  }
})

t.test('conversations end with the answers that nothing goes on from', async (t) => {
  interface Line {
    readonly messages: readonly { readonly role: string; readonly content: string }[]
    readonly tools?: unknown
    readonly metadata: Readonly<Record<string, string>>
  }
  const chats = await lines<Line>('openai-chat')
  t.strictSame(
    chats.map(({ metadata, messages }) => [nameOf(metadata['id']!), messages.length]),
    [
      ['t1', 3],
      ['s2', 5],
      ['m5!', 11],
      ['m7', 15],
      ['m10', 7],
    ],
  )
  const [title, , lost, long] = chats
  t.strictSame(title!.messages, [
    { role: 'system', content: 'You make titles.' },
    { role: 'user', content: 'Fix bug 7' },
    { role: 'assistant', content: 'This is what t1 says.' },
  ])
  t.equal(lost!.messages.at(-1)!.content, 'lost words of')
  t.ok(long!.tools)
  t.strictSame(
    long!.messages.slice(6, 8).map(({ content: _content, ...message }) => message),
    [
      {
        role: 'assistant',
        tool_calls: [
          {
            id: 'call_1',
            type: 'function',
            function: { name: 'run', arguments: '{"cmd": "make test"}' },
          },
        ],
      },
      { role: 'tool', tool_call_id: 'call_1' },
    ],
  )
  const { stderr } = await rolltape(['export', file, '--format', 'openai-chat'])
  t.equal(
    stderr,
    '5 conversations of 1 session\nleft out: 1 exchange (chat completions without an answer)\n',
  )
})

t.test('ShareGPT names who speaks, calls and what came of them', async (t) => {
  interface Line {
    readonly conversations: readonly { readonly from: string; readonly value: string }[]
    readonly tools?: string
  }
  const long = (await lines<Line>('sharegpt'))[3]!
  t.strictSame(
    long.conversations.map(({ from }) => from).join(' '),
    'system human gpt human gpt human gpt function_call observation gpt human gpt human gpt human gpt',
  )
  t.strictSame(long.conversations.slice(6, 9), [
    { from: 'gpt', value: 'I run it.' },
    { from: 'function_call', value: '{"name":"run","arguments":{"cmd":"make test"}}' },
    { from: 'observation', value: 'all fine' },
  ])
  t.match(JSON.parse(long.tools!), [{ function: { name: 'run' } }])
})

t.test('the HTTP archive has every field that version 1.2 asks for', async (t) => {
  const { log } = JSON.parse(readFileSync(await exported('har'), 'utf8')) as {
    log: { entries: Record<string, object>[] }
  }
  t.match(log, { version: '1.2', creator: { name: 'rolltape', version: /^\d/ } })
  t.equal(log.entries.length, records.length)
  for (const [at, entry] of log.entries.entries()) {
    const record = records[at]!
    const { startedDateTime, time, request, response, cache, timings } = entry
    t.match(startedDateTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    const { send, wait, receive } = timings as Record<string, number>
    t.ok(Math.abs(send! + wait! + receive! - Number(time)) < 1e-6, 'the parts make the whole')
    t.strictSame(cache, {})
    const { postData, bodySize, ...asked } = request as Record<string, unknown>
    t.strictSame(asked, {
      method: 'POST',
      url: `${record.upstream}/v1/chat/completions`,
      httpVersion: 'HTTP/1.1',
      cookies: [],
      headers: [],
      queryString: [],
      headersSize: -1,
    })
    const { mimeType, text } = postData as { mimeType: string; text: string }
    t.strictSame([mimeType, JSON.parse(text)], ['application/json', record.request])
    t.equal(bodySize, Buffer.byteLength(text))
    const { content, ...answered } = response as { content: { text: string; size: number } }
    t.strictSame(answered, {
      status: record.http_status,
      statusText: record.http_status === 200 ? 'OK' : 'Internal Server Error',
      httpVersion: 'HTTP/1.1',
      cookies: [],
      headers: [],
      redirectURL: '',
      headersSize: -1,
      bodySize: -1,
    })
    t.strictSame(JSON.parse(content.text), record.response)
    t.equal(content.size, Buffer.byteLength(content.text))
  }
})

t.test('O26: turn lines are replayed as what they were recorded from', async (t) => {
  const path = await exported('openenv')
  const replay = await startReplay(t, path)
  for (const record of records) {
    if (record.partial) continue
    const body = JSON.stringify(record.request)
    const headers = ['x-session-id: task-7']
    const answer = await rawRequest(replay.url, post(CHAT, body, headers))
    t.equal(answer.status, record.http_status, nameOf(record.id))
    const text = answer.body.toString()
    if (record.stream) t.match(text, /"content":.*\[DONE\]/s)
    else t.strictSame(JSON.parse(text), record.response)
  }
  t.equal(replay.egressTotal, 0)
  t.match(replay.verdict, { missed: 0 })
})
