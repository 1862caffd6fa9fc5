/**
 * What the target tells, as the messages of the protocol. Pure: plain values in, messages out.
 */
import type { AdmissionRule } from '../lane/admission.ts'
import type { EffectiveOption } from '../options/effective.ts'
import type { Mode as ModeName } from '../mode.ts'
import type { SessionOverride } from '../options/overrides.ts'
import type { ExplainedRequest } from '../replay/explain-recording.ts'
import type { Verdict as Counted } from '../replay/verdict.ts'
import { formatPace } from '../replay/pace.ts'
import type { WatchItem } from '../supervisor/exchange-watch.ts'
import type { Switched } from '../supervisor/switching.ts'
import type { WatchedEnd, WatchedRecord } from '../supervisor/watched.ts'
import type { Outcome as OutcomeName } from '../trajectory/record.ts'
import type { Duration } from './gen/google/protobuf/duration.ts'
import {
  AdmissionPolicy,
  Mode,
  Origin,
  Outcome,
  Shape,
  State,
} from './gen/rolltape/control/v1/control.ts'
import type {
  AdmissionPause,
  ConfigEntry,
  ExchangeEnded,
  ExplainRequestResponse,
  GetStatusResponse,
  LaneStatus as LaneMessage,
  LoadTapeResponse,
  RecordSummary,
  RecordingStatus as RecordingMessage,
  ReplayStatus as ReplayMessage,
  ResumeAdmissionResponse,
  SessionSettings,
  SetModeResponse,
  Upstream,
  Verdict,
  WatchExchangesResponse,
} from './gen/rolltape/control/v1/control.ts'
import type {
  AdmissionState,
  LaneStatus,
  Loaded,
  PauseAsked,
  RecordingStatus,
  ReplayStatus,
  RunState,
  Status,
  UpstreamStatus,
} from './target.ts'

/** A mode on the wire. */
export const MODE = {
  passthrough: Mode.PASSTHROUGH,
  record: Mode.RECORD,
  replay: Mode.REPLAY,
  hybrid: Mode.HYBRID,
  verify: Mode.VERIFY,
} as const satisfies Record<ModeName, Mode>

/** A shape on the wire. */
export const SHAPE = {
  recorded: Shape.RECORDED,
  single: Shape.SINGLE,
} as const satisfies Record<NonNullable<SessionOverride['shape']>, Shape>

/** A policy of admission on the wire. */
export const PAUSE = {
  hold: AdmissionPolicy.HOLD,
  reject: AdmissionPolicy.REJECT,
  drain: AdmissionPolicy.DRAIN,
  abort: AdmissionPolicy.ABORT,
} as const satisfies Record<PauseAsked['policy'], AdmissionPolicy>

/** A state on the wire. */
export const STATE = {
  serving: State.SERVING,
  recovering: State.RECOVERING,
  draining: State.DRAINING,
} as const satisfies Record<RunState, State>

/** An outcome on the wire. */
export const OUTCOME = {
  complete: Outcome.COMPLETE,
  truncated: Outcome.TRUNCATED,
  client_gone: Outcome.CLIENT_GONE,
  upstream_error: Outcome.UPSTREAM_ERROR,
  timeout: Outcome.TIMEOUT,
  cancelled: Outcome.CANCELLED,
  refused: Outcome.REFUSED,
  incomplete: Outcome.INCOMPLETE,
} as const satisfies Record<OutcomeName, Outcome>

const ORIGIN = {
  default: Origin.DEFAULT,
  file: Origin.FILE,
  env: Origin.ENV,
  option: Origin.OPTION,
  flag: Origin.FLAG,
} as const satisfies Record<EffectiveOption['origin'], Origin>

/** A stretch of time. */
export function durationOf(ms: number): Duration {
  const seconds = Math.trunc(ms / 1_000)
  return { seconds, nanos: Math.round((ms - seconds * 1_000) * 1e6) }
}

/** The other half of {@link durationOf}. */
export function msOf({ seconds, nanos }: Duration): number {
  return seconds * 1_000 + nanos / 1e6
}

/** How a rolltape is. */
export function statusMessage(status: Status): GetStatusResponse {
  const { version, startedAtMs, uptimeMs, generation, url, pid, lanes, counters } = status
  const { policyVersion, capacity } = status
  return {
    version,
    startTime: new Date(startedAtMs),
    uptime: durationOf(uptimeMs),
    state: STATE[status.state],
    mode: MODE[status.mode],
    generation,
    url,
    pid,
    lanes: lanes.map(laneMessage),
    capacity: { ...capacity },
    recording: status.recording && recordingMessage(status.recording),
    replay: status.replay && replayMessage(status.replay),
    counters: { ...counters },
    pauses: status.pauses.map(pauseMessage),
    policyVersion,
  }
}

