/** How a lane is: what it answers when it is asked, and what it measures of its own loop. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { LaneCounters } from '../supervisor/shared.ts'
import type { UpstreamTally } from './tally.ts'

/** How a lane is. */
export interface LaneState {
  /** Exchanges that are not over. */
  readonly inFlight: number
  readonly draining: boolean
  /** Requests that wait for admission. */
  readonly held: number
  /** Requests that wait for a place. */
  readonly queued: number
  readonly upstreams: readonly UpstreamTally[]
  /** Undefined when it records nothing. */
  readonly tape: LaneTape | undefined
}

/** How a lane's part of the recording is. */
export interface LaneTape {
  /** The segment it writes to. */
  readonly segment: string
  /** Why the tape, or the records, cannot be written now; null while they can. */
  readonly trouble: string | null
  /** False while the tape cannot be written. */
  readonly writable: boolean
  /** Exchanges that are over and have no record yet. */
  readonly lagExchanges: number
  /** Bytes of tape since the oldest of those. */
  readonly lagBytes: number
}

/** How often the loop is looked at between two beats. */
const LOOK_MS = 20

/** Measures how late and how busy a thread's loop is. */
export class LoopGauge {
  readonly #delay = monitorEventLoopDelay({ resolution: LOOK_MS })
  #utilization = performance.eventLoopUtilization()

  constructor() {
    this.#delay.enable()
  }

  /** Publishes what was measured since the last time. */
  beat(counters: LaneCounters): void {
    const lateMs = this.#delay.count === 0 ? 0 : this.#delay.max / 1e6 - LOOK_MS
    counters.set('loopDelayMs', Math.max(0, lateMs))
    this.#delay.reset()
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, this.#utilization)
    counters.set('loopUtilization', utilization)
    this.#utilization = now
  }

  /** Stops measuring. */
  close(): void {
    this.#delay.disable()
  }
}
