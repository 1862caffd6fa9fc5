/**
 * A derive worker: gets places on the tape from Piscina, hands lines to the appender.
 *
 * It awaits at its top, as all entries of Piscina do: so it is imported. A thread that is ended
 * while it requires a module takes the process with it (Node 26.10, `CreateRequiredModuleFacade`).
 */
import { workerData } from 'piscina'
import { makeWay } from '../src/priority.ts'
import { TapeFolder } from '../src/tape/reader.ts'
import { AppenderLink } from '../src/trajectory/appender-link.ts'
import { runDeriveTask } from '../src/trajectory/derive-task.ts'
import type { RecordRequests } from '../src/trajectory/derive.ts'
import type { DeriveResult, DeriveTask } from '../src/trajectory/derive-task.ts'

/** What the worker is started with. */
export interface DeriveWorkerData {
  readonly folder: string
  /** Thread of the appender. */
  readonly appender: number
  /** Whether requests go into the records. */
  readonly requests: RecordRequests
  /** Whether traffic goes before what it does. */
  readonly makesWay: boolean
}

const { folder, appender, requests, makesWay } = workerData as DeriveWorkerData
if (makesWay) makeWay()
const tape = new TapeFolder(folder)
const link = await AppenderLink.open(appender)

/** Piscina's entry. */
export default async function derive(task: DeriveTask): Promise<DeriveResult> {
  return runDeriveTask(tape, link, task, requests)
}
