// The sidecar of a recording: what it knows need not be read again, and it is never believed when
// it should not be.
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { buildReplaySource } from '../../src/replay/build.ts'
import type { ReplaySource } from '../../src/replay/build.ts'
import { IGNORE_NOTHING } from '../../src/replay/canonical.ts'
import { Packer } from '../../src/replay/packed.ts'
import { LineScanner } from '../../src/replay/line-scan.ts'
import { makeJsonBytes } from '../../src/replay/json-bytes.ts'
import { ignoreRules } from '../../src/replay/profiles.ts'
import {
  readSidecar,
  recordsBlock,
  rulesDigest,
  sealBlock,
  sidecarHeader,
} from '../../src/replay/sidecar.ts'
import { realDisk } from '../../src/tape/disk.ts'
import { Appender } from '../../src/trajectory/appender.ts'
import type { LineBatch } from '../../src/trajectory/appender.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { recordOf, writeLines } from '../support/record-lines.ts'
import { ask, startReplay } from '../support/replayer.ts'

/** As few as are worth a sidecar. */
const RECORDS = 1_000
const build = (file: string, ignore = IGNORE_NOTHING) => buildReplaySource({ file, ignore })

/** A recording with its sidecar. */
async function indexed(t: Test): Promise<{ file: string; sidecar: string; size: number }> {
  const file = join(makeFolder(t), 'a.jsonl')
  const size = writeLines(file, RECORDS)
  await build(file)
  return { file, sidecar: `${file}.index`, size }
}

/** Builds, and compares with what comes of the lines alone. */
async function check(t: Test, file: string, ignore = IGNORE_NOTHING): Promise<ReplaySource> {
  const source = await build(file, ignore)
  const sidecar = `${file}.index`
  const isFile = statSync(sidecar, { throwIfNoEntry: false })?.isFile() === true
  if (isFile) renameSync(sidecar, `${file}.kept`)
  const fresh = await build(file, ignore)
  if (isFile) renameSync(`${file}.kept`, sidecar)
  t.ok(Buffer.from(source.index.entries).equals(Buffer.from(fresh.index.entries)), 'all entries')
  t.strictSame(source.index.sessions, fresh.index.sessions)
  t.strictSame(source.index.models, fresh.index.models)
  return source
}

const bytesRead = ({ scannedBytes, comparedBytes }: ReplaySource): number[] => [
  scannedBytes,
  comparedBytes,
]

t.test('a recording that was read once need not be read again', async (t) => {
  const { file, size } = await indexed(t)
  t.strictSame(bytesRead(await check(t, file)), [0, 0])
  const moved = join(makeFolder(t), 'b.jsonl')
  renameSync(file, moved)
  t.strictSame(bytesRead(await check(t, moved)), [size, 0], 'without its sidecar it is')
})

t.test('what is recorded has its sidecar from the start', async (t) => {
  const server = await startInferenceServer()
  t.teardown(() => server.close())
  const recorder = await startRecorder(t, server.url)
  for (const text of ['one', 'two', 'three']) await ask(recorder.url, text)
  await recorder.finish()
  t.strictSame(bytesRead(await check(t, recorder.file)), [0, 0])
  const again = await startRecorder(t, server.url, { recordingFile: recorder.file })
  await ask(again.url, 'four', { stream: true })
  await again.finish()
  t.strictSame(bytesRead(await check(t, recorder.file)), [0, 0], 'and when it goes on')
  const { url } = await startReplay(t, recorder.file)
  t.equal((await ask(url, 'four', { stream: true })).status, 200)
})

t.test('of a recording that grew, only what came is read anew', async (t) => {
  const { file, size } = await indexed(t)
  const more = JSON.stringify(recordOf(RECORDS))
  appendFileSync(file, `${more}\n`)
  t.strictSame(bytesRead(await check(t, file)), [more.length + 1, size])
  t.strictSame(bytesRead(await check(t, file)), [0, 0])
  appendFileSync(file, more.slice(0, 100))
  const { index, troubles, scannedBytes } = await check(t, file)
  t.strictSame([index.count, scannedBytes], [RECORDS + 1, 100])
  t.match(troubles, [`line ${RECORDS + 2} of ${file} is torn after 100 bytes, and left out`])
})

t.test('a last line without its break is read on when it goes on', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const size = writeLines(file, RECORDS)
  truncateSync(file, size - 1)
  await build(file)
  t.strictSame(bytesRead(await check(t, file)), [0, 0])
  appendFileSync(file, ` \n${JSON.stringify(recordOf(RECORDS))}\n`)
  t.equal((await check(t, file)).index.count, RECORDS + 1)
})

