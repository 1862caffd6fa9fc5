/**
 * A running supervisor as the control API steers it: what its lanes, recording and replay tell,
 * put together. A lane or an appender that does not answer is waited for half a second, no longer.
 */
import { setTimeout } from 'node:timers/promises'
import type {
  AskedRequest,
  ControlTarget,
  Counters,
  LaneStatus,
  RecordingStatus,
  ReplayStatus,
  Status,
  Stopping,
  UpstreamStatus,
} from '../control/target.ts'
import { RolltapeError } from '../errors.ts'
import type { LaneState } from '../lane/state.ts'
import { EXPLAINED_AT_ONCE_MAX, FLUSHES_AT_ONCE_MAX, STATE_WAIT_MS_MAX } from '../limits.ts'
import { forwards } from '../mode.ts'
import type { Mode } from '../mode.ts'
import type { RolltapeConfig } from '../options.ts'
import type { ExplainedRequest } from '../replay/explain-recording.ts'
import { parseAskedBody } from '../replay/explain-recording.ts'
import { keyHead } from '../replay/key.ts'
import { version } from '../version.ts'
import type { AnnotationInput } from '../trajectory/annotations.ts'
import type { CursorDesk } from './cursor-desk.ts'
import type { Sessions } from './sessions.ts'
import { explainAside } from './explain-aside.ts'
import type { Watcher } from './exchange-watch.ts'
import type { CounterName } from './shared.ts'
import type { Supervisor } from './supervisor.ts'
import { modesOfAll } from './switching.ts'

/** What the target needs of whoever runs the supervisor. */
export interface TargetOwner {
  /** Where clients point their base URL. */
  readonly url: string
  /** Brings everything down; called once. */
  close(drainTimeoutMs: number): void
}

/** Names of the counters that a status tells. */
const COUNTED = [
  'exchanges',
  'refused',
  'tapeRefused',
  'untaped',
  'clientGone',
  'retries',
  'egress',
  'hintsDropped',
] as const satisfies readonly (keyof Counters & CounterName)[]

/** Steers one supervisor. */
export class SupervisorTarget implements ControlTarget {
  readonly config: RolltapeConfig
  readonly #supervisor: Supervisor
  readonly #owner: TargetOwner
  readonly #startedAtMs = Date.now()
  readonly #sinceMs = performance.now()
  readonly #version = version()
  #flushing = 0
  #explaining = 0
  #stopping: { readonly deadlineMs: number } | undefined

  constructor(supervisor: Supervisor, config: RolltapeConfig, owner: TargetOwner) {
    this.#supervisor = supervisor
    this.config = config
    this.#owner = owner
  }

  get mode(): Mode {
    return this.#supervisor.modes.mode
  }

  get records(): boolean {
    return this.#supervisor.recording !== undefined
  }

