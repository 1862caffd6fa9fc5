/**
 * What is asked of an upstream, and who brings its answer: the client's request as it came, or what
 * the configured transforms make of it. The one place of the data plane that knows of them.
 */
import { callOf } from '../transforms/request.ts'
import type { RequestPlan } from '../transforms/request.ts'
import type { Transform } from '../transforms/transform.ts'
import { Captured, sentOf } from './captured.ts'
import type { CapturedOwner } from './captured.ts'
import type { LaneContext } from './context.ts'
import { Forward } from './forward.ts'
import type { Intake } from './intake.ts'
import type { BodyStream } from './request-body.ts'
import type { Target } from './route.ts'
import type { Serving } from './serving.ts'

/** A request on its way to its upstream. */
export interface Asking {
  readonly serving: Serving
  readonly intake: Intake
  readonly target: Target
  /** As the client has sent it. */
  readonly body: Buffer | BodyStream
  /** It goes to the tape. */
  readonly isRecorded: boolean
  /** `performance.now()` by which everything must be over; Infinity when there is no bound. */
  readonly untilMs: number
}

/**
 * What is sent in place of what the client has sent; undefined when that is what is sent.
 * @throws RolltapeError `capture_unavailable`.
 */
export function planOf(
  lane: LaneContext,
  asking: Omit<Asking, 'untilMs'>,
  why?: string,
): RequestPlan | undefined {
  const { serving, intake, target, body, isRecorded } = asking
  const { transforms } = serving
  const call = transforms && callOf(intake.arrival.method, intake.arrival.path)
  if (transforms === undefined || call === undefined || !Buffer.isBuffer(body)) return undefined
  const { base } = target
  const refusal = (model: string): string | undefined => why ?? lane.refusals.of(base, model)
  const plan = transforms.plan({ call, base, body, isRecorded, refusal })
  return plan && plan.injected.length > 0 ? withIdentity(plan, intake.flat) : plan
}

/** Who asks; to be started. What is sent goes to the tape before. */
export function openSource(
  lane: LaneContext,
  owner: CapturedOwner,
  asking: Asking,
  plan: RequestPlan | undefined,
): Forward | Captured {
  const { serving, intake, target, body, untilMs } = asking
  const { config, upstreams } = serving
  if (upstreams === undefined) throw new TypeError('nothing to forward')
  const { flat, bodyBytes, arrival } = intake
  const { method } = arrival
  const forward = { config, target, method, flat, body, bodyBytes, untilMs }
  if (plan === undefined) return new Forward(lane, upstreams, owner, forward)
  owner.onSent(sentOf(plan))
  const asked = plan.injected.length > 0 ? { ...forward, flat: identityOnly(flat) } : forward
  const planWithout = (why: string): RequestPlan | undefined => planOf(lane, asking, why)
  return new Captured(lane, owner, { upstreams, forward, asked, plan, planWithout })
}

/** What is to be read must come in clear: the client takes that too, whatever else it takes. */
function identityOnly(flat: string[]): string[] {
  return flat.map((part, i) => (i % 2 === 1 && isAcceptEncoding(flat[i - 1]) ? 'identity' : part))
}

function withIdentity(plan: RequestPlan, flat: readonly string[]): RequestPlan {
  const at = flat.findIndex((part, i) => i % 2 === 0 && isAcceptEncoding(part))
  if (at < 0) return plan
  const headers = [{ field: 'accept-encoding', from: flat[at + 1] ?? '', to: 'identity' }]
  const noted = (transform: Transform): Transform =>
    transform.name === 'capture' ? { ...transform, headers } : transform
  return { ...plan, transforms: plan.transforms.map(noted) }
}

function isAcceptEncoding(name: string | undefined): boolean {
  return name?.toLowerCase() === 'accept-encoding'
}
