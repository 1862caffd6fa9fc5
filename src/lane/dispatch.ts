/**
 * The last stations of a request before it goes to an upstream: can it be recorded, where does it
 * go, may it go now. Where admission is paused, or the disk is far behind, it waits here.
 */
import type { IncomingMessage } from 'node:http'
import { toRolltapeError } from '../errors.ts'
import type { RolltapeError } from '../errors.ts'
import { REQUEST_SMALL_BYTES_MAX, TAPE_PENDING_BYTES_FULL } from '../limits.ts'
import type { LaneContext } from './context.ts'
import type { Intake } from './intake.ts'
import { planOf } from './asking.ts'
import type { RequestPlan } from '../transforms/request.ts'
import type { BodyStream } from './request-body.ts'
import type { Target } from './route.ts'
import type { Recorder } from './recorder.ts'
import type { TapeWriter } from '../tape/writer.ts'
import type { Serving } from './serving.ts'

/** A request that is to be forwarded. */
export interface Dispatched {
  readonly intake: Intake
  readonly req: IncomingMessage
  /** That of its arrival. */
  readonly serving: Serving
  /** The body as far as it has come; all of it when `body` is no stream. */
  readonly first: Buffer
  readonly body: Buffer | BodyStream
  /** What it is recorded with; undefined when it is not. */
  readonly recorder: Recorder | undefined
}

/** What becomes of it. */
export interface DispatchOwner {
  /** True once nobody waits for it any more. */
  readonly isOver: boolean
  /** The tape cannot be written, so it is not served. */
  onUntaped(failure: Error): void
  refuse(error: RolltapeError, body?: Buffer): void
  /** `plan` is what is sent in place of what the client has sent. */
  onDispatch(target: Target, plan: RequestPlan | undefined): void
}

/** Takes a request through; its owner is told once, now or when admission is resumed. */
export function dispatch(lane: LaneContext, request: Dispatched, owner: DispatchOwner): void {
  const { intake, req, serving, first, body, recorder } = request
  const refused = (error: RolltapeError): void => {
    if (!Buffer.isBuffer(body)) body.destroy()
    owner.refuse(error, first)
  }
  const failure = recorder?.failure
  if (failure !== undefined && serving.config.onTapeFailure === 'refuse') {
    if (!Buffer.isBuffer(body)) body.destroy()
    return owner.onUntaped(failure)
  }
  const tape = recorder?.writer
  if (tape !== undefined && isBehind(tape, body)) {
    // It would be forwarded and not be on the tape; the disk comes first.
    if (!Buffer.isBuffer(body)) req.pause()
    return tape.onRelief(() => {
      if (!owner.isOver) dispatch(lane, request, owner)
    })
  }
  let target: Target
  try {
    target = intake.target(first)
  } catch (error) {
    return refused(toRolltapeError(error))
  }
  const go = (): void => {
    let plan: RequestPlan | undefined
    try {
      const isRecorded = recorder !== undefined
      plan = planOf(lane, { serving, intake, target, body, isRecorded })
    } catch (error) {
      return refused(toRolltapeError(error))
    }
    owner.onDispatch(target, plan)
  }
  if (!lane.admission.isPaused) return go()
  // What comes of a long body while it is held would be sent and not be on the tape.
  if (!Buffer.isBuffer(body)) req.pause()
  lane.admission.ask({
    upstream: target.base,
    first,
    isOver: () => owner.isOver,
    onAdmission: (error) => {
      if (owner.isOver) return
      if (error === undefined) go()
      else refused(error)
    },
  })
}

/** Too far for this request: a small one passes those that made it so. */
function isBehind(tape: TapeWriter, body: Buffer | BodyStream): boolean {
  if (!tape.congested) return false
  const isSmall = Buffer.isBuffer(body) && body.length <= REQUEST_SMALL_BYTES_MAX
  return !isSmall || tape.pendingBytes > TAPE_PENDING_BYTES_FULL
}
