/** A lane's thread: starts the lane, tells the supervisor, obeys it. */
import { parentPort, workerData } from 'node:worker_threads'
import { RolltapeError, errorText } from '../src/errors.ts'
import { Lane } from '../src/lane/lane.ts'
import { unpackConfig } from '../src/options.ts'
import type { LaneAnswers, LaneAsk, LaneFailure } from '../src/supervisor/lane-questions.ts'
import type { LaneCommand, LaneMessage, LaneWorkerData } from '../src/supervisor/lane-thread.ts'

const data = workerData as LaneWorkerData

function tell(message: LaneMessage): void {
  parentPort?.postMessage(message)
}

function logAt(level: 'debug' | 'warn' | 'error') {
  return (fields: object, text: string): void => tell({ type: 'log', level, fields, text })
}

try {
  const lane = await Lane.start({
    lane: data.lane,
    config: unpackConfig(data.config),
    counters: data.counters,
    order: data.order,
    admission: data.admission,
    port: data.port,
    reusePort: data.reusePort,
    onWatched: (batch) => tell({ type: 'watched', batch }),
    log: { debug: logAt('debug'), warn: logAt('warn'), error: logAt('error') },
  })
  const answers: LaneAnswers = {
    state: () => lane.state,
    admit: (order) => lane.admit(order),
    under: (rule) => lane.countUnder(rule),
    quiet: (rule) => lane.quiet(rule),
    ofSession: (session) => lane.countOfSession(session),
    sessionQuiet: (session) => lane.sessionQuiet(session),
    flush: () => lane.flush(),
    serve: (order) => lane.serve(order),
    endPart: (order) => lane.endPart(order),
    beginPart: (folder) => lane.beginPart(folder),
    askingNames: (asked) => lane.serving.player?.askingNames(asked) ?? [],
    sessionSums: () => lane.takeSessionSums(),
    retired: (folder) => lane.retired(folder),
  }
  parentPort?.on('message', (command: LaneCommand) => {
    if (command.type === 'watched_taken') return lane.onWatchedTaken()
    if (command.type === 'ask') return void answer(answers, command)
    void lane.drain(command.timeoutMs).then((report) => {
      tell({ type: 'drained', report })
      parentPort?.close()
    })
  })
  tell({ type: 'ready', port: lane.port })
} catch (error) {
  tell({ type: 'failed', ...failureOf(error) })
  parentPort?.close()
}

/** Answers once, whatever becomes of it. */
async function answer(answers: LaneAnswers, { id, question, asked }: LaneAsk): Promise<void> {
  try {
    const answered = await (answers[question] as (asked: unknown) => unknown)(asked)
    tell({ type: 'reply', id, answered } as LaneMessage)
  } catch (error) {
    tell({ type: 'reply', id, failed: failureOf(error) })
  }
}

function failureOf(error: unknown): LaneFailure {
  if (!(error instanceof RolltapeError)) return { code: 'internal_error', text: errorText(error) }
  const { code, message, hint } = error
  return { code, text: message, ...(hint === undefined ? {} : { hint }) }
}
