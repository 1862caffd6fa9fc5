// Parts of a recording are closed while it is written: each exchange is in exactly one of them.
import { existsSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { SegmentFile } from '../../src/tape/segment-file.ts'
import type { Checkpoint } from '../../src/trajectory/appender.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }
/** 200 in the long form: `LONG=1 node test/supervisor/rotation.test.ts`. */
const ROTATIONS = process.env['LONG'] === undefined ? 30 : 200
const CLIENTS = 60

/** An upstream whose streams last a while: some span several rotations. */
async function startUpstream(t: Test) {
  const upstream = await startScriptedUpstream(async (x) => {
    const chunks = x.body.includes('long') ? 40 : 2
    await x.send(
      responseHead(200, 'OK', [
        ['Content-Type', 'text/event-stream'],
        ['Connection', 'close'],
      ]),
    )
    for (let i = 0; i < chunks; i++) {
      await x.send(`data: {"choices":[{"index":0,"delta":{"content":"${i}"}}]}\n\n`, () =>
        setTimeout(2),
      )
    }
    await x.send('data: [DONE]\n\n')
    x.end()
  })
  t.teardown(() => upstream.close())
  return upstream.url
}

async function start(t: Test, file: string, options: RolltapeOptions = {}) {
  const config = resolveOptions({
    options: { port: 0, proxyBaseUrl: await startUpstream(t), recordingFile: file, ...options },
  })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  return { supervisor, url: `http://127.0.0.1:${supervisor.port}` }
}

function filesOf(file: string): string[] {
  const stem = basename(file, '.jsonl')
  const names = readdirSync(dirname(file)).filter((name) => name.endsWith('.jsonl'))
  return names.filter((name) => name.startsWith(stem)).map((name) => join(dirname(file), name))
}

async function seqsOf(file: string): Promise<number[]> {
  return (await recordsOf(file)).map(({ seq }) => seq)
}

async function askOnce(url: string, content: string): Promise<number> {
  const client = await RawClient.open(url)
  client.send(post(CHAT, bodyOf(content, { stream: true })))
  const { status, whole } = await client.answer()
  client.close()
  return whole ? status : 0
}

for (const lanes of [1, 2]) {
  t.test(`${ROTATIONS} rotations under load, lanes ${lanes}: each exchange once`, async (t) => {
    const file = join(makeFolder(t), 'a.jsonl')
    const { supervisor, url } = await start(t, file, { lanes })
    let over = false
    let asked = 0
    const statuses = new Set<number>()
    const worker = async (_: unknown, i: number): Promise<void> => {
      while (!over) {
        asked++
        statuses.add(await askOnce(url, i % 4 === 0 ? 'long' : 'short'))
      }
    }
    const workers = Array.from({ length: CLIENTS }, worker)
    const closed: { file: string; lines: number }[] = []
    for (let i = 1; i <= ROTATIONS; i++) {
      const rotation = await supervisor.rotate()
      closed.push(rotation.closed)
      t.equal(rotation.part, i + 1)
      t.equal(rotation.closed.file, join(dirname(file), `a.${String(i).padStart(6, '0')}.jsonl`))
    }
    over = true
    await Promise.all(workers)
    t.match(await supervisor.close(), { records: asked, trouble: null })
    t.strictSame(statuses, new Set([200]))
    const all: number[] = []
    for (const path of filesOf(file)) {
      const seqs = await seqsOf(path)
      all.push(...seqs)
      const told = closed.find((one) => one.file === path)
      if (told !== undefined && told.lines !== seqs.length) t.equal(told.lines, seqs.length, path)
      const text = readFileSync(path, 'utf8')
      if (text !== '' && !text.endsWith('\n')) t.fail(`${path} ends in the middle of a line`)
    }
    t.equal(filesOf(file).length, ROTATIONS + 1)
    t.strictSame(
      all.toSorted((a, b) => a - b),
      Array.from({ length: asked }, (_, i) => i + 1),
    )
    const folder = file.replace(/\.jsonl$/, '.tape')
    const tape = new TapeFolder(folder)
    t.teardown(() => tape.close())
    for (const [i, path] of filesOf(file).sort().entries()) {
      const part = path === file ? ROTATIONS + 1 : i + 1
      for (const { tape: place, seq } of await recordsOf(path)) {
        const { end } = tape.exchange({ segment: place.segment, offset: place.end })
        if (end?.part !== part) t.fail(`exchange ${seq} of part ${end?.part} is in ${path}`)
      }
    }
    for (const name of readdirSync(folder).filter((one) => one.endsWith('.tape'))) {
      const segment = new SegmentFile(folder, name)
      const { skipped, tornBytes } = segment.walk(() => true, {
        from: segment.firstFrame,
        wants: () => true,
      })
      segment.close()
      if (skipped.length + tornBytes > 0) t.fail(`${name} does not read whole`)
    }
  })
}

t.test('without a recording there is nothing to rotate', async (t) => {
  const config = resolveOptions({ options: { port: 0, proxyBaseUrl: 'http://127.0.0.1:9' } })
  const supervisor = new Supervisor(config, SILENT)
  await supervisor.start()
  t.teardown(() => supervisor.close())
  await t.rejects(supervisor.rotate(), { code: 'wrong_state' })
})

t.test('by size and by age', async (t) => {
  const bySize = join(makeFolder(t), 'a.jsonl')
  const { supervisor, url } = await start(t, bySize, { rotateBytes: 2_000 })
  for (let i = 0; i < 4; i++) await askOnce(url, 'short')
  while (filesOf(bySize).length < 2) await setTimeout(20)
  await supervisor.close()
  const byAge = join(makeFolder(t), 'b.jsonl')
  const aged = await start(t, byAge, { rotateInterval: '1s' })
  await setTimeout(1_200)
  t.equal(filesOf(byAge).length, 1, 'a part without a record is not closed')
  await askOnce(aged.url, 'short')
  while (filesOf(byAge).length < 2) await setTimeout(20)
  t.equal((await seqsOf(join(dirname(byAge), 'b.000001.jsonl'))).length, 1)
})

t.test('parts, numbers and turns go on after a restart', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const first = await start(t, file)
  await askOnce(first.url, 'one')
  await first.supervisor.rotate()
  await askOnce(first.url, 'two')
  await first.supervisor.close()
  const second = await start(t, file)
  await askOnce(second.url, 'three')
  const { closed, part } = await second.supervisor.rotate()
  t.strictSame([basename(closed.file), closed.lines, part], ['a.000002.jsonl', 2, 3])
  await second.supervisor.close()
  const found = await Promise.all(filesOf(file).sort().map(recordsOf))
  t.strictSame(
    found.map((records) => records.map(({ seq, turn }) => [seq, turn])),
    [
      [[1, 1]],
      [
        [2, 2],
        [3, 3],
      ],
      [],
    ],
  )
})

