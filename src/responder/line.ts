/** One queue: what waits in it, who serves it, and who of those comes next. */

/** A request. */
export interface Entry {
  readonly id: number
  readonly line: Line
  readonly session: string
  state: 'arriving' | 'waiting' | 'given' | 'answering' | 'ending'
  /** Of the body, as long as it is kept. */
  bytes: number
  deliveries: number
  worker: Worker | undefined
  untilMs: number
}

/** A responder. */
export interface Worker {
  readonly id: number
  readonly line: Line
  credits: number
  /** It reads what it is told. */
  ready: boolean
  readonly entries: Set<Entry>
}

/** The queue of one name. */
export interface Line {
  readonly name: string
  /** Those that were given before and whose responder died. */
  readonly again: Set<Entry>
  readonly waiting: Set<Entry>
  /** The one that was given something the longest ago comes first. */
  readonly workers: Set<Worker>
}

/** An empty one. */
export function makeLine(name: string): Line {
  return { name, again: new Set(), waiting: new Set(), workers: new Set() }
}

/** The responder with the fewest requests that can take one more. */
export function pick({ workers }: Line): Worker | undefined {
  let best: Worker | undefined
  for (const worker of workers) {
    const load = worker.entries.size
    if (!worker.ready || load >= worker.credits) continue
    if (best === undefined || load < best.entries.size) best = worker
  }
  return best
}
