/**
 * The kinds of value an option can have: how each is read from text (a flag, a variable) or from a
 * YAML value, and the words that help and errors use for it.
 *
 * A kind's `parse` throws `Refusal` and knows nothing of where the value came from;
 * `options/read.ts` puts the key, the value and the example around it.
 */
import { NAME_CHARS_MAX, PATH_CHARS_MAX } from '../limits.ts'
import { parsePace, type Pace } from '../replay/pace.ts'
import { RESPONDER_URL } from '../responder/address.ts'
import { Secret, type Environment } from './secret.ts'

/** Thrown by a kind: `message` is empty when `expected` says all there is to say. */
export class Refusal extends Error {
  readonly hint: string | undefined

  constructor(message = '', hint?: string) {
    super(message)
    this.hint = hint
  }
}

/** How values of one sort are read and spoken about. */
export interface Kind<T> {
  /** Stands behind the flag in help, e.g. `<duration>`; empty for a switch. */
  readonly placeholder: string
  /** Completes "<value> is not …", range included. */
  readonly expected: string
  readonly example: string
  /** True when the flag may be given several times. */
  readonly repeatable: boolean
  /** True when the value met must not be shown. */
  readonly hidden?: boolean
  /** Throws `Refusal`. */
  parse(value: unknown, environment: Environment): T
}

/** A whole number of days under the longest time that a Node timer can wait (2^31 − 1 ms). */
const DURATION_MS_MAX = 24 * 86_400_000

const DURATION_UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
}

/** Bytes of each unit of a size. */
export const BYTE_UNIT: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
}

/** Any text but the empty one, of at most 4,096 characters and without a NUL, which ends paths. */
export function text(placeholder: string, example: string): Kind<string> {
  return {
    placeholder: `<${placeholder}>`,
    expected: 'a text of 1 to 4096 characters without a NUL',
    example,
    repeatable: false,
    parse(value) {
      if (typeof value !== 'string' || value === '' || value.includes('\0')) throw new Refusal()
      if (value.length > PATH_CHARS_MAX) throw new Refusal()
      return value
    },
  }
}

/** A switch: given or not, true or false. */
export function toggle(): Kind<boolean> {
  return {
    placeholder: '',
    expected: 'true or false',
    example: 'true',
    repeatable: false,
    parse(value) {
      if (value === true || value === 'true' || value === '1') return true
      if (value === false || value === 'false' || value === '0') return false
      throw new Refusal()
    },
  }
}

/** A whole number from `min` to `max`, both included. */
export function whole(min: number, max: number, example: string): Kind<number> {
  return {
    placeholder: '<n>',
    expected: `a whole number from ${min} to ${max}`,
    example,
    repeatable: false,
    parse: (value) => parseWhole(value, min, max),
  }
}

/** A whole number from `min` to `max`, or a word. */
export function wholeOr<const T extends string>(
  word: T,
  min: number,
  max: number,
  example: string,
): Kind<number | T> {
  return {
    placeholder: `<n|${word}>`,
    expected: `${word}, or a whole number from ${min} to ${max}`,
    example,
    repeatable: false,
    parse: (value) => (value === word ? word : parseWhole(value, min, max)),
  }
}

/** A duration; a bare number is seconds. Parsed to ms. */
export function duration(example: string): Kind<number> {
  return {
    placeholder: '<duration>',
    expected: 'a duration from 0 to 24 days (a bare number is seconds; units ms, s, m, h)',
    example,
    repeatable: false,
    parse(value) {
      const ms = parseMeasure(value, DURATION_UNIT_MS, 's')
      if (ms > DURATION_MS_MAX) throw new Refusal()
      return Math.round(ms)
    },
  }
}

