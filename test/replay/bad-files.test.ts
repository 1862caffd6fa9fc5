/**
 * Replay files as they should not be: cut anywhere, with lines of any length, of other versions and of
 * several recorders, doubled, with bytes that are no text. Each is refused with its line, or replayed
 * soundly. `LONG=1` cuts at every
 * byte, takes lines of 100 MB and one over the bound.
 */
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { RolltapeError } from '../../src/errors.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { LINE_BYTES_MAX } from '../../src/limits.ts'
import { buildReplaySource } from '../../src/replay/build.ts'
import { IGNORE_NOTHING } from '../../src/replay/canonical.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { CHAT, ask, bodyOf, startReplay } from '../support/replayer.ts'

const isLong = process.env['LONG'] === '1'
const LINE_BYTES = isLong ? 100_000_000 : 8_000_000

/** Every byte here, and in the middle only with `LONG=1`. */
const EDGE_BYTES = 60
const MIDDLE_STEP = 17

const build = (file: string) => buildReplaySource({ file, ignore: IGNORE_NOTHING })

/** A question and its answer, in the nine keys that recorders agree on. */
function line(question: string, answer: string, more: object = {}): string {
  return JSON.stringify({
    model: 'qwen3',
    stream: false,
    status: 'success',
    response_time: 0.1,
    start_time: 1,
    end_time: 2,
    request: { model: 'qwen3', messages: [{ role: 'user', content: question }] },
    response: { choices: [{ index: 0, message: { role: 'assistant', content: answer } }] },
    error: null,
    ...more,
  })
}

async function refusal(file: string): Promise<unknown[]> {
  try {
    const rolltape = await startRolltape({ port: 0, replayFile: file, logLevel: 'silent' })
    await rolltape.close()
  } catch (error) {
    if (error instanceof RolltapeError) return [error.code, error.message]
    throw error
  }
  return ['replays']
}

async function contentOf(url: string, question: string): Promise<unknown> {
  const response = await fetch(`${url}${CHAT}`, { method: 'POST', body: bodyOf(question) })
  const text = await response.text()
  if (response.status !== 200) return response.status
  const { choices } = JSON.parse(text) as { choices: { message: { content: string } }[] }
  return choices[0]?.message.content
}

const folder = makeFolder(t)
const at = (name: string): string => join(folder, name)

/** Lines of ours as a recording has them. */
const own = await (async () => {
  const server = await startInferenceServer()
  const recorder = await startRecorder(t, server.url)
  for (const question of ['one', 'two']) await ask(recorder.url, question)
  await recorder.finish()
  await server.close()
  return readFileSync(recorder.file, 'utf8').trimEnd().split('\n')
})()

for (const [name, [first = '', last = '']] of [
  ['of ours', own],
  ['of nine keys', [line('one', 'first'), line('two', 'zwei größer 😀')]],
] as const) {
  t.test(`R22: a last line ${name} cut at every byte is left out and told`, async (t) => {
    const file = at('cut.jsonl')
    const bytes = Buffer.from(last)
    const odd: unknown[] = []
    for (let cut = 0; cut <= bytes.length; cut++) {
      const isMiddle = cut > EDGE_BYTES && cut < bytes.length - EDGE_BYTES
      if (!isLong && isMiddle && cut % MIDDLE_STEP !== 0) continue
      writeFileSync(file, Buffer.concat([Buffer.from(`${first}\n`), bytes.subarray(0, cut)]))
      const { index, troubles } = await build(file)
      const isWhole = cut === bytes.length
      const torn = `line 2 of ${file} is torn after ${cut} bytes, and left out`
      const expected = cut === 0 || isWhole ? [] : [torn]
      if (index.count !== (isWhole ? 2 : 1) || troubles.join() !== expected.join()) {
        odd.push([cut, index.count, troubles])
      }
    }
    t.strictSame(odd, [])
  })
}

t.test(`R22: a line of ${LINE_BYTES} bytes is replayed, in bounded memory`, async (t) => {
  const file = at('long.jsonl')
  const answer = 'ä'.repeat(LINE_BYTES / 2)
  writeFileSync(
    file,
    `${line('one', 'first')}\n${line('long', answer)}\n${line('two', 'second')}\n`,
  )
  const { url } = await startReplay(t, file)
  t.equal(await contentOf(url, 'two'), 'second')
  t.ok((await contentOf(url, 'long')) === answer)
  t.equal(await contentOf(url, 'one'), 'first')
  const peakBytes = process.resourceUsage().maxRSS * 1_024
  t.ok(peakBytes < 600_000_000 + 20 * LINE_BYTES, `${Math.round(peakBytes / 2 ** 20)} MiB`)
})

