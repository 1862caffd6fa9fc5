/** What single sessions have of their own: how such options are written and read. */
import { errorText } from '../errors.ts'
import { checkId } from '../lane/session.ts'
import { MODES, type Mode } from '../mode.ts'
import type { Pace } from '../replay/pace.ts'
import { choice, pace, Refusal, whole, type Kind } from './kinds.ts'

/** What a session has of its own. */
export interface SessionOverride {
  readonly mode?: Mode
  readonly pace?: Pace
  readonly shape?: 'recorded' | 'single'
  /** Turns of it that are replayed; later ones go live. */
  readonly replayTurns?: number
}

/** By the name in a flag; YAML has `_` for `-`, the library camel case. */
const SETTINGS = {
  mode: ['mode', choice(MODES, 'replay')],
  pace: ['pace', pace('original')],
  shape: ['shape', choice(['recorded', 'single'], 'single')],
  'replay-turns': ['replayTurns', whole(0, 1_000_000_000, '3')],
} as const satisfies Record<string, [keyof SessionOverride, Kind<unknown>]>

const KNOWN = 'a session has mode, pace, shape and replay-turns (replay_turns) of its own'

const WRITTEN = /^(.+):(mode|pace|shape|replay-turns)=(.*)$/s

/** `<session>:<setting>=<value>`, repeated; or a YAML map of maps. */
export const overrides: Kind<ReadonlyMap<string, SessionOverride>> = {
  placeholder: '<session:setting=value>',
  expected: 'a setting of a session: mode, pace, shape or replay-turns',
  example: 's1:pace=original',
  repeatable: true,
  parse(given, environment) {
    const parsed = new Map<string, Record<string, unknown>>()
    for (const [session, name, value] of entries(given)) {
      const flag = name.replace(/_|(?=[A-Z])/g, '-').toLowerCase()
      checkSession(session)
      const setting = Object.hasOwn(SETTINGS, flag)
        ? SETTINGS[flag as keyof typeof SETTINGS]
        : undefined
      if (setting === undefined) {
        throw new Refusal(`${name} is no setting of a session`, KNOWN)
      }
      const own = parsed.get(session) ?? {}
      own[setting[0]] = parseSetting(setting[1], value, `${session}:${name}`, environment)
      parsed.set(session, own)
    }
    return parsed
  },
}

function checkSession(id: string): void {
  try {
    checkId(id, 'session')
  } catch (error) {
    throw new Refusal(errorText(error))
  }
}

function parseSetting(
  kind: Kind<unknown>,
  value: unknown,
  what: string,
  environment: Parameters<Kind<unknown>['parse']>[1],
): unknown {
  try {
    return kind.parse(value, environment)
  } catch (error) {
    if (!(error instanceof Refusal) || error.message !== '') throw error
    throw new Refusal(`${what} is ${JSON.stringify(value)}, which is not ${kind.expected}`)
  }
}

function* entries(given: unknown): Generator<[string, string, unknown]> {
  if (typeof given === 'string' || Array.isArray(given)) {
    for (const one of [given].flat() as unknown[]) {
      const match = typeof one === 'string' ? WRITTEN.exec(one) : null
      if (match === null) throw new Refusal()
      yield [match[1] ?? '', match[2] ?? '', match[3] ?? '']
    }
    return
  }
  for (const [session, own] of mapOf(given)) {
    for (const [name, value] of mapOf(own)) yield [session, name, value]
  }
}

function mapOf(given: unknown): [string, unknown][] {
  if (given instanceof Map) return [...given].map(([key, value]) => [String(key), value])
  if (typeof given !== 'object' || given === null) throw new Refusal()
  return Object.entries(given)
}
