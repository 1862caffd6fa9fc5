// A recording and its files when they cannot be written, or are left unfinished by a lane.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mock } from 'node:test'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { AppenderThread } from '../../src/supervisor/appender-thread.ts'
import { Recording, tapeFolderOf } from '../../src/supervisor/recording.ts'
import type { Checkpoint } from '../../src/trajectory/appender.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { talk } from '../support/segments.ts'

const MINUTE_MS = 60_000

async function open(t: Test, block: readonly string[] = []) {
  const file = `${makeFolder(t)}/a.jsonl`
  const folder = tapeFolderOf(file)
  const told: string[] = []
  /** What a file is written to before it takes its name: a folder there fails it, as a full disk. */
  const blockAll = (): void => {
    for (const name of block) mkdirSync(`${folder}/${name}.new`, { recursive: true })
  }
  blockAll()
  const log = { debug: () => undefined, warn: () => undefined, error: () => undefined }
  const onTrouble = (message: string): void => void told.push(message)
  const recording = await Recording.open({ file, workers: 1, synced: false, log, onTrouble })
  return { file, folder, told, tables: recording.tables, recording }
}

t.test('turns that cannot be written end neither the opening nor the process', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const { folder, told, tables, recording } = await open(t, ['turns'])
  for (let i = 0; i < 3; i++) {
    tables.nextSeq()
    mock.timers.tick(MINUTE_MS)
  }
  t.match(told, [new RegExp(`^cannot write ${folder}/turns: EISDIR`)])
  t.equal(told.length, 1)
  t.match(await recording.close(), { lines: 0, trouble: /turns: EISDIR/ })
  t.notOk(existsSync(`${folder}/lock`), 'the lock is given back')
})

t.test('a checkpoint that cannot be written is told once, and again at the end', async (t) => {
  const { folder, told, recording } = await open(t, ['derived.json'])
  while (told.length === 0) await new Promise((resolve) => setImmediate(resolve))
  t.match(told[0], new RegExp(`^cannot write ${folder}/derived.json: EISDIR`))
  t.match(await recording.close(), {
    lines: 0,
    trouble: new RegExp(`^cannot write ${folder}/derived.json: EISDIR`),
  })
  t.equal(told.length, 1)
  t.notOk(existsSync(`${folder}/lock`))
})

t.test('a recording that was written whole closes without trouble', async (t) => {
  const { folder, told, recording } = await open(t)
  t.strictSame(await recording.close(), { lines: 0, trouble: null })
  t.strictSame(told, [])
  t.notOk(existsSync(`${folder}/lock`))
})

t.test('without a checkpoint closed parts are read, and no record is made again', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  const checkpoint = `${recorder.folder}/derived.json`
  await talk(recorder.url, 1)
  await recorder.rolltape.rotate()
  await talk(recorder.url, 1)
  await recorder.finish()
  for (const left of [undefined, '', '{"jsonlBytes":0,"der', '{}', '[]', 'null', '"x"']) {
    if (left === undefined) rmSync(checkpoint)
    else writeFileSync(checkpoint, left)
    const again = await startRecorder(t, upstream.url, { recordingFile: recorder.file })
    t.equal((await again.finish()).length, 3, left ?? 'none')
  }
})

t.test('what was half sealed when a process was killed is swept away', async (t) => {
  const { file, folder, recording } = await open(t)
  await recording.close()
  const half = `${folder}/0-000001.tape.zst.new`
  writeFileSync(half, 'half')
  const recorder = await startRecorder(t, 'http://127.0.0.1:9', { recordingFile: file })
  t.notOk(existsSync(half))
  await recorder.finish()
})

t.test('numbers that went with a lane are no holes once it is replaced', async (t) => {
  const { folder, tables, recording } = await open(t)
  for (let i = 0; i < 5; i++) tables.nextSeq()
  recording.resume(0, true)
  t.equal(recording.firstSegment(0), 1)
  tables.nextSeq()
  await recording.close()
  const checkpoint = JSON.parse(readFileSync(`${folder}/derived.json`, 'utf8')) as Checkpoint
  t.strictSame(checkpoint.derived, [[1, 5]], 'the number of the lane that came after is not meant')
})

t.test('what a lane left and cannot be read now is told, and no reason to stop', async (t) => {
  const { folder, told, recording } = await open(t)
  recording.resume(0, true)
  rmSync(folder, { recursive: true })
  const { trouble } = await recording.close()
  t.match(trouble, /^records of a lane that died are not made: ENOENT/)
  t.match(told[0], /the next start makes them$/)
})

t.test('an appender that cannot open its file does not start, and says why', async (t) => {
  const folder = makeFolder(t)
  const files = { jsonl: `${folder}/none/a.jsonl`, checkpoint: `${folder}/derived.json` }
  const told: string[] = []
  await t.rejects(
    AppenderThread.start(files, { jsonlBytes: 0, derived: [] }, (message) => told.push(message)),
    { code: 'recording_unwritable', message: /none\/a.jsonl: the appender failed: ENOENT/ },
  )
  t.equal(told.length, 1)
})

t.test('an appender that has ended is no reason to wait for it', async (t) => {
  const folder = makeFolder(t)
  const files = { jsonl: `${folder}/a.jsonl`, checkpoint: `${folder}/derived.json` }
  const appender = await AppenderThread.start(files, { jsonlBytes: 0, derived: [] }, t.fail)
  await appender.terminate()
  await t.rejects(appender.derived(), { message: 'the appender has ended' })
  t.strictSame(await appender.close(), { lines: 0, trouble: 'the appender had ended' })
})