/** Where a crash may meet a rotation, made by hand from one that was not met. */
for (const [where, met] of [
  ['before the file has its new name', false],
  ['before the new file is begun', true],
] as const) {
  t.test(`a crash ${where}: a restart doubles nothing`, async (t) => {
    const file = join(makeFolder(t), 'a.jsonl')
    const first = await start(t, file)
    for (let i = 0; i < 3; i++) await askOnce(first.url, 'short')
    await first.supervisor.close()
    const path = join(file.replace(/\.jsonl$/, '.tape'), 'derived.json')
    const left = JSON.parse(readFileSync(path, 'utf8')) as Checkpoint
    const { writeFileSync } = await import('node:fs')
    writeFileSync(path, JSON.stringify({ ...left, rotatingTo: 'a.000001.jsonl' }))
    if (met) renameSync(file, join(dirname(file), 'a.000001.jsonl'))
    const second = await start(t, file)
    t.equal(second.supervisor.recovery?.recovered, 0)
    await askOnce(second.url, 'short')
    const { closed } = await second.supervisor.rotate()
    t.strictSame(
      [basename(closed.file), closed.lines],
      met ? ['a.000002.jsonl', 1] : ['a.000001.jsonl', 4],
    )
    await second.supervisor.close()
  })
}

t.test('a file that was deleted is made anew without what closed parts hold', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const first = await start(t, file)
  await askOnce(first.url, 'one')
  await first.supervisor.rotate()
  await askOnce(first.url, 'two')
  await first.supervisor.close()
  rmSync(file)
  const second = await start(t, file)
  await second.supervisor.close()
  t.strictSame(await seqsOf(file), [2])
  t.ok(existsSync(join(dirname(file), 'a.000001.jsonl')))
})
