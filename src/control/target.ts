/**
 * What the control API steers: everything that its calls need, in plain types. The supervisor's
 * side is `supervisor/control-target.ts`; no protobuf goes there.
 *
 * Methods throw RolltapeError; `errors.ts` says which status a caller sees.
 */
import type { AdmissionRule } from '../lane/admission.ts'
import type { Mode } from '../mode.ts'
import type { RolltapeConfig } from '../options.ts'
import type { ExplainedRequest } from '../replay/explain-recording.ts'
import type { Verdict } from '../replay/verdict.ts'
import type { Responders } from '../responder/responders.ts'
import type { CursorDesk } from '../supervisor/cursor-desk.ts'
import type { Sessions } from '../supervisor/sessions.ts'
import type { AnnotationInput } from '../trajectory/annotations.ts'
import type { AdmissionScope } from '../supervisor/admissions.ts'
import type { Watcher } from '../supervisor/exchange-watch.ts'
import type { Reloaded } from '../supervisor/reload.ts'
import type { LoadOptions } from '../supervisor/replay.ts'
import type { TrajectoryDesk } from '../supervisor/trajectory-desk.ts'
import type { Switch, Switched } from '../supervisor/switching.ts'
import type { Caller } from './calls.ts'

/** How far a rolltape is in its life. */
export type RunState = 'serving' | 'recovering' | 'draining'

/** How it is. Times are epoch ms. */
export interface Status {
  readonly version: string
  readonly startedAtMs: number
  readonly uptimeMs: number
  readonly state: RunState
  readonly mode: Mode
  readonly generation: number
  readonly url: string
  readonly pid: number
  readonly lanes: readonly LaneStatus[]
  readonly capacity: CapacityStatus
  readonly recording: RecordingStatus | undefined
  readonly replay: ReplayStatus | undefined
  readonly counters: Counters
  readonly pauses: readonly AdmissionRule[]
  readonly policyVersion: string
}

/** How one lane is. */
export interface LaneStatus {
  readonly lane: number
  readonly inFlight: number
  /** Requests that wait for admission. */
  readonly held: number
  /** Requests that wait for a place. */
  readonly queued: number
  readonly eventLoopDelayMs: number
  readonly eventLoopUtilization: number
  readonly responsive: boolean
}

/** How much runs at once, over all lanes. What is not bounded is not counted. */
export interface CapacityStatus {
  readonly inFlight: number
  /** 0 is no bound, here and below, `queuedMax` excepted. */
  readonly inFlightMax: number
  readonly inFlightBytes: number
  readonly inFlightBytesMax: number
  readonly queued: number
  readonly queuedMax: number
}

/** How the recording is. */
export interface RecordingStatus {
  readonly file: string
  readonly tapeFolder: string
  /** The part that is written, from 1. */
  readonly part: number
  readonly segments: readonly string[]
  /** Since the start, like `records`, over all recordings. */
  readonly tapeBytes: number
  /** Of the file, like `partRecords`. */
  readonly recordBytes: number
  readonly partRecords: number
  readonly records: number
  readonly lagExchanges: number
  readonly lagBytes: number
  readonly lastError: string
  readonly writable: boolean
}

/** A recording is loaded. */
export interface Loaded {
  readonly replay: ReplayStatus | undefined
  readonly mode: Mode
  readonly generation: number
}

/** A recording is left. */
export interface Unloaded {
  /** What was replayed. */
  readonly file: string
  readonly mode: Mode
  readonly generation: number
}

/** A part of a recording. */
export interface RecordingPart {
  readonly file: string
  readonly records: number
  /** From 1. */
  readonly part: number
}

/** What a rotation did. */
export interface Rotated {
  readonly closed: RecordingPart
  /** What is written now. */
  readonly current: RecordingPart
}

/** How the replay is. */
export interface ReplayStatus {
  readonly file: string
  readonly records: number
  readonly sessions: number
  readonly egress: number
  readonly verdict: Verdict
}

