/** RotateRecording and SIGHUP: the next part, and what a status counts across parts and files. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { MAIN, rolltape } from '../cli/harness.ts'
import { ControlClient, messageOf, numberOf, textOf } from '../support/control-client.ts'
import { ask, refusal, startControlled, testWithBuf } from '../support/control.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

async function recording(t: Test) {
  const file = join(makeFolder(t), 'a.jsonl')
  const controlled = await startControlled(t, { proxyBaseUrl: upstream.url, recordingFile: file })
  const { address, url } = controlled
  const record = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) await rawRequest(url, post(CHAT, bodyOf(`${i}`)))
    await ask(address, 'FlushRecording')
  }
  return { file, address, record, url }
}

/** The recording's numbers, as a status tells them. */
async function counted(address: string) {
  const told = (await ask(address, 'GetStatus'))['recording'] as Record<string, unknown>
  const number = (key: string): number => Number(told[key] ?? 0)
  const [part, partRecords, records] = ['part', 'partRecords', 'records'].map(number)
  return { part, partRecords, records, fileBytes: number('recordBytes'), tape: number('tapeBytes') }
}

testWithBuf('the reply names both parts and what is in them', async (t) => {
  const { file, address, record } = await recording(t)
  await record(3)
  const first = join(dirname(file), 'a.000001.jsonl')
  t.strictSame(await ask(address, 'RotateRecording'), {
    closed: { file: first, records: '3', part: '1' },
    current: { file, part: '2' },
  })
  await record(1)
  const client = new ControlClient(t, address)
  const again = await client.call('RotateRecording')
  const [closed, current] = [messageOf(again, 1)!, messageOf(again, 2)!]
  t.strictSame([numberOf(closed, 2), numberOf(closed, 3), numberOf(current, 3)], [1, 2, 3])
  t.strictSame([textOf(current, 1), numberOf(current, 2)], [file, 0])
  t.equal((await recordsOf(first)).length, 3)
  t.match(await rolltape(['ctl', 'rotate', '--control', address]), {
    code: 0,
    stdout: /^closed +\S+a\.000003\.jsonl: part 3, 0 records\nrecording +\S+a\.jsonl: part 4\n$/,
  })
})

testWithBuf('a status counts since the start over parts and files, and per file', async (t) => {
  const { file, address, record, url } = await recording(t)
  await record(2)
  const one = await counted(address)
  t.match(one, { part: 1, partRecords: 2, records: 2 })
  t.ok(one.fileBytes > 0 && one.tape > 0)
  await ask(address, 'RotateRecording')
  t.match(await counted(address), { part: 2, partRecords: 0, records: 2, fileBytes: 0 })
  await record(1)
  const two = await counted(address)
  t.match(two, { part: 2, partRecords: 1, records: 3 })
  t.ok(two.fileBytes > 0 && two.fileBytes < one.fileBytes)
  t.ok(two.tape > one.tape)
  const recordingFile = join(dirname(file), 'b.jsonl')
  const open = await RawClient.open(url)
  open.send(post(CHAT, bodyOf('open', { stream: true, scenario: { stall_after: 1 } })))
  await open.until((bytes) => bytes.includes('data:'))
  await ask(address, 'SetMode', { mode: 'MODE_RECORD', recordingFile })
  const switched = await counted(address)
  t.match(switched, { part: 1, partRecords: 0, records: 3, fileBytes: 0 })
  t.ok(switched.tape >= two.tape, 'the tape of the file that was left counts on')
  // Until here a stream has kept the file that was left from being closed.
  open.close()
  const client = new ControlClient(t, address)
  const records = async (): Promise<number> => {
    return numberOf(messageOf(await client.call('GetStatus'), 10), 6)
  }
  while ((await records()) < 4) continue
  await record(1)
  const three = await counted(address)
  t.match(three, { part: 1, partRecords: 1, records: 5 })
  t.ok(three.tape > two.tape)
})

testWithBuf('without a recording there is nothing to rotate', async (t) => {
  const { address } = await startControlled(t, { proxyBaseUrl: upstream.url })
  t.match(await refusal(address, 'RotateRecording'), [
    'failed_precondition',
    /^nothing is recorded, so there is no part to close/,
  ])
  t.match(await rolltape(['ctl', 'rotate', '--control', address]), { code: 5 })
})

for (const records of [true, false]) {
  t.test(`SIGHUP while ${records ? 'recording' : 'nothing is recorded'}`, async (t) => {
    const file = join(makeFolder(t), 'a.jsonl')
    const flags = ['--port', '0', '--control', 'off', '--proxy-base-url', upstream.url]
    const more = records ? ['--recording-file', file] : []
    const child = spawn(process.execPath, [MAIN, 'serve', ...flags, ...more], { stdio: 'pipe' })
    t.teardown(() => child.kill('SIGKILL'))
    const exited = once(child, 'exit')
    const log = createInterface({ input: child.stderr })
    const [ready] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const url = ready.split(' ')[3] ?? ''
    await rawRequest(url, post(CHAT, bodyOf('one')))
    child.kill('SIGHUP')
    const [line] = (await once(log, 'line')) as [string]
    t.match(JSON.parse(line), {
      level: 40,
      msg: records ? 'SIGHUP: the next part is written' : /^SIGHUP: nothing is recorded/,
    })
    t.equal((await rawRequest(url, post(CHAT, bodyOf('two')))).status, 200, 'it serves on')
    child.kill('SIGTERM')
    t.strictSame(await exited, [0, null])
    if (!records) return
    const parts = [join(dirname(file), 'a.000001.jsonl'), file]
    t.strictSame(
      (await Promise.all(parts.map(recordsOf))).map((kept) => kept.map(({ seq }) => seq)),
      [[1], [2]],
    )
  })
}
