/**
 * How a lane serves at this moment: mode and generation, configuration, what sessions have of their own, and the
 * parts that serve. Immutable: a switch puts another one in its place, and an exchange keeps to its
 * end the one that it found on arrival.
 */
import { RolltapeError } from '../errors.ts'
import { records, replays } from '../mode.ts'
import type { Mode, OnMiss } from '../mode.ts'
import type { RolltapeConfig } from '../options.ts'
import type { SessionOverride } from '../options/overrides.ts'
import { parsePace } from '../replay/pace.ts'
import type { Pace } from '../replay/pace.ts'
import type { RequestTransforms } from '../transforms/request.ts'
import { headerValue } from './headers.ts'
import type { Player } from './player.ts'
import type { Recorder } from './recorder.ts'
import type { Redaction } from './redaction.ts'
import type { Upstreams } from './upstreams.ts'

/** How one exchange is served. */
export interface Rules {
  readonly mode: Mode
  readonly onMiss: OnMiss
  /** In `hybrid`: what has run out goes live. */
  readonly endsLive: boolean
  readonly pace: Pace
  /** A recorded stream comes in one chunk. */
  readonly single: boolean
  /** Generation records of later turns are not replayed; Infinity when all are. */
  readonly turnMax: number
}

/** A lane's state of serving. */
export interface Serving {
  /** Counted up by each switch of modes or files. */
  readonly generation: number
  readonly config: RolltapeConfig
  /** What of exchanges must not be kept. */
  readonly redaction: Redaction
  /** The labels of the configuration as JSON text. */
  readonly tagsJson: string
  /** How sessions are served that have nothing of their own. */
  readonly rules: Rules
  readonly overrides: ReadonlyMap<string, SessionOverride>
  /** What requests are changed by; undefined when none is. */
  readonly transforms: RequestTransforms | undefined
  /** Stamped on requests as they go to an upstream; empty when none was told. */
  readonly policyVersion: string
  /** Undefined when nothing is recorded. */
  readonly recorder: Recorder | undefined
  /** Undefined when nothing is replayed. */
  readonly player: Player | undefined
  /** Undefined when nothing is forwarded: no upstream can be asked. */
  readonly upstreams: Upstreams | undefined
  /** Exchanges that keep to it and are not over. */
  users: number
}

/**
 * The rules for a session's request: the process's, over them the session's, over them what the
 * request's own headers say about replaying.
 * @throws RolltapeError `bad_request` for a header that cannot be read.
 */
export function rulesFor(serving: Serving, session: string, flat: readonly string[]): Rules {
  const { rules, overrides } = serving
  const own = overrides.size === 0 ? undefined : overrides.get(session)
  const merged = own === undefined ? rules : overridden(rules, own)
  return replays(merged.mode) ? overridden(merged, fromHeaders(flat)) : merged
}

/** True when an exchange under these rules goes to the tape, unless a record answers it. */
export function recordsUnder({ mode, onMiss }: Rules): boolean {
  return records(mode, onMiss)
}

function overridden(rules: Rules, own: SessionOverride): Rules {
  return {
    mode: own.mode ?? rules.mode,
    onMiss: rules.onMiss,
    endsLive: rules.endsLive,
    pace: own.pace ?? rules.pace,
    single: own.shape === undefined ? rules.single : own.shape === 'single',
    turnMax: own.replayTurns ?? rules.turnMax,
  }
}

function fromHeaders(flat: readonly string[]): SessionOverride {
  const pace = headerValue(flat, 'x-rolltape-pace')
  const shape = headerValue(flat, 'x-rolltape-shape')
  const turns = headerValue(flat, 'x-rolltape-replay-turns')
  const own: { -readonly [K in keyof SessionOverride]: SessionOverride[K] } = {}
  if (pace !== undefined) own.pace = parsePace(pace) ?? refuse('pace', pace, PACES)
  if (shape !== undefined) {
    own.shape =
      shape === 'single' || shape === 'recorded'
        ? shape
        : refuse('shape', shape, 'recorded or single')
  }
  if (turns !== undefined) {
    const isWhole = /^\d{1,9}$/.test(turns)
    own.replayTurns = isWhole ? Number(turns) : refuse('replay-turns', turns, 'a whole number')
  }
  return own
}

const PACES = 'instant, original, x<factor> or ttft=<ms>,tps=<n>'

function refuse(name: string, value: string, expected: string): never {
  const shown = JSON.stringify(value.slice(0, 80))
  const message = `the header x-rolltape-${name} is ${shown}, which is not ${expected}`
  throw new RolltapeError('bad_request', message)
}
