/**
 * Whose request is this: the session and run of an exchange, and whether it is a generation
 * request. Reads the request line and headers only; the `body` source is asked for separately,
 * once the body is there.
 */
import { isUtf8 } from 'node:buffer'
import { RolltapeError } from '../errors.ts'
import { SESSION_ID_BYTES_MAX } from '../limits.ts'
import { headerValue } from './headers.ts'

/** Where a session id may come from; the first source that has one wins. */
export type SessionSource = 'path' | 'header' | 'body'

/** Session of requests that name none; run of those that name none. */
export const DEFAULT_ID = 'default'

/** What the request head says about its session. */
export interface ResolvedSession {
  /** Undefined when the body is to be asked first. */
  readonly session: string | undefined
  /** The session when the body names none. */
  readonly otherwise: string
  readonly run: string
  /** The target without a session prefix: what is joined with the upstream's base. */
  readonly target: string
}

const HEADERS = ['x-session-id', 'x-session-affinity', 'session-id'] as const
const PREFIX = /^\/(?:runs\/([^/?#]*)\/)?sessions\/([^/?#]*)(?=[/?#]|$)/

/**
 * Resolves session and run in the configured order. A session prefix is stripped from the target
 * even when another source gives the id, since no upstream knows it.
 *
 * `fallback` is the session of requests that name none. Throws `bad_session` for an id that is empty, too long, badly encoded or has control characters.
 */
export function resolveSession(
  target: string,
  rawHeaders: readonly string[],
  sources: readonly SessionSource[],
  fallback = DEFAULT_ID,
): ResolvedSession {
  const prefix = target.startsWith('/sessions/') || target.startsWith('/runs/')
  const match = prefix && sources.includes('path') ? PREFIX.exec(target) : null
  const stripped = match ? target.slice(match[0].length) : target
  const run =
    match?.[1] === undefined
      ? idHeader(rawHeaders, 'x-rolltape-run')
      : decode(match[1], 'run in the path')
  const body = sources.indexOf('body')
  const asked = body < 0 ? sources.length : body
  const before = first(sources, 0, asked, match, rawHeaders)
  const otherwise =
    (before === undefined ? first(sources, asked, sources.length, match, rawHeaders) : undefined) ??
    fallback
  return {
    session: before ?? (body < 0 ? otherwise : undefined),
    otherwise,
    run: run === undefined ? DEFAULT_ID : checkId(run, 'run'),
    target: stripped.startsWith('/') ? stripped : `/${stripped}`,
  }
}

/**
 * Checks an id: 1 to 256 bytes, no control characters.
 * @throws RolltapeError `bad_session`, naming where it came from and what is wrong with it.
 */
export function checkId(id: string, what: string): string {
  const bytes = id.length > SESSION_ID_BYTES_MAX ? id.length : Buffer.byteLength(id)
  if (bytes === 0) throw bad(what, 'it is empty')
  if (bytes > SESSION_ID_BYTES_MAX) throw bad(what, `it has ${bytes} bytes`)
  for (let i = 0; i < id.length; i++) {
    const code = id.charCodeAt(i)
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) throw bad(what, 'it has a control character')
  }
  return id
}

/** True for a call that makes the model produce: these have turns and move cursors. */
export function isGeneration(method: string, path: string): boolean {
  if (method !== 'POST') return false
  const end = path.length > 1 && path.endsWith('/') ? path.length - 1 : path.length
  return (
    path.endsWith('/completions', end) ||
    path.endsWith('/responses', end) ||
    // The Assistants API has messages of its own.
    (path.endsWith('/messages', end) && !path.includes('/threads/')) ||
    path.endsWith('/generate', end) ||
    // Gemini's clients encode the colon or do not.
    /(?::|%3a)(?:generateContent|streamGenerateContent)$/i.test(path)
  )
}

/** The path of a target, without its query. */
export function pathOf(target: string): string {
  const cut = target.indexOf('?')
  return cut < 0 ? target : target.slice(0, cut)
}

/** What the first of these sources says that says something. */
function first(
  sources: readonly SessionSource[],
  from: number,
  to: number,
  match: RegExpExecArray | null,
  rawHeaders: readonly string[],
): string | undefined {
  for (let i = from; i < to; i++) {
    const source = sources[i]
    if (source === 'body') continue
    const id = source === 'path' ? fromPath(match) : fromHeaders(rawHeaders)
    if (id !== undefined) return id
  }
  return undefined
}

function fromPath(match: RegExpExecArray | null): string | undefined {
  if (match === null) return undefined
  return checkId(decode(match[2] ?? '', 'session in the path'), 'session')
}

function fromHeaders(rawHeaders: readonly string[]): string | undefined {
  for (const name of HEADERS) {
    const value = idHeader(rawHeaders, name)
    if (value !== undefined) return checkId(value, 'session')
  }
  return undefined
}

/** Header bytes are Latin-1 in node; ids are UTF-8 on the wire, unless they are not. */
function idHeader(rawHeaders: readonly string[], name: string): string | undefined {
  const value = headerValue(rawHeaders, name)
  if (value === undefined) return undefined
  const bytes = Buffer.from(value, 'latin1')
  return isUtf8(bytes) ? bytes.toString() : value
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw new RolltapeError('bad_session', `the ${what} is not valid percent-encoded UTF-8`, {
      cause,
    })
  }
}

function bad(what: string, why: string): RolltapeError {
  return new RolltapeError(
    'bad_session',
    `the ${what} id cannot be used: ${why}; ids have 1 to ${SESSION_ID_BYTES_MAX} bytes of UTF-8 ` +
      'after percent-decoding and no control characters',
  )
}
