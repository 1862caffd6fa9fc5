/**
 * A recording whose segments are sealed while it goes on: everything that reads a tape reads it as
 * it stands, and gives what it gave before.
 */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { rolltape } from '../cli/harness.ts'
import { recordsOf, startRecorder } from '../support/recorder.ts'
import { startReplay } from '../support/replayer.ts'
import { say, talk, untilFolder } from '../support/segments.ts'

const SEGMENT_BYTES = 64 * 1024

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const sealedIn = (names: readonly string[]): string[] =>
  names.filter((name) => name.endsWith('.zst'))

const recorder = await startRecorder(t, upstream.url, { segmentBytes: '64KiB' })
const { file, folder } = recorder
const answers = await talk(recorder.url, 12)
// All but the one that is being written.
await untilFolder(
  folder,
  (names) => names.filter((name) => /\.tape$|\.new$/.test(name)).length === 1,
)
const live = await rolltape(['verify', file, '--json'])
const records = await recorder.finish()

t.test('while it records, it is whole', async (t) => {
  t.match(JSON.parse(live.stdout), { whole: true, exchanges: 36 })
})

t.test('finished segments are sealed, and their plain files gone', async (t) => {
  const names = readdirSync(folder)
  for (const name of sealedIn(names)) t.notOk(names.includes(name.replace('.zst', '')), name)
  t.ok(
    names.some((name) => name.endsWith('.tape')),
    'the last one is as it was',
  )
  const segments = new Set(records.map(({ tape }) => tape.segment))
  t.ok(segments.size > 3)
  t.ok(
    [...segments].every((name) => name.endsWith('.tape')),
    'pointers name the plain form',
  )
})

t.test('some exchange spans two segments, one of them sealed', async (t) => {
  const spanning = records.filter((record) => {
    const { offset } = recorder.taped(record).position
    return offset < SEGMENT_BYTES / 8 && recorder.taped(record).requestBody.length > offset
  })
  t.ok(spanning.length > 0)
})

t.test('verify, derive, inspect, stats, show and export read it', async (t) => {
  const verified = await rolltape(['verify', file, '--json'])
  t.match(JSON.parse(verified.stdout), { whole: true, exchanges: 36, records: 36 })
  const derived = await rolltape(['derive', folder, '--out', '-'])
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  const bySeq = (line: string): number => (JSON.parse(line) as { seq: number }).seq
  t.strictSame(
    derived.stdout.trimEnd().split('\n'),
    lines.sort((a, b) => bySeq(a) - bySeq(b)),
  )
  for (const command of ['inspect', 'stats']) {
    const ofTape = await rolltape([command, folder, '--json'])
    t.equal(ofTape.code, 0, command)
    t.match(ofTape.stdout, /"session":"c"/, command)
  }
  const shown = await rolltape(['show', '1', file, '--raw', 'request'])
  t.ok(answers.some(({ body }) => body === shown.stdout))
  const scanned = await rolltape(['scan', folder])
  t.match(scanned, { code: 0, stderr: /36 exchanges searched/ })
  const exported = await rolltape(['export', file, '--format', 'har'])
  t.match(exported, { code: 0, stdout: /what was said before/ }, exported.stderr)
})

t.test('stats tells what a turn takes, and what sealing gains', async (t) => {
  const { stdout } = await rolltape(['stats', file])
  t.match(
    stdout,
    /\nbytes of a turn: tape [\d.]+ \w+, on the disk [\d.]+ \w+; sealed segments [\d.]+ to 1; records [\d.]+ \w+; of 36\n$/,
  )
  const last = (await rolltape(['stats', file, '--json'])).stdout.trimEnd().split('\n').at(-1)
  const { bytes } = JSON.parse(last ?? '') as { bytes: Record<string, number> }
  const sizes = readdirSync(folder).filter((name) => /\.tape(?:\.zst)?$/.test(name))
  const onDisk = sizes.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
  t.match(bytes, { tape_on_disk: onDisk, records: statSync(file).size })
  const { tape = 0, sealed_plain: plain = 0, sealed = 0 } = bytes
  t.equal(tape - plain, onDisk - sealed, 'what is not sealed is as it is')
  t.ok(plain > 5 * sealed)
  t.notMatch((await rolltape(['stats', file, '--session', 'a'])).stdout, 'bytes of a turn')
  t.match((await rolltape(['stats', folder])).stdout, /1; of 36\n$/)
})

for (const source of [file, folder]) {
  t.test(`${source === file ? 'records' : 'a tape'} are replayed byte for byte`, async (t) => {
    const replay = await startReplay(t, source)
    for (const { session, body, answer } of answers) {
      t.strictSame(await say(replay.url, session, body), answer)
    }
  })
}

t.test('a restart seals what the process before left, and numbers go on', async (t) => {
  const last = readdirSync(folder).filter((name) => name.endsWith('.tape'))
  const again = await startRecorder(t, upstream.url, { recordingFile: file })
  await talk(again.url, 1)
  await untilFolder(folder, (names) => last.every((name) => !names.includes(name)))
  await again.finish()
  const all = await recordsOf(file)
  t.strictSame(
    all.map(({ seq }) => seq),
    Array.from({ length: 39 }, (_, n) => n + 1),
  )
  t.match(JSON.parse((await rolltape(['verify', file, '--json'])).stdout), { whole: true })
})

t.test('tape_compress off leaves segments as they are', async (t) => {
  const options = { segmentBytes: '64KiB', tapeCompress: 'off' } as const
  const off = await startRecorder(t, upstream.url, options)
  await talk(off.url, 6)
  await off.finish()
  t.strictSame(sealedIn(readdirSync(off.folder)), [])
  t.notOk(existsSync(join(off.folder, 'let-go.json')))
})
