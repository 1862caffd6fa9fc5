/**
 * How a supervisor's parts are now: asks lanes and appender, and puts together what they tell. One
 * that does not answer is waited for half a second, no longer.
 */
import { setImmediate, setTimeout } from 'node:timers/promises'
import type {
  CapacityStatus,
  LaneStatus,
  RecordingStatus,
  ReplayStatus,
  UpstreamStatus,
} from '../control/target.ts'
import type { LaneState } from '../lane/state.ts'
import { STATE_WAIT_MS_MAX } from '../limits.ts'
import type { Supervisor } from './supervisor.ts'

/** What the lanes said; undefined for one that did not answer in time. */
export type LaneStates = readonly (LaneState | undefined)[]

/** Asks a supervisor's parts. */
export class Probe {
  readonly #supervisor: Supervisor

  constructor(supervisor: Supervisor) {
    this.#supervisor = supervisor
  }

  /** What each lane says. */
  states(): Promise<LaneStates> {
    const { lanes } = this.#supervisor
    const asks = Array.from({ length: lanes }, (_, lane) =>
      inTime(this.#supervisor.ask(lane, 'state', null)),
    )
    return Promise.all(asks)
  }

  /** How the lanes are, by what they said. */
  lanes(states: LaneStates): LaneStatus[] {
    return states.map((state, lane) => {
      const counters = this.#supervisor.laneCounters(lane)
      return {
        lane,
        inFlight: state?.inFlight ?? counters.get('inFlight'),
        held: state?.held ?? 0,
        queued: state?.queued ?? 0,
        eventLoopDelayMs: counters.get('loopDelayMs'),
        eventLoopUtilization: counters.get('loopUtilization'),
        responsive: state !== undefined,
      }
    })
  }

  /** How much runs at once, over all lanes. */
  capacity(): CapacityStatus {
    const { tickets, config } = this.#supervisor
    return {
      inFlight: tickets.inFlight,
      inFlightMax: config.maxInFlight,
      inFlightBytes: tickets.inFlightKib * 1024,
      inFlightBytesMax: config.maxInFlightBytes,
      queued: tickets.waiting,
      queuedMax: config.maxQueue,
    }
  }

  /** How the recording is; undefined when none is open. */
  async recording(states: LaneStates): Promise<RecordingStatus | undefined> {
    const { recording, lastTrouble } = this.#supervisor
    if (recording === undefined) return undefined
    const records = await inTime(this.#supervisor.records())
    const tapes = states.flatMap((state) => state?.tape ?? [])
    const total = (of: (tape: (typeof tapes)[number]) => number): number =>
      tapes.reduce((all, tape) => all + of(tape), 0)
    return {
      file: recording.file,
      tapeFolder: recording.folder,
      segments: tapes.map((tape) => tape.segment),
      part: recording.part,
      tapeBytes: this.#supervisor.counter('tapedBytes'),
      recordBytes: records?.bytes ?? 0,
      partRecords: records?.partLines ?? 0,
      records: records?.lines ?? 0,
      lagExchanges: total((tape) => tape.lagExchanges),
      lagBytes: total((tape) => tape.lagBytes),
      lastError: tapes.find((tape) => tape.trouble !== null)?.trouble ?? lastTrouble,
      writable: tapes.every((tape) => tape.writable),
    }
  }

  /** How the replay is; undefined when nothing is replayed. */
  replay(): ReplayStatus | undefined {
    const { replay, verdict } = this.#supervisor
    if (replay === undefined || verdict === undefined) return undefined
    return {
      file: replay.file,
      records: replay.source.index.count,
      sessions: replay.source.index.sessions.length,
      egress: this.#supervisor.counter('egress'),
      verdict,
    }
  }
}

/** What goes on at upstreams, those that were named among them, by base URL. */
export function upstreamsOf(states: LaneStates, named: Iterable<string>): UpstreamStatus[] {
  const byBase = new Map<string, UpstreamStatus>()
  for (const baseUrl of named) byBase.set(baseUrl, { ...UNASKED, baseUrl })
  for (const state of states) {
    for (const told of state?.upstreams ?? []) {
      const known = byBase.get(told.baseUrl) ?? { ...UNASKED, baseUrl: told.baseUrl }
      byBase.set(told.baseUrl, sum(known, told))
    }
  }
  return [...byBase.values()].sort((a, b) => (a.baseUrl < b.baseUrl ? -1 : 1))
}

const UNASKED = { inFlight: 0, requests: 0, failures: 0, lastError: undefined }

function sum(one: UpstreamStatus, other: UpstreamStatus): UpstreamStatus {
  const [a, b] = [one.lastError, other.lastError]
  return {
    baseUrl: one.baseUrl,
    inFlight: one.inFlight + other.inFlight,
    requests: one.requests + other.requests,
    failures: one.failures + other.failures,
    lastError: (a?.atMs ?? 0) > (b?.atMs ?? 0) ? a : b,
  }
}

/** The answer, or undefined when it does not come in time or whoever was asked is gone. */
async function inTime<T>(answer: Promise<T>): Promise<T | undefined> {
  const over = new AbortController()
  // Where it is this thread that stood still, the answer is there and only has to be taken.
  const late = setTimeout(STATE_WAIT_MS_MAX, undefined, { signal: over.signal }).then(
    () => setImmediate(undefined),
    () => undefined,
  )
  try {
    return await Promise.race([answer, late])
  } catch {
    return undefined
  } finally {
    over.abort()
  }
}
