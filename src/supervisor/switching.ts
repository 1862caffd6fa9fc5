/**
 * What a switch of modes asks for, and what becomes of it: pure, so that a switch is decided whole
 * before any lane hears of it.
 */
import { RolltapeError } from '../errors.ts'
import { SESSION_OVERRIDES_MAX } from '../limits.ts'
import { forwards, records, replays } from '../mode.ts'
import type { Mode, OnMiss } from '../mode.ts'
import type { RolltapeConfig } from '../options.ts'
import { isSameRecording } from '../options/mode-rules.ts'
import type { SessionOverride } from '../options/overrides.ts'

/** How all lanes serve. */
export interface Modes {
  /** Counted up by each switch. */
  readonly generation: number
  readonly mode: Mode
  readonly overrides: ReadonlyMap<string, SessionOverride>
}

/** A change of modes. */
export interface ModeChange {
  /** For the process, or for the session that is named. */
  readonly mode?: Mode
  /** What the session gets of its own, beside what it has; null takes all of it back. */
  readonly session?: { readonly id: string; readonly own: SessionOverride | null }
  /** The generation the caller has seen; a switch by somebody else in between refuses this one. */
  readonly expectedGeneration?: number
}

/** A switch: the modes, and the files they need. */
export interface Switch extends ModeChange {
  /** The recording to answer from; null takes it away. */
  readonly replayFile?: string | null
  /** The file to record to from now on. */
  readonly recordingFile?: string
}

/** What a switch came to. */
export interface Switched {
  /** Of the session, where one was named. */
  readonly previousMode: Mode
  readonly mode: Mode
  readonly modes: Modes
}

/** What there is to serve with. */
export interface Means {
  readonly hasRecording: boolean
  readonly hasReplay: boolean
  readonly hasUpstream: boolean
}

/**
 * The modes after a change.
 * @throws RolltapeError `generation_conflict`, `mode_unavailable`, `over_capacity`.
 */
export function changeModes(now: Modes, change: ModeChange, means: Means): Modes {
  const { expectedGeneration, session } = change
  if (expectedGeneration !== undefined && expectedGeneration !== now.generation) {
    throw new RolltapeError(
      'generation_conflict',
      `generation ${expectedGeneration} is expected, and it is ${now.generation}`,
      { hint: 'somebody else has switched; look at the status and decide anew' },
    )
  }
  const overrides = session === undefined ? now.overrides : withOwn(now.overrides, session)
  const next = {
    generation: now.generation + 1,
    mode: change.mode ?? now.mode,
    overrides,
  }
  for (const mode of modesOfAll(next)) check(mode, means)
  return next
}

/** Every mode somebody is served in. */
export function modesOfAll({ mode, overrides }: Omit<Modes, 'generation'>): Mode[] {
  const own = [...overrides.values()].map((one) => one.mode ?? mode)
  return [...new Set([mode, ...own])]
}

/** The mode that a session is served in; without one, that of sessions which have none of their own. */
export function modeOf({ mode, overrides }: Modes, session: string | undefined): Mode {
  return (session === undefined ? undefined : overrides.get(session)?.mode) ?? mode
}

/** What a miss in `hybrid` comes to where the configuration does not say. */
export function onMissOf(
  { onMiss }: RolltapeConfig,
  { hasRecording }: Pick<Means, 'hasRecording'>,
): OnMiss {
  if (onMiss !== 'error') return onMiss
  return hasRecording ? 'record' : 'passthrough'
}

/** What the end of the recording comes to in `hybrid`: the upstream, unless somebody said else. */
export function endsLive({ onExhausted, origins }: RolltapeConfig): boolean {
  return onExhausted === 'live' || origins.onExhausted === 'default'
}

/**
 * Makes sure that what is recorded is not what is replayed.
 * @throws RolltapeError `recording_conflict`.
 */
export function checkApart(recordingFile: string, replayFile: string): void {
  if (!isSameRecording(recordingFile, replayFile)) return
  throw new RolltapeError(
    'recording_conflict',
    `${recordingFile} is recorded to, and it is the recording that ${replayFile} answers from`,
    { hint: 'record into another file, or answer from another recording' },
  )
}

function withOwn(
  overrides: ReadonlyMap<string, SessionOverride>,
  { id, own }: NonNullable<ModeChange['session']>,
): ReadonlyMap<string, SessionOverride> {
  const next = new Map(overrides)
  if (own === null) next.delete(id)
  else next.set(id, { ...overrides.get(id), ...own })
  if (next.size > SESSION_OVERRIDES_MAX) {
    throw new RolltapeError(
      'over_capacity',
      `${SESSION_OVERRIDES_MAX} sessions have ways of their own, which is the most`,
      { hint: 'take back those of sessions that are over' },
    )
  }
  return next
}

function check(mode: Mode, { hasRecording, hasReplay, hasUpstream }: Means): void {
  const lacks =
    replays(mode) && !hasReplay
      ? ['no recording is loaded to answer from', 'load one, or name a replay file']
      : records(mode, 'passthrough') && !hasRecording
        ? ['there is no file to record to', 'name a recording file']
        : forwards(mode) && !hasUpstream
          ? ['no upstream is configured', 'start with --proxy-base-url or proxy_rules']
          : undefined
  if (lacks === undefined) return
  const [what = '', hint = ''] = lacks
  throw new RolltapeError('mode_unavailable', `mode ${mode} cannot be had: ${what}`, { hint })
}