/** What is counted over all lanes since the start. */
export interface Counters {
  readonly exchanges: number
  readonly refused: number
  readonly tapeRefused: number
  readonly untaped: number
  readonly clientGone: number
  readonly retries: number
  readonly egress: number
  readonly hintsDropped: number
}

/** A pause that is asked for. */
export interface PauseAsked {
  readonly policy: 'hold' | 'reject' | 'drain' | 'abort'
  readonly scope: AdmissionScope
}

/** How admission is. */
export interface AdmissionState {
  readonly pauses: readonly AdmissionRule[]
  /** What has gone to an upstream, in the scope that was asked about, and is not over. */
  readonly inFlight: number
  /** Requests that wait, for whatever pause. */
  readonly held: number
}

/** What goes on at one upstream. */
export interface UpstreamStatus {
  readonly baseUrl: string
  readonly inFlight: number
  readonly requests: number
  readonly failures: number
  readonly lastError:
    | { readonly code: string; readonly message: string; readonly atMs: number }
    | undefined
}

/** A request to be explained. */
export interface AskedRequest {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly body: Uint8Array
}

/** That the end has begun. */
export interface Stopping {
  readonly inFlight: number
  /** When what is not over is cut. */
  readonly deadlineMs: number
}

/** A running rolltape, to be steered. */
export interface ControlTarget {
  /** The configuration in force. */
  readonly config: RolltapeConfig
  /** Reads the configuration's sources anew; all of it holds, or nothing changes. */
  reload(): Promise<Reloaded>
  /** What is done with requests now. */
  readonly mode: Mode
  status(): Promise<Status>
  /** Switches modes, and opens the files they need. */
  switch(change: Switch): Promise<Switched>
  /** Closes the part that is written and begins the next. */
  rotate(): Promise<Rotated>
  /** Reads a recording and answers from it; dropped when the signal fires before it is read. */
  load(file: string, how: LoadOptions): Promise<Loaded>
  /** Answers from no recording any more. */
  unload(): Promise<Unloaded>
  /** A barrier: what was over before has its record. */
  flush(signal: AbortSignal): Promise<RecordingStatus>
  /**
   * Pauses admission. With `drain` it resolves once what was in flight has ended; the pause stays
   * when the caller gives up before.
   */
  pause(asked: PauseAsked, caller: Caller): Promise<AdmissionState & { readonly aborted: number }>
  /** Takes back the pause of a scope, or all of them. */
  resume(scope: AdmissionScope | undefined): Promise<AdmissionState>
  /** Stamps requests from now on; what they were stamped with before. */
  setPolicyVersion(version: string): Promise<string>
  /** By base URL. */
  upstreams(): Promise<readonly UpstreamStatus[]>
  explain(asked: AskedRequest, signal: AbortSignal): Promise<ExplainedRequest>
  /** Begins to watch exchanges; close the watcher when done. */
  watch(resumeToken: string): Watcher
  /** True when records tell of ends: an outcome and a model can be asked for. */
  readonly records: boolean
  /** Sessions by id. */
  readonly sessions: Pick<Sessions, 'list' | 'get' | 'close'>
  /** Trajectories that have finished, and sessions that are frozen. */
  readonly trajectories: Pick<
    TrajectoryDesk,
    'finish' | 'freeze' | 'list' | 'get' | 'stream' | 'acknowledge'
  >
  /** Cursors by run and recorded session. */
  readonly cursors: Pick<CursorDesk, 'list' | 'get' | 'seek' | 'reset' | 'fork'>
  /** Requests of upstreams that are responders. */
  readonly responders: Responders
  /** Writes down what is said about a session; when (epoch s), and the file. */
  annotate(input: AnnotationInput): { readonly at: number; readonly file: string }
  /** Begins the end, once; `drainTimeout` of the configuration unless given. */
  shutdown(drainTimeoutMs: number | undefined): Stopping
}
