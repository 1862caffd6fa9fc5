/**
 * The appender's thread: takes batches of lines over ports that derive workers hand to it, writes
 * all that came in one turn of its loop, answers each.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'
import { errorText } from '../src/errors.ts'
import { CHECKPOINT_MS } from '../src/limits.ts'
import type { AppenderCommand, AppenderMessage } from '../src/supervisor/appender-thread.ts'
import { WatchOutlet, endOf } from '../src/supervisor/watched.ts'
import { Outage } from '../src/tape/outage.ts'
import { Appender } from '../src/trajectory/appender.ts'
import type { AppenderFiles, Checkpoint, ClosedPart } from '../src/trajectory/appender.ts'
import type { AppendReply, AppendRequest, LinkRequest } from '../src/trajectory/appender-link.ts'
import type { StoredRecord } from '../src/trajectory/jsonl.ts'
import type { SeqRange } from '../src/trajectory/seq-set.ts'

/** What the thread is started with. */
export interface AppendWorkerData {
  readonly files: AppenderFiles
  readonly from: Checkpoint
}

const { files, from } = workerData as AppendWorkerData
const appender = new Appender(files, from)
const ports = new Set<MessagePort>()

process.on('workerMessage', (message: LinkRequest) => {
  const { port } = message
  ports.add(port)
  port.on('message', (request: AppendRequest) => port.postMessage(answer(request)))
  port.on('close', () => ports.delete(port))
})

const outage = new Outage(files.checkpoint, (message) => tell({ type: 'trouble', message }))
const timer = setInterval(() => outage.attempt(() => appender.checkpoint()), CHECKPOINT_MS)

/** Set while somebody watches exchanges. */
let watched = false
const outlet = new WatchOutlet((batch) => tell({ type: 'watched', batch }))

parentPort?.on('message', (command: AppenderCommand) => {
  if (command.type === 'state') {
    const { lines, bytes, partLines } = appender
    return tell({ type: 'state', lines, bytes, partLines })
  }
  if (command.type === 'watched_taken') return outlet.onTaken()
  if (command.type === 'watch') {
    watched = command.watched
    return
  }
  if (command.type === 'sessions') {
    return tell({ type: 'sessions', sums: appender.sessions.take() })
  }
  if (command.type === 'rotate') return tell({ type: 'rotated', ...rotated(command.to) })
  if (command.type === 'settle') return appender.settle(command.seq)
  if (command.type === 'derived') return tell({ type: 'derived', ...derived(command.durable) })
  clearInterval(timer)
  for (const port of ports) port.close()
  const { lines } = appender
  let trouble: string | null = null
  try {
    appender.close()
  } catch (error) {
    trouble = errorText(error)
  }
  tell({ type: 'closed', lines, trouble })
  parentPort?.close()
})
tell({ type: 'ready' })

function answer({ ticket, batch }: AppendRequest): AppendReply {
  try {
    const lines = appender.append(batch)
    if (watched) for (const line of lines) tellOf(line)
    return { ticket, error: null }
  } catch (error) {
    return { ticket, error: errorText(error) }
  }
}

function derived(durable: boolean): { ranges: readonly SeqRange[]; error?: string } {
  try {
    if (durable) appender.sync()
    return { ranges: appender.derived }
  } catch (error) {
    return { ranges: [], error: errorText(error) }
  }
}

function rotated(to: string): { closed: ClosedPart } | { error: string } {
  try {
    return { closed: appender.rotate(to) }
  } catch (error) {
    return { error: errorText(error) }
  }
}

function tellOf(line: Buffer): void {
  try {
    outlet.add(endOf(JSON.parse(line.toString('utf8')) as StoredRecord))
  } catch {
    // Line and answer are what counts; a watcher may go without.
  }
}

function tell(message: AppenderMessage): void {
  parentPort?.postMessage(message)
}