t.test('a file that was edited by hand, with the same size, is read anew', async (t) => {
  const { file, size } = await indexed(t)
  const bytes = readFileSync(file)
  const at = bytes.indexOf('"session":"rollout-40"')
  bytes.write('"session":"rollout-xx"', at)
  writeFileSync(file, bytes)
  t.ok((await check(t, file)).index.sessions.includes('rollout-xx'))
  const { file: other } = await indexed(t)
  const { atime, mtime } = statSync(other)
  const changed = readFileSync(other)
  changed.write(
    '"turn":7',
    changed.lastIndexOf('"turn":20') === -1 ? 0 : changed.lastIndexOf('"turn":2'),
  )
  writeFileSync(other, changed)
  utimesSync(other, atime, mtime)
  t.equal(bytesRead(await check(t, other))[0], size, 'also with its old time, by its tail')
})

t.test('a file whose time alone is new is compared, and not read anew', async (t) => {
  const { file, size } = await indexed(t)
  utimesSync(file, 1, 1)
  t.strictSame(bytesRead(await check(t, file)), [0, size])
})

t.test('a file that was made anew, cut, or emptied has nothing of the old one', async (t) => {
  const { file, size } = await indexed(t)
  rmSync(file)
  writeLines(file, RECORDS, 'ho')
  await check(t, file)
  truncateSync(file, Math.floor(size / 2))
  await check(t, file)
  truncateSync(file, 0)
  t.equal((await check(t, file)).index.count, 0)
})

t.test('other ignore rules make other keys, and a sidecar of their own', async (t) => {
  const { file, size } = await indexed(t)
  const rules = ignoreRules(['/messages/*/content'], ['codex'])
  t.strictSame(bytesRead(await check(t, file, rules)), [size, 0])
  t.strictSame(bytesRead(await check(t, file, rules)), [0, 0])
  t.strictSame(bytesRead(await check(t, file)), [size, 0])
})

t.test('a sidecar that is damaged anywhere is not believed there', async (t) => {
  const { file, sidecar, size } = await indexed(t)
  const whole = readFileSync(sidecar)
  const sealAt = whole.lastIndexOf('{"size"')
  for (const at of [0, 20, 100, whole.indexOf('{"sessions"'), sealAt - 40, sealAt]) {
    const bytes = copyOf(whole)
    bytes[at] = (bytes[at] ?? 0) ^ 1
    writeFileSync(sidecar, bytes)
    const [scanned, compared] = bytesRead(await check(t, file))
    t.strictSame([scanned, compared], at < sealAt - 80 ? [size, 0] : [0, size], `byte ${at}`)
  }
})

t.test('whichever of its bits is another, it is seen', async (t) => {
  const rules = rulesDigest(IGNORE_NOTHING)
  const { index, bytes: lines } = batchOf(0, 5)
  const range = { from: 0, to: lines.length, lines: 5, contentCrc: crc32(lines) }
  const edges = { headCrc: 1, tailCrc: 2 }
  const seal = sealBlock({ size: lines.length, mtimeNs: '1', vouchedFrom: 0, ...edges })
  const whole = Buffer.concat([sidecarHeader(), recordsBlock(range, index!, rules), seal])
  const sealFrom = whole.length - seal.length
  const read = readSidecar(copyOf(whole), rules, lines.length)
  t.strictSame([read.blocks.length, read.seal?.mtimeNs, read.end], [1, '1', whole.length])
  const believed: number[] = []
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const bytes = copyOf(whole)
    const at = bit >> 3
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7))
    const { blocks, seal } = readSidecar(bytes, rules, lines.length)
    if (at < sealFrom ? blocks.length > 0 : seal !== undefined) believed.push(bit)
  }
  t.strictSame(believed, [])
})

t.test('one of another version of the format is made anew', async (t) => {
  const { file, sidecar, size } = await indexed(t)
  const bytes = readFileSync(sidecar)
  bytes.writeUInt32LE(2, 8)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 12)), 12)
  writeFileSync(sidecar, bytes)
  t.strictSame(bytesRead(await check(t, file)), [size, 0])
  t.strictSame(bytesRead(await check(t, file)), [0, 0])
})

/** In memory of its own, from a whole word on. */
function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}

t.test('one that a crash cut off, at any place, is worth what is whole of it', async (t) => {
  const { file, sidecar } = await indexed(t)
  const whole = readFileSync(sidecar)
  for (let bytes = 0; bytes < whole.length; bytes += Math.ceil(whole.length / 7)) {
    writeFileSync(sidecar, whole.subarray(0, bytes))
    t.not(bytesRead(await check(t, file)).join(), '0,0')
  }
})

