// What can be given as --replay-file, and what is said of what cannot.
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { RolltapeError } from '../../src/errors.ts'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { buildReplaySource } from '../../src/replay/build.ts'
import { IGNORE_NOTHING } from '../../src/replay/canonical.ts'
import { ReplayIndex } from '../../src/replay/index-table.ts'
import { IS_PARTIAL, IS_TRUNCATED } from '../../src/replay/packed.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { rolltape } from '../cli/harness.ts'
import { rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { ask, plain, startReplay } from '../support/replayer.ts'

/** Records three answers: a whole one, a stream, an error; and the list of models. */
async function record(t: Test) {
  const server = await startInferenceServer()
  const recorder = await startRecorder(t, server.url)
  const { url } = recorder
  const answers = [
    await ask(url, 'one'),
    await ask(url, 'two', { stream: true }),
    await ask(url, 'three', { scenario: { status: 429 } }),
    await rawRequest(url, 'GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n', 'GET'),
  ]
  const records = await recorder.finish()
  await server.close()
  return { ...recorder, answers, records }
}

function askAgain(url: string) {
  return Promise.all([
    ask(url, 'one'),
    ask(url, 'two', { stream: true }),
    ask(url, 'three', { scenario: { status: 429 } }),
    rawRequest(url, 'GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n', 'GET'),
  ])
}

const build = (file: string) => buildReplaySource({ file, ignore: IGNORE_NOTHING })

async function refusal(file: string): Promise<unknown[]> {
  try {
    await startRolltape({ port: 0, replayFile: file, logLevel: 'silent' })
  } catch (error) {
    if (error instanceof RolltapeError) return [error.code, error.message, error.hint]
    throw error
  }
  return []
}

t.test('a segment that a crash left blank is stepped over by every reader', async (t) => {
  const { folder, file, answers } = await record(t)
  const sums = (await rolltape(['stats', folder, '--json'])).stdout
  const lines = (await rolltape(['inspect', folder, '--json'])).stdout
  for (const [name, bytes] of [
    ['0-000002.tape', 0],
    ['0-000003.tape', 5_000],
    ['1-000001.tape', 0],
  ] as const) {
    writeFileSync(join(folder, name), Buffer.alloc(bytes))
  }
  t.match(await rolltape(['stats', folder, '--json']), { code: 0, stdout: sums, stderr: '' })
  t.match(await rolltape(['inspect', folder, '--json']), { code: 0, stdout: lines, stderr: '' })
  t.match(await rolltape(['verify', folder]), { code: 0, stdout: /torn by a crash/ })
  t.match(await rolltape(['derive', folder, '--out', '-']), {
    code: 0,
    stdout: readFileSync(file, 'utf8'),
  })
  t.match(await rolltape(['scan', folder]), { code: 0 })
  const { url } = await startReplay(t, folder)
  t.strictSame((await askAgain(url)).map(plain), answers.map(plain))
})

t.test('a segment whose beginning alone is zeros was written, and is damage', async (t) => {
  const { folder } = await record(t)
  const path = join(folder, '0-000001.tape')
  writeFileSync(path, Buffer.concat([Buffer.alloc(8_192), readFileSync(path)]))
  t.match(await rolltape(['verify', folder]), { code: 1, stdout: /DAMAGE .*segment header/ })
  t.match(await rolltape(['stats', folder]), { code: 1, stderr: /segment header/ })
})

t.test('R22 R25: a tape folder alone gives the bytes that were recorded', async (t) => {
  const { folder, answers } = await record(t)
  const rolltape = await startReplay(t, folder)
  t.strictSame((await askAgain(rolltape.url)).map(plain), answers.map(plain))
  t.equal(rolltape.egressTotal, 0)
  t.match((await rolltape.close()).verdict, { servedExact: 4, unused: 0 })
})

t.test('R22: records without their tape give the same bodies but for the stream’s', async (t) => {
  const { file, answers, records } = await record(t)
  const copy = join(makeFolder(t), 'b.jsonl')
  copyFileSync(file, copy)
  const { url } = await startReplay(t, copy)
  const again = await askAgain(url)
  t.strictSame(
    again.map(({ status }) => status),
    [200, 200, 429, 200],
  )
  for (const at of [0, 2, 3]) t.strictSame(again[at]?.body, answers[at]?.body)
  const [first = '', mark] = again[1]?.body.toString().split('\n\n') ?? []
  const { choices, ...root } = JSON.parse(first.slice(6))
  const response = records[1]!.response as { id: string; choices: { message: object }[] }
  t.equal(root.id, response.id)
  t.strictSame(choices[0].delta, response.choices[0]!.message)
  t.equal(mark, 'data: [DONE]')
})

t.test('a segment that is gone costs the exact bytes, not the answers', async (t) => {
  const { file, folder, answers } = await record(t)
  const copy = join(makeFolder(t), 'b.jsonl')
  copyFileSync(file, copy)
  mkdirSync(copy.replace('.jsonl', '.tape'))
  t.ok(readdirSync(folder).length > 0)
  const { url } = await startReplay(t, copy)
  t.strictSame((await ask(url, 'one')).body, answers[0]?.body)
})

t.test('beside the tape of another recording the records alone are gone by', async (t) => {
  const recorded = async (letter: string) => {
    const body = JSON.stringify({ choices: [{ message: { content: letter.repeat(40) } }] })
    const length = `${body.length}`
    const type = ['Content-Type', 'application/json'] as const
    const upstream = await startScriptedUpstream((x) => {
      return x.send(responseHead(200, 'OK', [type, ['Content-Length', length]]), body)
    })
    const recorder = await startRecorder(t, upstream.url)
    await ask(recorder.url, 'one')
    const records = await recorder.finish()
    await upstream.close()
    return { ...recorder, records, body }
  }
  const [one, other] = [await recorded('a'), await recorded('b')]
  t.strictSame(one.records[0]!.tape, other.records[0]!.tape, 'both stand at the same place')
  const copy = join(makeFolder(t), 'c.jsonl')
  const beside = copy.replace('.jsonl', '.tape')
  copyFileSync(one.file, copy)
  cpSync(other.folder, beside, { recursive: true })
  const { troubles, folder } = await build(copy)
  const ids = [one, other].map(({ records }) => records[0]!.id.replace(/-1$/, ''))
  t.strictSame(troubles, [
    `${beside} is the tape of recording ${ids[1]}, and the records are of ${ids[0]}: answers are made of the records alone`,
  ])
  t.equal(folder, undefined)
  const { url } = await startReplay(t, copy)
  t.match((await ask(url, 'one')).body.toString(), /"content":"a{40}"/)
  t.match(await rolltape(['show', '1', copy, '--raw', 'response']), {
    code: 1,
    stderr: /is the tape of another recording/,
  })
  t.match(await rolltape(['show', '1', copy]), { stdout: /timeline {2}not available: .* another/ })
})

t.test('another exchange at a record’s place on the tape is no answer', async (t) => {
  const { file, records } = await record(t)
  const [first, second] = records.map((one) => ({ ...one, tape: records[0]!.tape }))
  writeFileSync(file, `${JSON.stringify(first)}\n${JSON.stringify(second)}\n`)
  const { url } = await startReplay(t, file)
  t.equal((await ask(url, 'one')).status, 200)
  const wrong = await ask(url, 'two', { stream: true })
  t.not(wrong.status, 200)
  t.match(wrong.body.toString(), /no sound frame of exchange 2/)
})

t.test('R22: an exchange that a crash left open is partial, in its place', async (t) => {
  const { folder, records } = await record(t)
  const copy = join(makeFolder(t), 'b.tape')
  mkdirSync(copy)
  const [name = ''] = readdirSync(folder).filter((entry) => entry.endsWith('.tape'))
  const whole = readFileSync(join(folder, name))
  // The END of the stream, the second of four, and all behind it was never written.
  writeFileSync(join(copy, name), whole.subarray(0, records[1]!.tape.end))
  const { index, troubles, folder: found } = await build(copy)
  const table = new ReplayIndex(index)
  t.strictSame([index.count, troubles, found], [2, [], copy])
  t.equal(table.flags(0) & (IS_PARTIAL | IS_TRUNCATED), 0)
  t.equal(table.entry(1).segment, 0)
  const { url } = await startReplay(t, copy)
  t.match(JSON.parse((await ask(url, 'three')).body.toString()), { error: { code: 'tape_miss' } })
  t.equal((await ask(url, 'one')).status, 200)
})

t.test('R22: what is no source is refused at the start, with the place', async (t) => {
  const { folder } = await record(t)
  const dir = makeFolder(t)
  const at = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text)
    return join(dir, name)
  }
  const none = join(dir, 'none.jsonl')
  t.strictSame(await refusal(none), [
    'not_found',
    `there is no recording at ${none}`,
    'give the .jsonl of a recording, or its tape folder, as --replay-file',
  ])
  const gone = folder.replace('.tape', '.000001.jsonl')
  t.strictSame((await refusal(gone)).slice(2), [`its tape is there: --replay-file ${folder}`])
  t.strictSame(await refusal(dir), [
    'not_found',
    `there is no tape in the folder ${dir}`,
    'give a .jsonl of records, or a tape folder such as runs/a.tape',
  ])
  const good = '{"request":{},"response":{"choices":[{"message":{}}]}}'
  const broken = at('broken.jsonl', `${good}\n\n{"request"\n${good}\n`)
  t.match(await refusal(broken), ['record_malformed', `line 3 of ${broken} (byte 56) is not JSON`])
  const list = at('list.jsonl', `${good}\n[1]\n`)
  t.match(await refusal(list), ['record_malformed', /^line 2 .* is not a JSON object$/])
  const other = at('other.jsonl', `${good}\n{"a":1}\n`)
  t.strictSame(await refusal(other), [
    'record_malformed',
    `line 2 of ${other} has neither a request nor a response`,
    'docs/replay.md tells which lines can be replayed; take this one out',
  ])
})

t.test('R22: blank lines are skipped; a torn last line is left out and told', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const line = '{"request":{"a":1},"response":{"choices":[{"message":{}}]}}'
  writeFileSync(file, `\n${line}\n  \r\n\n${line}\n`)
  t.strictSame((await build(file)).troubles, [])
  appendFileSync(file, '{"request":{"a":')
  const { index, troubles } = await build(file)
  t.equal(index.count, 2)
  t.strictSame(troubles, [`line 6 of ${file} is torn after 16 bytes, and left out`])
})

t.test('turns that begin again at 1 come after those before', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const turns = [2, 1, 3, 1, 2]
  const lines = turns.map((turn) => JSON.stringify({ turn, request: {}, response: {} }))
  writeFileSync(file, lines.join('\n'))
  const { index } = await build(file)
  const table = new ReplayIndex(index)
  const order = turns.map((_, record) => table.entry(record))
  t.strictSame(
    order.map(({ seq, turn }) => [seq, turn]),
    [1, 2, 3, 4, 5].map((seq, at) => [seq, [1, 2, 3, 1, 2][at]]),
  )
})
