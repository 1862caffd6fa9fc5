/**
 * A recording that goes on, is rotated or cut while it is exported; and one whose sessions ask the
 * same things, exported and replayed.
 */
import { appendFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

import { ExportSource } from '../../src/export/source.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { jsonl, rolltape } from '../cli/harness.ts'
import { callRecord } from '../support/call-records.ts'
import { makeFolder } from '../support/recorder.ts'
import { CHAT, startReplay } from '../support/replayer.ts'
import { post, rawRequest } from '../support/raw-client.ts'

const told = { onTrouble: () => undefined }

function recording(records: readonly StoredRecord[]): string {
  const file = join(makeFolder(t), 'a.jsonl')
  writeFileSync(file, jsonl(records))
  return file
}

const records = [1, 2, 3].map((seq) => callRecord(seq, { prompt: [seq], sampled: [[9]] }))

const idsOf = (source: ExportSource) =>
  [...source.sessions()].flatMap((session) => [...session.records()].map(({ record }) => record.id))

t.test('what comes and what is rotated after an export began is not its matter', async (t) => {
  const file = recording(records)
  const source = await ExportSource.open(file, {}, told)
  t.teardown(() => source.close())
  appendFileSync(file, jsonl([callRecord(4, { prompt: [4], sampled: [[9]] })]))
  renameSync(file, file.replace('.jsonl', '.000001.jsonl'))
  writeFileSync(file, jsonl([callRecord(5, { prompt: [5], sampled: [[9]] })]))
  t.strictSame(idsOf(source), ['r1', 'r2', 'r3'])
})

t.test('a recording that is cut meanwhile ends the export with what to do', async (t) => {
  const file = recording(records)
  const source = await ExportSource.open(file, {}, told)
  t.teardown(() => source.close())
  truncateSync(file, 100)
  t.throws(() => idsOf(source), {
    code: 'wrong_state',
    message: 'the recording was rotated or cut while it was read',
    hint: 'export it again',
  })
})

t.test('a signal ends an export between two records', async (t) => {
  const stop = new AbortController()
  const source = await ExportSource.open(recording(records), {}, { ...told, signal: stop.signal })
  t.teardown(() => source.close())
  const seen: unknown[] = []
  for (const session of source.sessions()) {
    for (const { record } of session.records()) {
      seen.push(record.id)
      stop.abort()
    }
  }
  t.strictSame(seen, ['r1'])
})

t.test('O26: sessions that ask the same are replayed each with its own answers', async (t) => {
  const request = { model: 'm', messages: [{ role: 'user', content: 'hi' }] }
  const answer = (content: string) => ({
    choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
  })
  const said = [
    ['a', 1, 'first of a'],
    ['b', 1, 'first of b'],
    ['a', 2, 'second of a'],
    ['b', 2, 'second of b'],
  ] as const
  const file = recording(
    said.map(([session, turn, content], at) => {
      const response = answer(content)
      return callRecord(at + 1, { prompt: null, sampled: [] }, { session, turn, request, response })
    }),
  )
  const out = file.replace('.jsonl', '.turns.jsonl')
  await rolltape(['export', file, '--format', 'openenv', '--out', out])
  const { url } = await startReplay(t, out, { sessionMatch: 'exact' })
  const contents: string[] = []
  for (const [session] of said) {
    const asked = post(CHAT, JSON.stringify(request), [`x-session-id: ${session}`])
    const { body } = await rawRequest(url, asked)
    const { choices } = JSON.parse(body.toString()) as ReturnType<typeof answer>
    contents.push(choices[0]!.message.content)
  }
  t.strictSame(
    contents,
    said.map(([, , content]) => content),
  )
})
