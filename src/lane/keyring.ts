/**
 * Whether a client may come in: the key it shows, looked up by its SHA-256. Nobody can choose a key
 * whose digest begins like another's, so the time that takes tells nothing of the keys there are.
 */
import { hash } from 'node:crypto'
import { RolltapeError } from '../errors.ts'
import type { ClientKey, ClientKeys } from '../options/client-keys.ts'
import { headerValue } from './headers.ts'
import { keyInQuery } from './key-hmac.ts'

/** The digits of a digest that a session is named by. */
const SESSION_DIGITS = 12

/** Looks keys up. */
export class Keyring {
  readonly #byDigest: ReadonlyMap<string, ClientKey>

  constructor({ keys }: ClientKeys) {
    this.#byDigest = new Map(keys.map((key) => [key.digest, key]))
  }

  /**
   * Whose request this is.
   * @throws RolltapeError `unauthenticated`.
   */
  holder(target: string, rawHeaders: readonly string[]): ClientKey {
    const shown = shownKey(target, rawHeaders)
    if (shown === undefined) throw refusal('this rolltape asks clients for a key, and none came')
    const key = this.#byDigest.get(hash('sha256', Buffer.from(shown, 'latin1'), 'hex'))
    if (key === undefined) throw refusal('the key that came is none of those in keys_file')
    return key
  }
}

const keyrings = new WeakMap<ClientKeys, Keyring>()

/** The keyring of these keys; made once. */
export function keyringOf(keys: ClientKeys): Keyring {
  let keyring = keyrings.get(keys)
  if (keyring === undefined) keyrings.set(keys, (keyring = new Keyring(keys)))
  return keyring
}

/** The session of requests that name none: that of their key. */
export function sessionOfKey({ digest }: ClientKey): string {
  return `key-${digest.slice(0, SESSION_DIGITS)}`
}

/**
 * Looks whether a key may use a session.
 * @throws RolltapeError `session_forbidden`.
 */
export function checkScope({ name, sessions }: ClientKey, session: string): void {
  if (session.startsWith(sessions)) return
  throw new RolltapeError(
    'session_forbidden',
    `key ${name} is for sessions that begin with ${sessions}, and this is another`,
  )
}

/** The first one in the order that the client's protocol has for it (Anthropic: x-api-key first). */
function shownKey(target: string, rawHeaders: readonly string[]): string | undefined {
  const bearer = (): string | undefined =>
    /^bearer +(.+)$/i.exec(headerValue(rawHeaders, 'authorization') ?? '')?.[1]?.trim()
  const anthropic = headerValue(rawHeaders, 'x-api-key')
  if (target.includes('/messages') && anthropic !== undefined) return anthropic
  return bearer() ?? anthropic ?? headerValue(rawHeaders, 'x-goog-api-key') ?? keyInQuery(target)
}

function refusal(message: string): RolltapeError {
  return new RolltapeError('unauthenticated', message, {
    hint: 'send one as authorization: Bearer, x-api-key or x-goog-api-key',
  })
}
