/**
 * What all exchanges of one lane share. Made by `lane.ts`, read by `exchange.ts`; no exchange holds
 * anything else of the lane.
 */
import type { LaneCounters } from '../supervisor/shared.ts'
import type { Admission } from './admission.ts'
import type { Exchange } from './exchange.ts'
import type { Refusals } from './refusals.ts'
import type { Serving } from './serving.ts'
import type { BlockPool } from './taping.ts'
import type { Tickets } from './tickets.ts'
import type { Wheel } from './wheel.ts'

/** A log a lane writes to; never a body, never a credential. */
export interface LaneLog {
  debug(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** The lane as its exchanges see it. */
export interface LaneContext {
  readonly counters: LaneCounters
  readonly wheel: Wheel
  readonly blocks: BlockPool
  /** Who may go to an upstream now. */
  readonly admission: Admission
  /** Who may run at all. */
  readonly tickets: Tickets
  /** Who is known to refuse to tell its tokens. */
  readonly refusals: Refusals
  /** How requests that arrive now are served. */
  readonly serving: Serving
  /** Fine deadlines of paced replays. */
  readonly pacer: Wheel
  readonly log: LaneLog
  /** True once the lane takes no new work. */
  readonly draining: boolean
  random(): number
  /** An exchange is over. */
  onClosed(exchange: Exchange): void
}
