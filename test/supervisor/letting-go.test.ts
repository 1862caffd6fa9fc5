/**
 * A recording whose segments are let go once their records are made: what is missing is told as
 * what it is, and everything that can go by the records does.
 */
import { copyFileSync, cpSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { tapeFolderOf } from '../../src/supervisor/recording.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { rolltape } from '../cli/harness.ts'
import { makeFolder, recordsOf, startRecorder } from '../support/recorder.ts'
import { bodyOf, startReplay } from '../support/replayer.ts'
import { say, talk, untilFolder } from '../support/segments.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const options = { segmentBytes: '64KiB', tapeRetain: 'until-derived' } as const
const recorder = await startRecorder(t, upstream.url, options)
const { file, folder } = recorder
const early = bodyOf('early')
for (let turn = 1; turn <= 2; turn++) await say(recorder.url, 'early', early)
const said = await talk(recorder.url, 13)
const segmentsIn = (names: readonly string[]): string[] =>
  names.filter((name) => /\.tape(?:\.zst)?$/.test(name))
await untilFolder(folder, (names) => segmentsIn(names).length === 1)
const live = await rolltape(['verify', file, '--json'])
// As it stands when the process is killed. Records last: a checkpoint never tells of later ones. What
// is being written anew is gone a moment later.
const killed = join(makeFolder(t), 'a.jsonl')
cpSync(folder, tapeFolderOf(killed), {
  recursive: true,
  filter: (path) => !path.endsWith('.new'),
})
copyFileSync(file, killed)
rmSync(join(tapeFolderOf(killed), 'lock'))
const records = await recorder.finish()

t.test('all segments but the one that is written are gone, no record is', async (t) => {
  t.strictSame(segmentsIn(readdirSync(folder)).length, 1)
  t.equal(records.length, 41)
  t.match(JSON.parse(live.stdout), { whole: true, recorded_by: String })
})

t.test('verify calls it whole, and says what is not there any more', async (t) => {
  const { code, stdout } = await rolltape(['verify', file])
  t.equal(code, 0, stdout)
  t.match(
    stdout,
    /\n\d+ segments were let go \(tape_retain\); \d+ exchanges have their record only\n/,
  )
  const told = JSON.parse((await rolltape(['verify', file, '--json'])).stdout) as {
    exchanges: number
    let_go: number[]
    segments_let_go: number
  }
  t.match(told, { whole: true, records: 41, without_exchange: [], unreadable: [] })
  t.ok(told.segments_let_go > 3)
  t.ok(told.let_go.length > 20 && told.let_go.length < 41, told.let_go.join(' '))
})

t.test('a segment that is lost beside them is still damage', async (t) => {
  const [name = ''] = segmentsIn(readdirSync(folder))
  renameSync(join(folder, name), join(dirname(folder), name))
  t.teardown(() => renameSync(join(dirname(folder), name), join(folder, name)))
  const { code, stdout } = await rolltape(['verify', file])
  t.equal(code, 1)
  t.match(stdout, /records have no exchange on the tape/)
})

t.test('show says where the bytes went', async (t) => {
  const { stdout } = await rolltape(['show', '1', file])
  t.match(stdout, /timeline {2}not available: .*0-000001.tape was let go \(tape_retain\)/)
  const raw = await rolltape(['show', '1', file, '--raw'])
  t.match(raw, { code: 1, stderr: /was let go \(tape_retain\)/ })
})

t.test('derive makes what is left, and never puts it in the place of more', async (t) => {
  const out = join(makeFolder(t), 'b.jsonl')
  const made = await rolltape(['derive', folder, '--out', out])
  t.match(made, {
    code: 0,
    stderr: /segments were let go \(tape_retain\): what was in them is left out/,
  })
  const lines = readFileSync(out, 'utf8').trimEnd().split('\n').length
  t.ok(lines > 1 && lines < 41)
  const before = readFileSync(file)
  const over = await rolltape(['derive', folder, '--out', file, '--force'])
  t.match(over, { code: 1, stderr: /stays as it was: the tape has been let go in part/ })
  t.strictSame(readFileSync(file), before)
})

t.test('records without their tape are replayed by what they say', async (t) => {
  const replay = await startReplay(t, file)
  for (const { session, body, answer } of said) {
    const [status, , text] = await say(replay.url, session, body)
    t.equal(status, answer[0])
    const isStream = body.includes('"stream":true')
    t.equal(contentOf(String(text), isStream), contentOf(String(answer[2]), isStream))
  }
})

t.test('a tape that is let go while it is replayed gives way to the records', async (t) => {
  const kept = await startRecorder(t, upstream.url, { segmentBytes: '64KiB' })
  const turns = await talk(kept.url, 6)
  await kept.finish()
  const replay = await startReplay(t, kept.file)
  const names = segmentsIn(readdirSync(kept.folder))
  copyFileSync(join(folder, 'let-go.json'), join(kept.folder, 'let-go.json'))
  for (const name of names) rmSync(join(kept.folder, name))
  for (const { session, body, answer } of turns) {
    const [status, , text] = await say(replay.url, session, body)
    t.equal(status, answer[0])
    const isStream = body.includes('"stream":true')
    t.equal(contentOf(String(text), isStream), contentOf(String(answer[2]), isStream))
  }
})

t.test('turns go on after the process was killed, though their segments are gone', async (t) => {
  const again = await startRecorder(t, upstream.url, { ...options, recordingFile: killed })
  await say(again.url, 'early', early)
  await again.finish()
  t.strictSame(
    (await recordsOf(killed)).filter(({ session }) => session === 'early').map(({ turn }) => turn),
    [1, 2, 3],
  )
})

t.test('numbers go on after a restart, and names are never given twice', async (t) => {
  const [last = ''] = segmentsIn(readdirSync(folder))
  const again = await startRecorder(t, upstream.url, { ...options, recordingFile: file })
  await talk(again.url, 1)
  await again.finish()
  const all = await recordsOf(file)
  t.strictSame(
    all.map(({ seq }) => seq),
    Array.from({ length: 44 }, (_, n) => n + 1),
  )
  const later = all.slice(41).map(({ tape }) => tape.segment)
  t.ok(later.every((name) => name > last))
})

/** The text of an answer, whole or streamed. */
function contentOf(text: string, isStream: boolean): string {
  interface Choices {
    readonly choices: { message?: { content: string }; delta?: { content?: string } }[]
  }
  const pieces = isStream
    ? text.split('\n').flatMap((line) => (line.startsWith('data: {') ? [line.slice(6)] : []))
    : [text]
  return pieces
    .flatMap((piece) => (JSON.parse(piece) as Choices).choices)
    .map(({ message, delta }) => message?.content ?? delta?.content ?? '')
    .join('')
}