/** A size; a bare number is bytes. */
export function bytes(min: number, minShown: string, example: string): Kind<number> {
  return {
    placeholder: '<bytes>',
    expected: `a size of at least ${minShown} (a bare number is bytes; units KB, MB, GB, KiB, MiB, GiB)`,
    example,
    repeatable: false,
    parse(value) {
      const size = parseMeasure(value, BYTE_UNIT, '')
      if (size < min || !Number.isSafeInteger(size)) throw new Refusal()
      return size
    },
  }
}

/** One out of a few words. */
export function choice<const T extends string>(words: readonly T[], example: T): Kind<T> {
  return {
    placeholder: `<${words.join('|')}>`,
    expected: `one of ${words.join(', ')}`,
    example,
    repeatable: false,
    parse(value) {
      const found = words.find((word) => word === value)
      if (found === undefined) throw new Refusal()
      return found
    },
  }
}

/** A pace of replay. */
export function pace(example: string): Kind<Pace> {
  return {
    placeholder: '<pace>',
    expected: 'instant, original, x<factor> or ttft=<ms>,tps=<n>',
    example,
    repeatable: false,
    parse(value) {
      const parsed = typeof value === 'string' ? parsePace(value) : undefined
      if (parsed === undefined) throw new Refusal()
      return parsed
    },
  }
}

/** A JSON pointer (RFC 6901); `*` stands for any one part. */
export function pointer(example: string): Kind<string> {
  return {
    placeholder: '<pointer>',
    expected: 'a JSON pointer, which begins with /',
    example,
    repeatable: false,
    parse(value) {
      if (typeof value !== 'string' || !value.startsWith('/')) throw new Refusal()
      return value
    },
  }
}

/** Several values of one kind: a YAML list, or text with commas; the flag may be repeated. */
export function list<T>(item: Kind<T>, expected: string, example: string): Kind<readonly T[]> {
  return {
    placeholder: item.placeholder.replace(/>$/, ',…>'),
    expected,
    example,
    repeatable: true,
    parse(value, environment) {
      const items = (Array.isArray(value) ? value : [value]).flatMap((entry: unknown) =>
        typeof entry === 'string' ? splitCommas(entry) : [entry],
      )
      const parsed = items.map((entry) => item.parse(entry, environment))
      return Object.freeze(parsed.filter((entry, index) => parsed.indexOf(entry) === index))
    },
  }
}

/** Names with values: a YAML map, or `name=value` texts; the flag may be repeated. */
export function pairs<T>(
  name: RegExp,
  value: Kind<T>,
  placeholder: string,
  expected: string,
  example: string,
): Kind<ReadonlyMap<string, T>> {
  return {
    placeholder: `<${placeholder}>`,
    expected,
    example,
    repeatable: true,
    parse(given, environment) {
      const parsed = new Map<string, T>()
      for (const [key, raw] of pairEntries(given)) {
        if (!name.test(key)) throw new Refusal()
        parsed.set(key, value.parse(raw, environment))
      }
      return parsed
    },
  }
}

/** A label's value: any short text; YAML numbers and booleans are taken as they are written. */
export const label: Kind<string> = {
  placeholder: '<text>',
  expected: 'a text of at most 256 characters',
  example: 'nightly',
  repeatable: false,
  parse(value) {
    const shown = ['number', 'boolean'].includes(typeof value) ? String(value) : value
    if (typeof shown !== 'string' || shown.length > 256) throw new Refusal()
    return shown
  },
}

/**
 * Base URL of an upstream: http or https, nothing behind the path; or `responder:` with a queue's
 * name. Parsed without a last `/`.
 */
