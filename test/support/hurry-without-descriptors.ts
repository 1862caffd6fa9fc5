/**
 * For a process of its own with few descriptors: runs a derive task, takes all descriptors that are
 * left, and runs another in a hurry. Prints what came of both. Argument: a folder to work in.
 */
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { DerivePool } from '../../src/lane/derive-pool.ts'
import { workerUrl } from '../../src/workers.ts'
import { appendExchange, close, writerIn } from '../tape/tapes.ts'

const folder = process.argv[2] ?? ''
const writer = writerIn(folder)
const [first, second] = [1, 2].map((seq) => ({
  segment: '0-000001.tape',
  offset: appendExchange(writer, seq).offset,
}))
await close(writer)
const files = { jsonl: `${folder}/a.jsonl`, checkpoint: `${folder}/derived.json` }
const from = { jsonlBytes: 0, derived: [] }
const appender = new Worker(workerUrl('append'), { workerData: { files, from } })
await once(appender, 'message')
const warned: unknown[] = []
const log = {
  debug: () => undefined,
  warn: (fields: object) => void warned.push(fields),
  error: () => undefined,
}
const pool = new DerivePool({ folder, appender: appender.threadId, workers: 1, log })
const results = [await pool.run({ ends: [first!], voids: [] }, false)]
try {
  for (;;) openSync('/dev/null', 'r')
} catch {
  // There are none left.
}
results.push(await pool.run({ ends: [second!], voids: [] }, true))
const derived = results.map((result) => result.derived)
process.stdout.write(JSON.stringify({ derived, warned: warned.length }), () => process.exit())
