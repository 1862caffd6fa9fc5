/**
 * A recording larger than the memory that its export may use, its sessions interleaved line by line.
 */
import { spawnSync } from 'node:child_process'
import { appendFileSync, createReadStream } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'

import { MAIN } from '../cli/harness.ts'
import { recordOf } from '../support/record-lines.ts'
import { makeFolder } from '../support/recorder.ts'

const MiB = 1024 * 1024
const RECORDS = 1_500
const SESSIONS = 50

t.test('96 MiB go through 32 MiB of heap, session after session', async (t) => {
  const folder = makeFolder(t)
  const [file, out] = [join(folder, 'a.jsonl'), join(folder, 'out')]
  const content = 'x'.repeat(64 * 1024)
  let bytes = 0
  for (let n = 0; n < RECORDS; n++) {
    const session = `rollout-${n % SESSIONS}`
    const turn = Math.floor(n / SESSIONS) + 1
    const line = `${JSON.stringify(recordOf(n, { session, turn, content }))}\n`
    appendFileSync(file, line)
    bytes += line.length
  }
  t.ok(bytes > 92 * MiB, `${bytes} bytes`)

  const argv = ['export', file, '--format', 'openenv', '--out', out]
  // The test runner's own hooks would take half of that heap.
  const node = ['-u', 'NODE_OPTIONS', process.execPath, '--max-old-space-size=32']
  const { status, stderr } = spawnSync('env', [...node, MAIN, ...argv])
  t.equal(status, 0, String(stderr).slice(-500))
  t.match(String(stderr), `${RECORDS} turns of ${SESSIONS} sessions`)

  const turns = new Map<string, number>()
  const pieces: string[] = []
  for await (const line of createInterface({ input: createReadStream(out) })) {
    const { session, turn } = JSON.parse(line) as { session: string; turn: number }
    if (pieces.at(-1) !== session) pieces.push(session)
    if (turn !== (turns.get(session) ?? 0) + 1) t.fail(`${session}: ${turn} is out of order`)
    turns.set(session, turn)
  }
  t.strictSame(
    pieces,
    Array.from({ length: SESSIONS }, (_, at) => `rollout-${at}`),
  )
  t.strictSame(new Set(turns.values()), new Set([RECORDS / SESSIONS]))
})