  async status(): Promise<Status> {
    const supervisor = this.#supervisor
    const states = await this.#states()
    const recording = await this.#recording(states)
    const serves = supervisor.serves ? 'serving' : 'recovering'
    const { mode, generation } = supervisor.modes
    return {
      version: this.#version,
      startedAtMs: this.#startedAtMs,
      uptimeMs: performance.now() - this.#sinceMs,
      state: this.#stopping === undefined ? serves : 'draining',
      mode,
      generation,
      url: this.#owner.url,
      pid: process.pid,
      lanes: states.map((state, lane) => this.#lane(state, lane)),
      recording,
      replay: this.#replay(),
      counters: Object.fromEntries(
        COUNTED.map((name) => [name, supervisor.counter(name)]),
      ) as unknown as Counters,
    }
  }

  get sessions(): Sessions {
    return this.#supervisor.sessions
  }

  get cursors(): CursorDesk {
    return this.#supervisor.cursors
  }

  annotate(input: AnnotationInput): { readonly at: number; readonly file: string } {
    const { recording } = this.#supervisor
    if (recording === undefined) throw this.#nothing('recorded', '--recording-file')
    return { at: recording.annotate(input).at, file: recording.annotationsFile }
  }

  async flush(signal: AbortSignal): Promise<RecordingStatus> {
    const { recording, lanes } = this.#supervisor
    if (recording === undefined) throw this.#nothing('recorded', '--recording-file')
    if (this.#flushing >= FLUSHES_AT_ONCE_MAX) {
      throw new RolltapeError(
        'over_capacity',
        `${FLUSHES_AT_ONCE_MAX} flushes are waiting already, which is the most`,
      )
    }
    this.#flushing++
    try {
      const asks = Array.from({ length: lanes }, (_, lane) =>
        this.#supervisor.ask(lane, 'flush', null),
      )
      // What a lane that died had left is known once its successor answers.
      const flushed = Promise.all(asks).then(() => recording.recovered())
      await Promise.race([flushed, aborted(signal)])
      const after = await this.#recording(await this.#states())
      if (after === undefined) throw new TypeError('a recording was flushed and is gone')
      return after
    } finally {
      this.#flushing--
    }
  }

  async upstreams(): Promise<readonly UpstreamStatus[]> {
    const { proxyBaseUrl, proxyRules } = this.config
    if (!modesOfAll(this.#supervisor.modes).some(forwards)) {
      throw new RolltapeError(
        'wrong_state',
        'in mode replay no upstream is asked, so there is none',
        {
          hint: 'start with --proxy-base-url, and in another mode',
        },
      )
    }
    const byBase = new Map<string, UpstreamStatus>()
    const named = proxyBaseUrl.length > 0 ? proxyBaseUrl : [...proxyRules.values()]
    for (const baseUrl of named) byBase.set(baseUrl, { ...UNASKED, baseUrl })
    for (const state of await this.#states()) {
      for (const told of state?.upstreams ?? []) {
        const known = byBase.get(told.baseUrl) ?? { ...UNASKED, baseUrl: told.baseUrl }
        byBase.set(told.baseUrl, sum(known, told))
      }
    }
    return [...byBase.values()].sort((a, b) => (a.baseUrl < b.baseUrl ? -1 : 1))
  }

  async explain(asked: AskedRequest, signal: AbortSignal): Promise<ExplainedRequest> {
    const { replay } = this.#supervisor
    if (replay === undefined) throw this.#nothing('replayed', '--replay-file')
    const { file, source } = replay
    const text = Buffer.from(asked.body).toString('utf8')
    const body = parseAskedBody(text === '' ? '{}' : text, 'body')
    if (this.#explaining >= EXPLAINED_AT_ONCE_MAX) {
      throw new RolltapeError(
        'over_capacity',
        `${EXPLAINED_AT_ONCE_MAX} requests are being explained already, which is the most`,
      )
    }
    this.#explaining++
    try {
      const head = keyHead(asked.method, asked.path)
      return await explainAside({ file, head, body, ignore: source.ignore }, signal)
    } finally {
      this.#explaining--
    }
  }

  watch(resumeToken: string): Watcher {
    return this.#supervisor.watch.open(resumeToken)
  }

  shutdown(drainTimeoutMs = this.config.drainTimeoutMs): Stopping {
    if (this.#stopping === undefined) {
      this.#stopping = { deadlineMs: Date.now() + drainTimeoutMs }
      this.#owner.close(drainTimeoutMs)
    }
    return { ...this.#stopping, inFlight: this.#supervisor.counter('inFlight') }
  }

  /** What each lane says; undefined for one that does not answer in time. */
  #states(): Promise<(LaneState | undefined)[]> {
    const { lanes } = this.#supervisor
    const asks = Array.from({ length: lanes }, (_, lane) =>
      inTime(this.#supervisor.ask(lane, 'state', null)),
    )
    return Promise.all(asks)
  }

  #lane(state: LaneState | undefined, lane: number): LaneStatus {
    const counters = this.#supervisor.laneCounters(lane)
    return {
      lane,
      inFlight: state?.inFlight ?? counters.get('inFlight'),
      eventLoopDelayMs: counters.get('loopDelayMs'),
      eventLoopUtilization: counters.get('loopUtilization'),
      responsive: state !== undefined,
    }
  }

  async #recording(
    states: readonly (LaneState | undefined)[],
  ): Promise<RecordingStatus | undefined> {
    const { recording, lastTrouble } = this.#supervisor
    if (recording === undefined) return undefined
    const records = await inTime(recording.records())
    const tapes = states.flatMap((state) => state?.tape ?? [])
    const total = (of: (tape: (typeof tapes)[number]) => number): number =>
      tapes.reduce((all, tape) => all + of(tape), 0)
    return {
      file: recording.file,
      tapeFolder: recording.folder,
      segments: tapes.map((tape) => tape.segment),
      tapeBytes: total((tape) => tape.bytes),
      recordBytes: records?.bytes ?? 0,
      records: records?.lines ?? 0,
      lagExchanges: total((tape) => tape.lagExchanges),
      lagBytes: total((tape) => tape.lagBytes),
      lastError: tapes.find((tape) => tape.trouble !== null)?.trouble ?? lastTrouble,
      writable: tapes.every((tape) => tape.writable),
    }
  }

  #replay(): ReplayStatus | undefined {
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

  #nothing(what: string, flag: string): RolltapeError {
    const message = `mode is ${this.#supervisor.modes.mode}, and nothing is ${what}`
    return new RolltapeError('wrong_state', message, { hint: `start rolltape with ${flag}` })
  }
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
  const late = setTimeout(STATE_WAIT_MS_MAX, undefined, { signal: over.signal }).catch(
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

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (): void => reject(new RolltapeError('draining', 'nobody waits any more'))
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}
