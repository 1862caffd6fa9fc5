// The index of a recording of many records: made in threads, of typed arrays, with the place of
// whatever is wrong.
import {
  appendFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { INDEX_STRETCH_BYTES } from '../../src/limits.ts'
import { buildReplaySource } from '../../src/replay/build.ts'
import { IGNORE_NOTHING } from '../../src/replay/canonical.ts'
import type { IndexMemory } from '../../src/replay/index-table.ts'
import { ReplayIndex } from '../../src/replay/index-table.ts'
import { makeFolder } from '../support/recorder.ts'
import { recordOf, writeLines } from '../support/record-lines.ts'

const RECORDS = 40_000
const build = (file: string) => buildReplaySource({ file, ignore: IGNORE_NOTHING })

function bytesOf(index: IndexMemory): number {
  const shared = [index.entries, index.sessionFirst, ...index.tables]
  return shared.reduce((sum, { byteLength }) => sum + byteLength, 0)
}

const folder = makeFolder(t)
const file = join(folder, 'many.jsonl')
const bytes = writeLines(file, RECORDS)

t.test('all records are there, in their order, wherever the file was cut', async (t) => {
  t.ok(bytes > 2 * INDEX_STRETCH_BYTES, 'several stretches')
  const progress: [number, number][] = []
  const { index, troubles } = await buildReplaySource({
    file,
    ignore: IGNORE_NOTHING,
    onProgress: (done, total) => progress.push([done, total]),
  })
  t.strictSame([index.count, troubles], [RECORDS, []])
  t.strictSame(progress.at(-1), [bytes, bytes])
  t.equal(progress.length, Math.ceil(bytes / INDEX_STRETCH_BYTES))
  const table = new ReplayIndex(index)
  const whole = readFileSync(file)
  const wrong = Array.from({ length: RECORDS }, (_, n) => n).filter((n) => {
    const { seq, lineOffset, lineBytes, session, turn } = table.entry(n)
    const next = whole[lineOffset + lineBytes]
    const isLine = whole[lineOffset] === 0x7b && next === 0x0a
    const isPlaced = seq === n + 1 && index.sessions[session] === `rollout-${Math.floor(n / 20)}`
    return !isLine || !isPlaced || turn !== (n % 20) + 1
  })
  t.strictSame(wrong, [])
})

t.test('a record takes at most 200 bytes of shared memory', async (t) => {
  const { index } = await build(file)
  t.ok(bytesOf(index) / RECORDS <= 200, `${Math.round(bytesOf(index) / RECORDS)} bytes`)
})

t.test(
  'R22: a malformed line is named by its number, in whichever stretch it stands',
  async (t) => {
    const whole = readFileSync(file)
    for (const n of [0, 17, RECORDS / 2, RECORDS - 1]) {
      const { lineOffset, lineBytes } = new ReplayIndex((await build(file)).index).entry(n)
      const broken = join(folder, 'broken.jsonl')
      const middle = lineOffset + Math.floor(lineBytes / 2)
      // Cut in its middle, with the next line right behind: what a crash in the middle leaves.
      writeFileSync(
        broken,
        Buffer.concat([whole.subarray(0, middle), Buffer.from('\n'), whole.subarray(middle)]),
      )
      await t.rejects(build(broken), {
        code: 'record_malformed',
        message: `line ${n + 1} of ${broken} (byte ${lineOffset}) is not JSON`,
      })
      writeFileSync(broken, whole)
      const fd = openSync(broken, 'r+')
      writeSync(fd, Buffer.alloc(40), 0, 40, middle)
      await t.rejects(build(broken), {
        code: 'record_malformed',
        message: `line ${n + 1} of ${broken} (byte ${lineOffset}) is not JSON`,
      })
    }
  },
)

t.test('R22: zeros that a disk left in an answer are found, with their line', async (t) => {
  const whole = readFileSync(file)
  const n = RECORDS / 2
  const { lineOffset } = new ReplayIndex((await build(file)).index).entry(n)
  const zeroed = join(folder, 'zeroed.jsonl')
  whole.fill(0, whole.indexOf('"response":{', lineOffset) + 30, whole.indexOf(`"answer ${n}"`) + 5)
  writeFileSync(zeroed, whole)
  await t.rejects(build(zeroed), {
    message: `line ${n + 1} of ${zeroed} (byte ${lineOffset}) is not JSON`,
  })
})

t.test('R22: a torn last line is left out and told, with its number', async (t) => {
  const torn = join(folder, 'torn.jsonl')
  writeFileSync(torn, readFileSync(file))
  appendFileSync(torn, JSON.stringify(recordOf(RECORDS)).slice(0, 500))
  const { index, troubles } = await build(torn)
  t.equal(index.count, RECORDS)
  t.strictSame(troubles, [`line ${RECORDS + 1} of ${torn} is torn after 500 bytes, and left out`])
})

t.test('lines longer than a block, and stretches that no line begins in', async (t) => {
  const long = join(folder, 'long.jsonl')
  const content = 'x'.repeat(2.5 * INDEX_STRETCH_BYTES)
  const lines = [{}, { content }, {}, {}].map((options, n) => JSON.stringify(recordOf(n, options)))
  writeFileSync(long, lines.join('\n'))
  const { index, troubles } = await build(long)
  t.strictSame([index.count, troubles], [4, []])
  t.equal(new ReplayIndex(index).entry(1).lineBytes, lines[1]?.length)
})

t.test('a line that begins just where a stretch does is there once', async (t) => {
  const edge = join(folder, 'edge.jsonl')
  const blank = JSON.stringify(recordOf(0, { content: '' })).length + 1
  for (const extra of [-1, 0, 1]) {
    const content = 'x'.repeat(INDEX_STRETCH_BYTES - blank + extra)
    const lines = [{ content }, {}, {}].map((options, n) => JSON.stringify(recordOf(n, options)))
    writeFileSync(edge, `${lines.join('\n')}\n`)
    t.equal((await build(edge)).index.count, 3, `${extra} bytes behind it`)
  }
})

t.test('a part that is closed while the source is read is read as well', async (t) => {
  const parts = join(folder, 'closing')
  mkdirSync(parts)
  const file = join(parts, 'a.jsonl')
  writeLines(file, 3)
  let rotations = 0
  const onProgress = (): void => {
    if (rotations >= 2) return
    renameSync(file, join(parts, `a.00000${++rotations}.jsonl`))
    writeLines(file, 3, 'hi', 3 * rotations)
  }
  const { index, files } = await buildReplaySource({ file, ignore: IGNORE_NOTHING, onProgress })
  t.strictSame([index.count, files.length], [9, 3])
  const table = new ReplayIndex(index)
  const seqs = Array.from({ length: 9 }, (_, n) => table.entry(n).seq)
  t.strictSame(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9])
})

