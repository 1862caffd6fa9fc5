/** Explains one request off the main thread, then ends: a whole recording may have to be read. */
import { statSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { toRolltapeError } from '../src/errors.ts'
import { explainRecording } from '../src/replay/explain-recording.ts'
import type { ExplainReply, ExplainWorkerData } from '../src/supervisor/explain-aside.ts'
import { tapeFolderBeside } from '../src/trajectory/parts.ts'
import { readPartRecords } from '../src/trajectory/part-records.ts'
import { readTapeRecords } from '../src/trajectory/tape-records.ts'
import { withRequests } from '../src/trajectory/taped-requests.ts'

const { file, head, body, ignore } = workerData as ExplainWorkerData

let reply: ExplainReply
try {
  const records = statSync(file).isDirectory()
    ? readTapeRecords(file, { onTrouble: () => undefined })
    : withRequests(readPartRecords(file), tapeFolderBeside(file))
  reply = { explained: await explainRecording(records, { head, body }, ignore) }
} catch (error) {
  const { code, message } = toRolltapeError(error)
  reply = { failed: { code, text: message } }
}
parentPort?.postMessage(reply)
