/** Looks at a tape off the main thread, which serves whoever embeds rolltape: once, then it ends. */
import { parentPort, workerData } from 'node:worker_threads'
import type { InspectWorkerData } from '../src/supervisor/left-behind.ts'
import { inspectTape } from '../src/tape/recovery.ts'
import { SeqSet } from '../src/trajectory/seq-set.ts'

const { folder, derived, before } = workerData as InspectWorkerData
const known = SeqSet.from(derived)
const recovery = inspectTape({
  folder,
  before,
  hasRecord: (seq) => known.has(seq),
  settledSeq: known.floor,
  onTurn: () => undefined,
})
parentPort?.postMessage(recovery)