t.test('the parts that rotations closed before a file belong to it', async (t) => {
  const parts = join(folder, 'parts')
  mkdirSync(parts)
  const path = (name: string): string => join(parts, name)
  writeLines(path('a.000001.jsonl'), 3)
  writeFileSync(path('a.000002.jsonl'), '')
  for (const [name, from] of [
    ['a.000010.jsonl', 3],
    ['a.jsonl', 5],
    ['ab.000001.jsonl', 90],
  ] as const) {
    const lines = [from, from + 1].map((n) => `${JSON.stringify(recordOf(n))}\n`)
    writeFileSync(path(name), lines.join(''))
  }
  const { index, files } = await build(path('a.jsonl'))
  t.strictSame(files, ['a.000001.jsonl', 'a.000002.jsonl', 'a.000010.jsonl', 'a.jsonl'].map(path))
  const table = new ReplayIndex(index)
  t.strictSame(
    Array.from({ length: index.count }, (_, n) => [table.entry(n).seq, table.entry(n).file]),
    [
      [1, 0],
      [2, 0],
      [3, 0],
      [4, 2],
      [5, 2],
      [6, 3],
      [7, 3],
    ],
  )
  const [one] = (await build(path('a.000010.jsonl'))).files
  t.equal(one, path('a.000010.jsonl'))
  writeFileSync(path('a.000002.jsonl'), '\n{"torn":')
  t.strictSame((await build(path('a.jsonl'))).troubles, [
    `line 2 of ${path('a.000002.jsonl')} is torn after 8 bytes, and left out`,
  ])
})
