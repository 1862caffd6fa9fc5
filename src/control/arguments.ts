/** What callers say, checked: each refusal is INVALID_ARGUMENT and names the field. */
import { RolltapeError, errorText } from '../errors.ts'
import { checkId } from '../lane/session.ts'
import {
  DRAIN_MS_MAX,
  PATH_CHARS_MAX,
  PAUSE_MODEL_BYTES_MAX,
  POLICY_VERSION_BYTES_MAX,
  PAGE_ENTRIES_DEFAULT,
  PAGE_ENTRIES_MAX,
} from '../limits.ts'
import type { Mode as ModeName } from '../mode.ts'
import type { SessionOverride } from '../options/overrides.ts'
import { parsePace } from '../replay/pace.ts'
import type { Switch } from '../supervisor/switching.ts'
import type { Outcome as OutcomeName } from '../trajectory/record.ts'
import type { Duration } from './gen/google/protobuf/duration.ts'
import { Mode, Shape } from './gen/rolltape/control/v1/control.ts'
import type {
  AdmissionScope,
  Outcome,
  PauseAdmissionRequest,
  SetModeRequest,
} from './gen/rolltape/control/v1/control.ts'
import { MODE, OUTCOME, PAUSE, SHAPE, msOf } from './messages.ts'
import type { PauseAsked } from './target.ts'

/** One page of a list and the token of the next; empty when it was the last. */
export interface Page<T> {
  readonly entries: readonly T[]
  readonly nextPageToken: string
}

/**
 * A page of a list that is in a fixed order. A token is the key of the last entry given, so pages
 * stay right while entries come and go.
 * @throws RolltapeError `bad_argument` for `page_size` and `page_token`.
 */
