/**
 * What makes two requests the same: method, path without session prefix, query without
 * credentials, and body. The raw key takes the body's bytes; the canonical key what is left of it
 * after RFC 8785 and the ignore rules. Redacted values never enter a key.
 */
import { hash } from 'node:crypto'
import { REDACTION } from '../lane/redaction.ts'
import { KEY_HEADS_MAX } from '../limits.ts'
import { IGNORE_NOTHING, canonicalize } from './canonical.ts'
import type { IgnoreRules, Json, PointerParts } from './canonical.ts'

/** First 16 bytes of a SHA-256, as four words. */
export type Key = readonly [number, number, number, number]

/** Stands where a record has no such key. */
export const NO_KEY: Key = [0, 0, 0, 0]

/** Heads of calls whose bodies say how the answer is to be given. */
const SHAPED = /^POST [^?]*\/(?:completions|responses|messages)\/?(?:\?|$)/
const SHAPE_POINTERS: readonly PointerParts[] = [['stream'], ['stream_options']]

const REDACTED = `=${REDACTION}`
const CREDENTIALS = new Set(['key', 'api_key', 'api-key', 'access_token', 'token'])

/** The part of a key that is not the body. `target` is without a session prefix. */
export function keyHead(method: string, target: string): string {
  const cut = target.indexOf('?')
  if (cut < 0) return `${method} ${target}`
  const query = target
    .slice(cut + 1)
    .split('&')
    .filter((pair) => !isCredential(pair))
    .join('&')
  return query === ''
    ? `${method} ${target.slice(0, cut)}`
    : `${method} ${target.slice(0, cut)}?${query}`
}

function isCredential(pair: string): boolean {
  return pair.endsWith(REDACTED) || CREDENTIALS.has(pair.split('=', 1)[0]?.toLowerCase() ?? '')
}

/** SHA-256 of a body, in hex, as records have it. */
export function bodyDigest(body: Buffer): string {
  return hash('sha256', body, 'hex')
}

/** Keys of heads, which are few. */
const headKeys = new Map<string, Key>()

/**
 * The key of exactly these bytes: the first 16 of the head's SHA-256 and of the body's, as XOR.
 * `digest` is the body's SHA-256 in hex.
 */
export function rawKey(head: string, digest: string): Key {
  return rawKeyOf(head, [
    hexWord(digest, 0),
    hexWord(digest, 8),
    hexWord(digest, 16),
    hexWord(digest, 24),
  ])
}

/** As {@link rawKey}, of the digest's first 16 bytes as words, the highest byte first. */
export function rawKeyOf(head: string, digest: Key): Key {
  let key = headKeys.get(head)
  if (key === undefined) {
    if (headKeys.size >= KEY_HEADS_MAX) headKeys.clear()
    key = toKey(`raw ${head}`)
    headKeys.set(head, key)
  }
  const [a, b, c, d] = digest
  return [key[0] ^ a, key[1] ^ b, key[2] ^ c, key[3] ^ d]
}

function hexWord(digest: string, from: number): number {
  let word = 0
  for (let i = from; i < from + 8; i++) {
    const code = digest.charCodeAt(i)
    word = (word << 4) | ((code & 0xf) + (code > 0x39 ? 9 : 0))
  }
  return word
}

/** Where a canonical key's body begins; the body follows. */
export function canonicalStart(head: string): string {
  return `canonical ${head}\n`
}

/** The key of what the body means; undefined when it is no JSON. */
export function canonicalKey(
  head: string,
  body: Buffer | string,
  rules: IgnoreRules = IGNORE_NOTHING,
): Key | undefined {
  const value = parse(body.toString())
  return value === undefined ? undefined : canonicalKeyOf(head, value, rules)
}

/** The key of a body that is parsed already. */
export function canonicalKeyOf(head: string, value: Json, rules: IgnoreRules): Key {
  return toKey(canonicalStart(head) + canonicalize(value, keyRules(head, rules)))
}

/**
 * All that does not count in a canonical key: the rules, and where an answer can be given streamed
 * or whole, which of the two is asked for.
 */
export function keyRules(head: string, rules: IgnoreRules): IgnoreRules {
  if (!SHAPED.test(head)) return rules
  return { ...rules, pointers: [...SHAPE_POINTERS, ...rules.pointers] }
}

/** A key as people read it: 32 hex digits. */
export function formatKey(key: Key): string {
  return key.map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('')
}

/** The key of what is hashed whole. */
export function toKey(text: string | Uint8Array): Key {
  // As a string: a Buffer costs as much again as the hash of a short text.
  const bytes = hash('sha256', text, 'latin1')
  return [wordAt(bytes, 0), wordAt(bytes, 4), wordAt(bytes, 8), wordAt(bytes, 12)]
}

function wordAt(bytes: string, at: number): number {
  const low = bytes.charCodeAt(at) | (bytes.charCodeAt(at + 1) << 8)
  return low | (bytes.charCodeAt(at + 2) << 16) | (bytes.charCodeAt(at + 3) << 24)
}

function parse(text: string): Json | undefined {
  if (text === '') return {}
  try {
    return JSON.parse(text) as Json
  } catch {
    return undefined
  }
}