export const baseUrl: Kind<string> = {
  placeholder: '<url>',
  expected: 'a base URL with http://, https:// or responder:',
  example: 'http://127.0.0.1:8000',
  repeatable: false,
  parse(value) {
    if (typeof value === 'string' && RESPONDER_URL.test(value)) return value
    if (typeof value !== 'string' || !/^https?:\/\//i.test(value) || !URL.canParse(value)) {
      throw new Refusal()
    }
    const url = new URL(value)
    if (url.username !== '' || url.password !== '') {
      throw new Refusal(
        'a base URL must not hold a user name or a password',
        'give the key with --upstream-api-key env:NAME or file:PATH',
      )
    }
    if (/[?#]/.test(value)) {
      throw new Refusal(
        'a base URL must not hold a query or a fragment',
        'requests bring their own query; leave out everything from ? or # on',
      )
    }
    return value.replace(/\/+$/, '')
  },
}

/** A key by reference: `env:NAME` or `file:PATH`. A literal is refused and never shown. */
export const secret: Kind<Secret> = {
  placeholder: '<env:NAME|file:PATH>',
  expected: 'a reference to a key (env:NAME or file:PATH)',
  example: 'env:VLLM_API_KEY',
  repeatable: false,
  hidden: true,
  parse(value, environment) {
    if (typeof value !== 'string' || !/^(?:env|file):./s.test(value)) {
      throw new Refusal(
        'the value is not a reference to a key; a key itself is not taken here, since command lines and files are read by others',
        'put the key into a variable or a file and give env:NAME or file:PATH',
      )
    }
    const resolved = Secret.resolve(value, environment)
    if (resolved instanceof Secret) return resolved
    throw new Refusal(resolved)
  },
}

/** A name of a header or parameter (a token of RFC 9110); parsed to lower case. */
export function fieldName(refused: readonly string[], why: string): Kind<string> {
  return {
    placeholder: '<name>',
    expected: 'a name',
    example: 'x-team-key',
    repeatable: false,
    parse(value) {
      if (typeof value !== 'string' || !/^[\w!#$%&'*+.^`|~-]+$/.test(value)) throw new Refusal()
      if (value.length > NAME_CHARS_MAX) throw new Refusal()
      const name = value.toLowerCase()
      if (refused.includes(name)) throw new Refusal(`${name} cannot be redacted: ${why}`)
      return name
    },
  }
}

/** A status code that may be retried. */
export const errorStatus: Kind<number> = {
  placeholder: '<status>',
  expected: 'an HTTP status from 400 to 599',
  example: '429',
  repeatable: false,
  parse: (value) => parseWhole(value, 400, 599),
}

function parseWhole(value: unknown, min: number, max: number): number {
  const number =
    typeof value === 'string' && /^[+-]?\d+$/.test(value.trim()) ? Number(value) : value
  if (!Number.isSafeInteger(number)) throw new Refusal()
  if (Number(number) < min || Number(number) > max) throw new Refusal()
  return Number(number)
}

/** A number with a unit, in the smallest; throws {@link Refusal}. */
export function parseMeasure(
  value: unknown,
  units: Readonly<Record<string, number>>,
  bareUnit: string,
): number {
  const written = typeof value === 'number' ? String(value) : value
  const match =
    typeof written === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(written) : null
  const unit = match?.[2] === '' ? bareUnit : match?.[2]?.toLowerCase()
  const factor = unit !== undefined && Object.hasOwn(units, unit) ? units[unit] : undefined
  if (match === null || factor === undefined) throw new Refusal()
  return Number(match[1]) * factor
}

function splitCommas(written: string): string[] {
  return written
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

function pairEntries(given: unknown): (readonly [string, unknown])[] {
  if (typeof given === 'string') return splitCommas(given).map(splitPair)
  if (Array.isArray(given)) return given.map((entry: unknown) => splitPair(entry))
  if (typeof given !== 'object' || given === null) throw new Refusal()
  return given instanceof Map
    ? [...given].map(([key, value]: [unknown, unknown]) => [String(key), value] as const)
    : Object.entries(given)
}

function splitPair(written: unknown): readonly [string, string] {
  const at = typeof written === 'string' ? written.indexOf('=') : -1
  if (typeof written !== 'string' || at < 1) throw new Refusal()
  return [written.slice(0, at).trim(), written.slice(at + 1).trim()]
}