t.test('where none can be written, the recording is read all the same', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  const size = writeLines(file, RECORDS)
  mkdirSync(`${file}.index`)
  for (let i = 0; i < 2; i++) t.strictSame(bytesRead(await check(t, file)), [size, 0])
  t.strictSame(readdirSync(join(file, '..')).sort(), ['a.jsonl', 'a.jsonl.index'])
})

t.test('while somebody records, that is who writes it', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  writeLines(file, RECORDS)
  mkdirSync(file.replace('.jsonl', '.tape'))
  writeFileSync(file.replace('.jsonl', '.tape/lock'), '')
  await build(file)
  t.notOk(existsSync(`${file}.index`))
})

t.test('two who read at once both write it, and one of them stays', async (t) => {
  const file = join(makeFolder(t), 'a.jsonl')
  // More than is read without threads.
  writeLines(file, 3 * RECORDS)
  await Promise.all([build(file), build(file), build(file)])
  t.strictSame(bytesRead(await check(t, file)), [0, 0])
  t.strictSame(readdirSync(join(file, '..')).sort(), ['a.jsonl', 'a.jsonl.index'])
})

/** A batch of lines as a derive worker hands it over. */
function batchOf(from: number, count: number): LineBatch {
  const lines = Array.from({ length: count }, (_, i) => `${JSON.stringify(recordOf(from + i))}\n`)
  const json = makeJsonBytes(lines.join('').length)
  json.bytes.write(lines.join(''))
  const packer = new Packer()
  let at = 0
  for (const line of lines)
    at = new LineScanner(IGNORE_NOTHING).scan(packer, json, at, at) + 1 || line.length
  return {
    seqs: lines.map((_, i) => from + i + 1),
    bytes: json.bytes.subarray(0, at),
    lengths: lines.map(({ length }) => length),
    voids: [],
    index: packer.take(),
  }
}

const NEW = { jsonlBytes: 0, derived: [] }

t.test('lines written twice, in part, or not at all leave it true', async (t) => {
  const folder = makeFolder(t)
  const files = { jsonl: join(folder, 'a.jsonl'), checkpoint: join(folder, 'c'), sidecar: true }
  let writes = 0
  const disk = {
    ...realDisk,
    // Every third write is short, and the next one fails.
    writeSync: (fd: number, bytes: Buffer, at: number | null): number => {
      const turn = ++writes % 4
      if (turn === 0) throw new Error('no space')
      return realDisk.writeSync(fd, turn === 3 ? bytes.subarray(0, 100) : bytes, at)
    },
  }
  const appender = new Appender(files, NEW, disk)
  for (let i = 0; i < 10; i++) {
    const batch = batchOf(i * 4, 6)
    try {
      appender.append(batch)
    } catch {
      appender.append(batch)
    }
    if (i % 4 === 0) appender.checkpoint()
  }
  appender.close()
  const source = await check(t, files.jsonl)
  t.strictSame([...bytesRead(source), source.index.count], [0, 0, 42])
})

t.test('what a crash took of it is read, what it left is compared', async (t) => {
  const folder = makeFolder(t)
  const files = { jsonl: join(folder, 'a.jsonl'), checkpoint: join(folder, 'c'), sidecar: true }
  const crashed = new Appender(files, NEW)
  crashed.append(batchOf(0, 10))
  crashed.checkpoint()
  const compared = statSync(files.jsonl).size
  crashed.append(batchOf(10, 5))
  const crashedSize = statSync(files.jsonl).size
  t.strictSame(bytesRead(await check(t, files.jsonl)), [crashedSize - compared, compared])
  appendFileSync(`${files.jsonl}.index`, Buffer.alloc(33, 'RTIB'))
  const next = new Appender(files, { jsonlBytes: crashedSize, derived: [[1, 15]] })
  next.append(batchOf(15, 5))
  next.close()
  t.strictSame(bytesRead(await check(t, files.jsonl)), [crashedSize - compared, compared])
})

t.test('a recording that was cut back while nobody looked is not vouched for', async (t) => {
  const folder = makeFolder(t)
  const files = { jsonl: join(folder, 'a.jsonl'), checkpoint: join(folder, 'c'), sidecar: true }
  const first = new Appender(files, NEW)
  first.append(batchOf(0, 10))
  first.close()
  truncateSync(files.jsonl, batchOf(0, 3).bytes.length)
  const next = new Appender(files, NEW)
  next.append(batchOf(100, 7))
  next.close()
  const { index } = await check(t, files.jsonl)
  t.equal(index.count, 10)
})
