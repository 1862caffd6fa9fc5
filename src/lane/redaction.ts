/**
 * What of an exchange never reaches disk, logs or replay keys: the values of headers and of query
 * parameters that carry credentials. The names below always count; a configuration adds its own.
 *
 * `Taping` and `Arrival` put everything that goes to the tape through here; what is forwarded is
 * not touched.
 */

import { NAME_CHARS_MAX } from '../limits.ts'

/** Stands where a credential stood. */
export const REDACTION = '[redacted]'

const HEADERS = [
  'authorization',
  'proxy-authorization',
  'x-api-key',
  'x-goog-api-key',
  'api-key',
  'cookie',
  'set-cookie',
]

const QUERY = ['key', 'api_key', 'api-key', 'access_token', 'token']

/** Pairs of a query; only names that are percent-encoded are looked at one by one. */
const PAIR = /([?&])([^=&#?]*)=([^&#]*)/g

/** The names a configuration adds, in lower case. */
export interface RedactionNames {
  readonly redactHeaders: readonly string[]
  readonly redactQuery: readonly string[]
}

/** Replaces the values of credentials. */
export class Redaction {
  readonly #headers: ReadonlySet<string>
  /** 1 at the lengths of these names: most headers have another, and are not made lower-case. */
  readonly #lengths = new Uint8Array(NAME_CHARS_MAX + 1)
  readonly #query: ReadonlySet<string>
  /** A parameter of one of these names, as it is written most often: in clear. */
  readonly #inClear: RegExp

  constructor({ redactHeaders, redactQuery }: RedactionNames) {
    this.#headers = new Set([...HEADERS, ...redactHeaders])
    for (const { length } of this.#headers) this.#lengths[length] = 1
    this.#query = new Set([...QUERY, ...redactQuery])
    const names = [...this.#query].map((name) => name.replace(/[^\w-]/g, '\\$&')).join('|')
    this.#inClear = new RegExp(`([?&](?:${names})=)[^&#]*`, 'gi')
  }

  /** A copy of flat header pairs with credentials replaced; the same array when there are none. */
  headers(flat: readonly string[]): readonly string[] {
    let out: string[] | undefined
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const name = flat[i] as string
      if (this.#lengths[name.length] !== 1 || !this.#headers.has(name.toLowerCase())) continue
      out ??= [...flat]
      out[i + 1] = REDACTION
    }
    return out ?? flat
  }

  /** A request target with credentials in its query replaced. */
  target(target: string): string {
    if (!target.includes('?')) return target
    const redacted = target.replace(this.#inClear, `$1${REDACTION}`)
    if (!redacted.includes('%')) return redacted
    return redacted.replace(PAIR, (pair, lead: string, name: string) =>
      this.#query.has(decoded(name).toLowerCase()) ? `${lead}${name}=${REDACTION}` : pair,
    )
  }
}

const redactions = new WeakMap<RedactionNames, Redaction>()

/** The redaction of a configuration; made once. */
export function redactionOf(config: RedactionNames): Redaction {
  let redaction = redactions.get(config)
  if (redaction === undefined) redactions.set(config, (redaction = new Redaction(config)))
  return redaction
}

function decoded(name: string): string {
  if (!name.includes('%')) return name
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}