/** What a switch came to, for the process or for a session. */
export function switchMessage(
  { previousMode, mode, modes }: Switched,
  session: string,
): SetModeResponse {
  const own = modes.overrides.get(session)
  return {
    previousMode: MODE[previousMode],
    mode: MODE[mode],
    generation: modes.generation,
    settings: own && settingsMessage(own),
  }
}

/** What a session has of its own. */
export function settingsMessage(own: SessionOverride): SessionSettings {
  return {
    mode: own.mode === undefined ? Mode.UNSPECIFIED : MODE[own.mode],
    pace: own.pace === undefined ? '' : formatPace(own.pace),
    shape: own.shape === undefined ? Shape.UNSPECIFIED : SHAPE[own.shape],
    replayTurns: own.replayTurns,
  }
}

/** A load that is done. */
export function loadedMessage({ replay, mode, generation }: Loaded): LoadTapeResponse {
  const value = { replay: replay && replayMessage(replay), mode: MODE[mode], generation }
  return { event: { $case: 'loaded', value } }
}

/** How admission is. */
export function admissionMessage(state: AdmissionState): ResumeAdmissionResponse {
  return { ...state, pauses: state.pauses.map(pauseMessage) }
}

/** How a recording is. */
export function recordingMessage(status: RecordingStatus): RecordingMessage {
  return { ...status, segments: [...status.segments] }
}

/** One option. */
export function configMessage({ key, value, origin }: EffectiveOption): ConfigEntry {
  return { key, value, origin: ORIGIN[origin] }
}

/** One upstream. */
export function upstreamMessage({ lastError, ...counts }: UpstreamStatus): Upstream {
  return {
    ...counts,
    lastError: lastError && {
      code: lastError.code,
      message: lastError.message,
      time: new Date(lastError.atMs),
    },
  }
}

/** What a recording has for a request. */
export function explainMessage(explained: ExplainedRequest): ExplainRequestResponse {
  const { found, key, nearest, differences, ignore, text } = explained
  return {
    found,
    key,
    nearest: nearest === null ? undefined : { ...nearest, turn: nearest.turn ?? 0 },
    differences: differences.map(({ pointer, recorded, asked }) => ({ pointer, recorded, asked })),
    ignore: [...ignore],
    text,
  }
}

/** Something that a watcher is told. */
export function eventMessage(item: WatchItem, resumeToken: string): WatchExchangesResponse {
  if (item.kind === 'gap') return { resumeToken, event: { $case: 'gap', value: item } }
  if (item.kind === 'ended') {
    return { resumeToken, event: { $case: 'ended', value: endMessage(item) } }
  }
  const { seq, watchId, session, method, path, atMs } = item
  const value = { seq, watchId, session, method, path, time: new Date(atMs) }
  return { resumeToken, event: { $case: 'began', value } }
}

function pauseMessage({ policy, upstream = '', model = '' }: AdmissionRule): AdmissionPause {
  return { policy: PAUSE[policy], scope: { upstream, model } }
}

function laneMessage({ eventLoopDelayMs, ...lane }: LaneStatus): LaneMessage {
  return { ...lane, eventLoopDelay: durationOf(eventLoopDelayMs) }
}

function replayMessage({ verdict, ...replay }: ReplayStatus): ReplayMessage {
  return { ...replay, verdict: verdictMessage(verdict) }
}

function verdictMessage({ verified, ...counts }: Counted): Verdict {
  return { ...counts, verified: verified && { ...verified } }
}

function endMessage(end: WatchedEnd): ExchangeEnded {
  const { seq, watchId, session, method, path, atMs, httpStatus, durationMs, record } = end
  return {
    seq,
    watchId,
    session,
    method,
    path,
    time: new Date(atMs),
    httpStatus,
    duration: durationOf(durationMs),
    outcome: record === undefined ? Outcome.UNSPECIFIED : OUTCOME[record.outcome],
    record: record && summaryMessage(record),
  }
}

function summaryMessage(record: WatchedRecord): RecordSummary {
  const { id, turn, model, stream, error, ttftMs, inputTokens, outputTokens } = record
  const ttft = ttftMs === undefined ? undefined : durationOf(ttftMs)
  return { id, turn, model, stream, error, ttft, inputTokens, outputTokens }
}
