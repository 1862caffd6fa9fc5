/** The trajectory service: one short method per call, over the same target as the control service. */
import { once } from 'node:events'
import type { ServerWritableStream } from '@grpc/grpc-js'
import { checkId } from '../lane/session.ts'
import { errorText } from '../errors.ts'
import type { FinishedSession } from '../trajectory/annotation-catalog.ts'
import type { Snapshot } from '../trajectory/annotations.ts'
import type { SessionNote } from '../trajectory/session-notes.ts'
import type { ReadingEnd } from '../trajectory/trajectory-reading.ts'
import type { StreamStep } from '../supervisor/trajectory-stream.ts'
import { bad, pageSizeOf, readToken, sessionOf, token } from './arguments.ts'
import { Calls } from './calls.ts'
import type { OnFault } from './calls.ts'
import type {
  AckTrajectoriesRequest,
  AckTrajectoriesResponse,
  Annotations,
  GetTrajectoryRequest,
  GetTrajectoryResponse,
  ListTrajectoriesRequest,
  ListTrajectoriesResponse,
  StreamTrajectoriesRequest,
  StreamTrajectoriesResponse,
  Trajectory,
  TrajectoryEnd,
  TrajectoryServiceServer,
} from './gen/rolltape/trajectory/v1/trajectory.ts'
import type { ControlTarget } from './target.ts'

type GetCall = ServerWritableStream<GetTrajectoryRequest, GetTrajectoryResponse>
type StreamCall = ServerWritableStream<StreamTrajectoriesRequest, StreamTrajectoriesResponse>

/** The service over a target. */
export function trajectoryService(
  target: Pick<ControlTarget, 'trajectories'>,
  onFault: OnFault,
): TrajectoryServiceServer {
  const service = new Service(target)
  const calls = new Calls(onFault)
  return {
    listTrajectories: calls.unary((request) => service.list(request)),
    getTrajectory: calls.streaming((call, signal) => service.get(call, signal)),
    streamTrajectories: calls.streaming((call, signal) => service.stream(call, signal)),
    ackTrajectories: calls.unary((request) => service.acknowledge(request)),
  }
}

class Service {
  readonly #target: Pick<ControlTarget, 'trajectories'>

  constructor(target: Pick<ControlTarget, 'trajectories'>) {
    this.#target = target
  }

  async list({ pageSize, pageToken }: ListTrajectoriesRequest): Promise<ListTrajectoriesResponse> {
    const size = pageSizeOf(pageSize)
    const page = await this.#target.trajectories.list(readToken(pageToken) ?? '', size)
    const nextPageToken = page.nextToken === '' ? '' : token(page.nextToken)
    return { trajectories: page.finished.map(finishedMessage), nextPageToken }
  }

  async get(call: GetCall, signal: AbortSignal): Promise<void> {
    const session = sessionOf(call.request.session)
    const reading = await this.#target.trajectories.get(session)
    const { note } = reading
    try {
      call.write({ piece: { $case: 'head', value: headMessage(session, note) } })
      while (!signal.aborted) {
        const step = await reading.next()
        if ('end' in step) {
          const value = endMessage(step.end, note.frozen, '')
          return void call.write({ piece: { $case: 'end', value } })
        }
        const records = Buffer.from(step.bytes.buffer)
        await write(call, { piece: { $case: 'records', value: records } }, signal)
      }
    } finally {
      reading.close()
    }
  }

  async stream(call: StreamCall, signal: AbortSignal): Promise<void> {
    const { consumer, resumeToken, once } = call.request
    const asked = { consumer: consumerOf(consumer), token: resumeToken, once }
    const stream = this.#target.trajectories.stream(asked, signal)
    for await (const step of stream.steps()) {
      await write(call, { event: eventOf(step) }, stream.signal)
    }
  }

  acknowledge(request: AckTrajectoriesRequest): AckTrajectoriesResponse {
    const { consumer, token } = request
    return { token: this.#target.trajectories.acknowledge(consumerOf(consumer), token) }
  }
}

/** Writes as fast as the caller reads. */
async function write<Q, A>(
  call: ServerWritableStream<Q, A>,
  message: A,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted || call.write(message)) return
  await once(call, 'drain', { signal }).catch(() => undefined)
}

function consumerOf(given: string): string {
  try {
    return given === '' ? 'default' : checkId(given, 'consumer')
  } catch (error) {
    throw bad(`consumer: ${errorText(error)}`)
  }
}

function eventOf(step: StreamStep): StreamTrajectoriesResponse['event'] {
  switch (step.kind) {
    case 'started':
      return { $case: 'started', value: { token: step.token } }
    case 'head':
      return { $case: 'head', value: finishedMessage(step.finished) }
    case 'records':
      return { $case: 'records', value: Buffer.from(step.bytes.buffer) }
    case 'end': {
      const { end, finished, token } = step
      return { $case: 'end', value: endMessage(end, finished.frozen, token) }
    }
  }
}

function finishedMessage(finished: FinishedSession): Trajectory {
  return {
    ...headMessage(finished.session, finished.note),
    version: finished.version,
    finishTime: new Date(finished.at * 1_000),
    sinceSeq: finished.since_seq,
  }
}

function headMessage(session: string, note: SessionNote): Trajectory {
  return {
    session,
    version: note.frozen?.version ?? 0,
    finishTime: undefined,
    sinceSeq: 0,
    annotations: annotationsMessage(note),
    snapshot: note.frozen === null ? undefined : { ...note.frozen },
  }
}

function annotationsMessage({ tags, reward, done, note }: SessionNote): Annotations {
  return { tags, reward: reward ?? undefined, done: done ?? undefined, note: note ?? '' }
}

function endMessage(
  { summary, sha256 }: ReadingEnd,
  frozen: Snapshot | null,
  token: string,
): TrajectoryEnd {
  const { firstTime, lastTime, ...counts } = summary
  const times = { firstTime: new Date(firstTime * 1_000), lastTime: new Date(lastTime * 1_000) }
  const snapshotChanged = frozen !== null && frozen.sha256 !== sha256
  return { token, summary: { ...counts, ...times }, sha256, snapshotChanged }
}
