/**
 * Header pairs on their way through: which are ours to drop at a hop, and what they say.
 *
 * All functions take and give flat arrays (name, value, name, value, …) as node:http and undici
 * have them, so that case, order and duplicates survive. Sources: RFC 9110 §7.6.1 (Connection and
 * hop-by-hop fields), RFC 9112 §6 (message body length).
 */
import { RolltapeError } from '../errors.ts'

/** Fields that belong to one hop and are written anew by each. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
])

/** What a Connection header may not make a hop drop: without them the message changes meaning. */
const NOT_NAMEABLE = new Set([
  'authorization',
  'host',
  'content-length',
  'content-type',
  'content-encoding',
  'x-api-key',
  'x-goog-api-key',
])

/** Credentials of the client: dropped when rolltape holds the upstream's key itself. */
const CLIENT_CREDENTIALS = new Set(['authorization', 'x-api-key', 'x-goog-api-key', 'cookie'])

/** The credential parameter that Gemini's clients send. */
const QUERY_KEY = /([?&])key=[^&#]*(&|$)/i

/** A request's headers as they go upstream, and what was read off them in the same pass. */
export interface ForwardedHeaders {
  /** Flat pairs for undici; Host, Connection and body length are written by it. */
  readonly flat: string[]
  /** Bytes of the body, when the client said how many; -1 when it comes in chunks. */
  readonly bodyBytes: number
  /** False for a transfer coding beyond `chunked`, which would be lost on the way. */
  readonly plainChunks: boolean
}

/**
 * Filters a request's headers for the upstream: hop-by-hop fields, those named by Connection, Host,
 * Expect and `x-rolltape-*` stay behind; the client's credentials too when `apiKey` replaces
 * them, or where they are keys to rolltape itself.
 */
export function requestHeaders(
  raw: readonly string[],
  apiKey: { readonly name: string; readonly value: string } | undefined,
  keepsCredentials = apiKey === undefined,
): ForwardedHeaders {
  const named = namedByConnection(raw)
  const flat: string[] = []
  let bodyBytes = 0
  let plainChunks = true
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] as string
    const value = raw[i + 1] as string
    const lower = name.toLowerCase()
    if (lower === 'transfer-encoding') {
      bodyBytes = -1
      plainChunks = value.trim().toLowerCase() === 'chunked'
    }
    if (HOP_BY_HOP.has(lower) || lower === 'host' || lower === 'expect') continue
    // Request trailers cannot be passed on, so none are announced.
    if (lower === 'trailer' || lower.startsWith('x-rolltape-') || named?.has(lower)) continue
    if (lower === 'content-length') {
      bodyBytes = Number(value)
      continue
    }
    if (!keepsCredentials && CLIENT_CREDENTIALS.has(lower)) continue
    flat.push(name, value)
  }
  if (apiKey !== undefined) flat.push(apiKey.name, apiKey.value)
  return { flat, bodyBytes, plainChunks }
}

/** The header in which an upstream expects its key at this path. */
export function apiKeyHeader(path: string, key: string): { name: string; value: string } {
  if (path.endsWith('/messages') || path.endsWith('/messages/count_tokens')) {
    return { name: 'x-api-key', value: key }
  }
  if (path.includes(':generateContent') || path.includes(':streamGenerateContent')) {
    return { name: 'x-goog-api-key', value: key }
  }
  return { name: 'Authorization', value: `Bearer ${key}` }
}

/**
 * Filters a response's headers for the client: hop-by-hop fields and those named by Connection.
 * @throws RolltapeError `upstream_invalid` for a transfer coding that would be lost on the way.
 */
export function responseHeaders(raw: readonly Buffer[] | readonly string[]): string[] {
  const flat: string[] = []
  for (let i = 0; i < raw.length; i++) flat.push(latin1(raw[i]))
  const named = namedByConnection(flat)
  let to = 0
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = flat[i] as string
    const lower = name.toLowerCase()
    if (lower === 'transfer-encoding') checkCodings(flat[i + 1] as string)
    if (HOP_BY_HOP.has(lower) || named?.has(lower)) continue
    flat[to++] = name
    flat[to++] = flat[i + 1] as string
  }
  flat.length = to
  return flat
}

function checkCodings(codings: string): void {
  if (/^\s*(?:chunked|identity)\s*$/i.test(codings)) return
  const message = `the answer has the transfer coding "${codings.slice(0, 80)}", and only chunked can be passed on`
  throw new RolltapeError('upstream_invalid', message)
}

/** The value of the first header of this (lower-case) name. */
export function headerValue(flat: readonly string[], name: string): string | undefined {
  const { length } = name
  // The last letters tell most names of one length apart without making them lower-case.
  const last = name.charCodeAt(length - 1) | 0x20
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const candidate = flat[i] as string
    if (candidate.length !== length || (candidate.charCodeAt(length - 1) | 0x20) !== last) continue
    if (candidate.toLowerCase() === name) return flat[i + 1]
  }
  return undefined
}

/** A request target without the client's `key` parameter (static and keyed authentication). */
export function dropQueryKey(target: string): string {
  if (!QUERY_KEY.test(target)) return target
  const dropped = target.replace(QUERY_KEY, (_all, lead: string, end: string) => {
    return end === '&' ? lead : ''
  })
  return dropQueryKey(dropped)
}

function namedByConnection(flat: readonly string[]): Set<string> | undefined {
  let named: Set<string> | undefined
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = flat[i] as string
    if (name.length !== 10 || name.toLowerCase() !== 'connection') continue
    const value = (flat[i + 1] as string).toLowerCase()
    if (value === 'keep-alive' || value === 'close') continue
    for (const token of value.split(',')) {
      const field = token.trim()
      if (!NOT_NAMEABLE.has(field)) (named ??= new Set()).add(field)
    }
  }
  return named
}

function latin1(part: Buffer | string | undefined): string {
  return typeof part === 'string' ? part : (part?.toString('latin1') ?? '')
}