export function pageOf<T>(
  all: readonly T[],
  keyOf: (entry: T) => string,
  { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
): Page<T> {
  const size = pageSizeOf(pageSize)
  const after = readToken(pageToken)
  const from = after === undefined ? 0 : all.findIndex((entry) => keyOf(entry) > after)
  const entries = from < 0 ? [] : all.slice(from, from + size)
  const last = entries.at(-1)
  const isLast = last === undefined || last === all.at(-1)
  return { entries, nextPageToken: isLast ? '' : token(keyOf(last)) }
}

/**
 * Entries of a page.
 * @throws RolltapeError `bad_argument` for `page_size`.
 */
export function pageSizeOf(pageSize: number): number {
  if (pageSize < 0) throw bad(`page_size is ${pageSize}, and a page has 0 or more entries`)
  return Math.min(pageSize === 0 ? PAGE_ENTRIES_DEFAULT : pageSize, PAGE_ENTRIES_MAX)
}

/**
 * How long a drain may take, in ms; undefined where nothing is said.
 * @throws RolltapeError `bad_argument` for `drain_timeout`.
 */
export function drainTimeoutMs(given: Duration | undefined): number | undefined {
  if (given === undefined) return undefined
  const ms = msOf(given)
  if (ms >= 0 && ms <= DRAIN_MS_MAX) return ms
  throw bad(`drain_timeout is ${ms / 1_000} s, and a drain takes from 0 s to 24 days`)
}

/**
 * Names of outcomes.
 * @throws RolltapeError `bad_argument` for `outcomes`.
 */
export function outcomesOf(given: readonly Outcome[]): Set<OutcomeName> {
  return new Set(
    given.map((outcome) => {
      const found = Object.entries(OUTCOME).find(([, wire]) => wire === outcome)
      if (found === undefined) throw bad(`outcomes holds ${outcome}, which is no outcome`)
      return found[0] as OutcomeName
    }),
  )
}

/**
 * A path with its query.
 * @throws RolltapeError `bad_argument` for `path`.
 */
export function pathOf(given: string, otherwise: string): string {
  if (given === '') return otherwise
  if (given.startsWith('/')) return given
  throw bad(`path is ${JSON.stringify(given.slice(0, 80))}, and a path begins with /`)
}

/**
 * A switch of modes.
 * @throws RolltapeError `bad_argument`, naming the field.
 */
export function switchOf(request: SetModeRequest): Switch {
  const { session, clear, replayFile, recordingFile, expectedGeneration } = request
  const mode = modeOf(request.mode)
  const own = settingsOf(request)
  const settings = Object.keys(own)
  const hasFile = replayFile !== '' || recordingFile !== ''
  if (session === '' && (clear || settings.length > 0)) {
    throw bad(`session is empty, and ${settings[0] ?? 'clear'} is of a session`)
  }
  if (clear && (mode !== undefined || hasFile || settings.length > 0)) {
    throw bad('clear takes back what a session has of its own, and comes alone')
  }
  if (mode === undefined && !clear && (hasFile || settings.length === 0)) {
    throw bad('mode is unspecified; say which')
  }
  const all = { ...(mode !== undefined && { mode }), ...own }
  return {
    ...(session === ''
      ? mode !== undefined && { mode }
      : { session: { id: sessionOf(session), own: clear ? null : all } }),
    ...(replayFile !== '' && { replayFile }),
    ...(recordingFile !== '' && { recordingFile }),
    ...(expectedGeneration !== undefined && { expectedGeneration }),
  }
}

/**
 * A pause of admission.
 * @throws RolltapeError `bad_argument` for `policy` and `scope`.
 */
export function pauseOf({ policy, scope }: PauseAdmissionRequest): PauseAsked {
  const found = Object.entries(PAUSE).find(([, wire]) => wire === policy)
  if (found === undefined) {
    throw bad(
      policy === 0 ? 'policy is unspecified; say which' : `policy is ${policy}, which is none`,
    )
  }
  return {
    policy: found[0] as PauseAsked['policy'],
    scope: scope === undefined ? {} : scopeOf(scope),
  }
}

/**
 * What a pause is about.
 * @throws RolltapeError `bad_argument` for `scope`.
 */
export function scopeOf({ upstream, model }: AdmissionScope): PauseAsked['scope'] {
  if (Buffer.byteLength(model) > PAUSE_MODEL_BYTES_MAX) {
    throw bad(`scope.model has more than ${PAUSE_MODEL_BYTES_MAX} bytes`)
  }
  const base = upstream.replace(/\/+$/, '')
  return { ...(base !== '' && { upstream: base }), ...(model !== '' && { model }) }
}

/**
 * A policy version.
 * @throws RolltapeError `bad_argument` for `policy_version`.
 */
export function policyVersionOf(given: string): string {
  const bytes = Buffer.byteLength(given)
  if (bytes > POLICY_VERSION_BYTES_MAX) {
    throw bad(`policy_version has ${bytes} bytes, and ${POLICY_VERSION_BYTES_MAX} is the most`)
  }
  if (/\p{Cc}/u.test(given)) throw bad('policy_version has a control character')
  return given
}

/**
 * The path of a recording.
 * @throws RolltapeError `bad_argument` for `file`.
 */
export function fileOf(given: string): string {
  if (given === '') throw bad('file is empty; say which')
  if (given.length > PATH_CHARS_MAX || given.includes('\0')) {
    throw bad(`file has ${given.length} characters; a path has at most 4096 and no NUL`)
  }
  return given
}

/**
 * A session id.
 * @throws RolltapeError `bad_argument` for `session`.
 */
export function sessionOf(given: string): string {
  try {
    return checkId(given, 'session')
  } catch (error) {
    throw bad(`session: ${errorText(error)}`)
  }
}

function modeOf(given: Mode): ModeName | undefined {
  if (given === Mode.UNSPECIFIED) return undefined
  const found = Object.entries(MODE).find(([, wire]) => wire === given)
  if (found === undefined) throw bad(`mode is ${given}, which is no mode`)
  return found[0] as ModeName
}

function settingsOf(request: SetModeRequest): Omit<SessionOverride, 'mode'> {
  const { pace, shape, replayTurns } = request
  const parsed = pace === '' ? undefined : parsePace(pace)
  if (pace !== '' && parsed === undefined) {
    const shown = JSON.stringify(pace.slice(0, 80))
    throw bad(`pace is ${shown}, which is not instant, original, x<factor> or ttft=<ms>,tps=<n>`)
  }
  const name = Object.entries(SHAPE).find(([, wire]) => wire === shape)?.[0]
  if (shape !== Shape.UNSPECIFIED && name === undefined) {
    throw bad(`shape is ${shape}, which is no shape`)
  }
  if (replayTurns !== undefined && (replayTurns < 0 || replayTurns > TURNS_MAX)) {
    throw bad(`replay_turns is ${replayTurns}, and it is a number from 0 to ${TURNS_MAX}`)
  }
  return {
    ...(parsed !== undefined && { pace: parsed }),
    ...(name !== undefined && { shape: name as keyof typeof SHAPE }),
    ...(replayTurns !== undefined && { replayTurns }),
  }
}

/** As the option `replay_turns` has it. */
const TURNS_MAX = 1_000_000_000

/** An argument that cannot be; the message begins with the field's name. */
export function bad(message: string): RolltapeError {
  return new RolltapeError('bad_argument', message)
}

const MARK = 'after:'

/** The token of what comes behind this key. */
export function token(key: string): string {
  return Buffer.from(`${MARK}${key}`).toString('base64url')
}

/**
 * The key that a token stands for; undefined for the first page.
 * @throws RolltapeError `bad_argument` for `page_token`.
 */
export function readToken(given: string): string | undefined {
  if (given === '') return undefined
  const text = Buffer.from(given, 'base64url').toString('utf8')
  if (text.startsWith(MARK) && token(text.slice(MARK.length)) === given) {
    return text.slice(MARK.length)
  }
  throw bad('page_token is none that this call has given')
}
