/**
 * Which key a client has shown, without telling the key: the first 16 hex digits of HMAC-SHA-256
 * over the credential, with a random key that each recording has of its own (`tape/hmac-key.ts`).
 * Whoever holds a credential and the recording can tell its exchanges; digests of two recordings
 * cannot be compared.
 */
import { createHmac } from 'node:crypto'
import { KEY_HMACS_MAX } from '../limits.ts'
import { headerValue } from './headers.ts'

const DIGITS = 16
const BEARER = /^bearer +(.+)$/i
const QUERY_KEY = /[?&]key=([^&#]*)/

/** Makes digests, and remembers them by credential: an exchange costs a look-up. */
export class KeyHmac {
  readonly #key: Buffer
  readonly #known = new Map<string, string>()

  /** `key` is that of the recording, in hex. */
  constructor(key: string) {
    this.#key = Buffer.from(key, 'hex')
  }

  /** Of the credential that a request shows; undefined when it shows none. */
  of(target: string, rawHeaders: readonly string[]): string | undefined {
    const shown = shownCredential(target, rawHeaders)
    if (shown === undefined) return undefined
    let digest = this.#known.get(shown)
    if (digest === undefined) {
      if (this.#known.size >= KEY_HMACS_MAX) this.#known.clear()
      const hmac = createHmac('sha256', this.#key).update(shown, 'latin1')
      digest = hmac.digest('hex').slice(0, DIGITS)
      this.#known.set(shown, digest)
    }
    return digest
  }

  /** Digests that are remembered, at most {@link KEY_HMACS_MAX}. */
  get size(): number {
    return this.#known.size
  }
}

/** Bearer token, else x-api-key, x-goog-api-key, api-key, `?key=`; a character a byte. */
function shownCredential(target: string, flat: readonly string[]): string | undefined {
  return (
    BEARER.exec(headerValue(flat, 'authorization') ?? '')?.[1]?.trim() ||
    headerValue(flat, 'x-api-key') ||
    headerValue(flat, 'x-goog-api-key') ||
    headerValue(flat, 'api-key') ||
    keyInQuery(target) ||
    undefined
  )
}

/** The value of `?key=`, percent-decoded, a character a byte; undefined when there is none. */
export function keyInQuery(target: string): string | undefined {
  const value = QUERY_KEY.exec(target)?.[1]
  if (value === undefined) return undefined
  try {
    return Buffer.from(decodeURIComponent(value)).toString('latin1')
  } catch {
    return value
  }
}