t.test('R22: a line over the bound is told', { skip: !isLong && 'LONG=1' }, async (t) => {
  const file = at('over.jsonl')
  writeFileSync(file, `${line('one', 'first')}\n`)
  truncateSync(file, LINE_BYTES_MAX + 2 ** 20)
  appendFileSync(file, '\n')
  t.match(await refusal(file), ['record_malformed', /^line 2 of .*over\.jsonl/])
})

t.test('R22: a record of a version to come is refused by its line', async (t) => {
  const file = at('version.jsonl')
  const later = (own[1] ?? '').replace('rolltape.record/1', 'rolltape.record/2')
  writeFileSync(file, `${own[0]}\n${later}\n`)
  t.strictSame(await refusal(file), [
    'record_malformed',
    `line 2 of ${file} has the schema "rolltape.record/2", and this rolltape reads rolltape.record/1`,
  ])
  writeFileSync(file, `${line('one', 'first', { schema: 'other.recorder/7' })}\n`)
  const { url } = await startReplay(t, file)
  t.equal(await contentOf(url, 'one'), 'first', 'that of another recorder says nothing to us')
})

t.test('R22: lines of several recorders in one file are each what they are', async (t) => {
  const file = at('mixed.jsonl')
  const turn = JSON.stringify({
    turn: 1,
    request: { model: 'qwen3', messages: [{ role: 'user', content: 'three' }] },
    response: { choices: [{ index: 0, message: { role: 'assistant', content: 'third' } }] },
  })
  writeFileSync(file, [line('nine', 'ninth'), own[0], turn, own[1], ''].join('\n'))
  const rolltape = await startReplay(t, file)
  const { url } = rolltape
  t.equal(await contentOf(url, 'nine'), 'ninth')
  t.equal(await contentOf(url, 'three'), 'third')
  for (const question of ['one', 'two']) t.type(await contentOf(url, question), 'string')
  t.match((await rolltape.close()).verdict, { missed: 0, unused: 0 })
})

t.test('R22: the same record twice is two answers, never a crash', async (t) => {
  const file = at('double.jsonl')
  writeFileSync(file, `${own[0]}\n${own[0]}\n${own[1]}\n`)
  const { url } = await startReplay(t, file)
  const [once, twice, thrice] = [
    await contentOf(url, 'one'),
    await contentOf(url, 'one'),
    await contentOf(url, 'one'),
  ]
  t.type(once, 'string')
  t.strictSame([twice, thrice], [once, 404])
})

t.test('R22: bytes that are no UTF-8 become U+FFFD inside texts', async (t) => {
  const file = at('bytes.jsonl')
  const [before, after] = line('one', 'a\u0001b').split('\\u0001')
  const bad = Buffer.from([0xff, 0xc3, 0x28])
  writeFileSync(file, Buffer.concat([Buffer.from(before!), bad, Buffer.from(`${after}\n`)]))
  const { url } = await startReplay(t, file)
  t.equal(await contentOf(url, 'one'), 'a\ufffd\ufffd(b')
})

t.test('R22: what stands between lines is refused by its line, NULs too', async (t) => {
  const good = Buffer.from(`${line('one', 'first')}\n`)
  const file = at('between.jsonl')
  for (const junk of [[0xff, 0xfe], [0x00], [0xef, 0xbb, 0xbf, 0x7b], [0x1f, 0x8b, 0x08]]) {
    writeFileSync(file, Buffer.concat([good, Buffer.from([...junk, 0x0a]), good]))
    t.match(
      await refusal(file),
      ['record_malformed', `line 2 of ${file} (byte ${good.length}) is not JSON`],
      junk.join(),
    )
  }
  const broken = line('one', 'first').replace('first', 'fi\0rst')
  writeFileSync(file, `${line('one', 'x')}\n${broken}\n`)
  t.match(await refusal(file), ['record_malformed', /^line 2 .* is not JSON$/])
  writeFileSync(file, Buffer.concat([good, Buffer.alloc(4_096)]))
  const { index, troubles } = await build(file)
  t.strictSame(
    [index.count, troubles],
    [1, [`line 2 of ${file} is torn after 4096 bytes, and left out`]],
  )
})

t.test('R22: what is no file is refused at once', async (t) => {
  mkdirSync(at('folder.jsonl'))
  execFileSync('mkfifo', [at('pipe.jsonl')])
  t.match(await refusal(at('folder.jsonl')), ['not_found', /no tape in the folder/])
  for (const path of [at('pipe.jsonl'), '/dev/zero', '/dev/null']) {
    const [code, message] = await refusal(path)
    t.strictSame([code, String(message).includes(path)], ['bad_argument', true], String(message))
  }
})
