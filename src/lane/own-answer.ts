/**
 * The answers rolltape gives itself: an error in the shape that the client's protocol has for
 * errors, with `detail` for clients that read that key.
 */
import type { ServerResponse } from 'node:http'
import { RolltapeError, errorText } from '../errors.ts'
import type { ErrorCode } from '../errors.ts'

/** Head and body of an answer of rolltape's own. */
export interface OwnAnswer {
  readonly status: number
  readonly reason: string
  readonly flat: string[]
  readonly body: Buffer
}

const REASONS: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  408: 'Request Timeout',
  409: 'Conflict',
  410: 'Gone',
  413: 'Content Too Large',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
}

/** An error as an answer: OpenAI's shape, Anthropic's and Gemini's on their paths. */
export function errorAnswer(error: RolltapeError, path: string, close: boolean): OwnAnswer {
  const status = error.httpStatus
  const message = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`
  const body = Buffer.from(JSON.stringify(envelope(error, status, message, path)))
  const flat = ['content-type', 'application/json', 'content-length', String(body.length)]
  if (status === 429 || status === 503) flat.push('retry-after', '1')
  if (status === 401) flat.push('www-authenticate', 'Bearer')
  // SDKs take 409 for a lock that is soon given back, and would ask again.
  if (error.code === 'session_frozen') flat.push('x-should-retry', 'false')
  if (close) flat.push('connection', 'close')
  return { status, reason: REASONS[status] ?? '', flat, body }
}

const ANTHROPIC_TYPES: Record<number, string> = {
  401: 'authentication_error',
  403: 'permission_error',
  429: 'rate_limit_error',
}

const GEMINI_NAMES: Record<number, string> = {
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  429: 'RESOURCE_EXHAUSTED',
}

function envelope(error: RolltapeError, status: number, message: string, path: string): object {
  const { code } = error
  if (path.includes('/messages')) {
    const type = ANTHROPIC_TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error')
    return { type: 'error', error: { type, message, code }, detail: message }
  }
  if (path.includes(':generateContent') || path.includes(':streamGenerateContent')) {
    const name = GEMINI_NAMES[status] ?? (status < 500 ? 'INVALID_ARGUMENT' : 'UNAVAILABLE')
    return { error: { code: status, message, status: name, reason: code }, detail: message }
  }
  const type = status < 500 ? 'invalid_request_error' : 'server_error'
  return { error: { message, type, code, param: null }, detail: message }
}

const UNRECORDED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'unauthenticated',
  'session_forbidden',
  'session_frozen',
])

/**
 * True for a refusal that is counted and not recorded: anybody could fill the tape with requests that
 * bring no key, and a frozen session has all its records.
 */
export function leavesNoRecord({ code }: RolltapeError): boolean {
  return UNRECORDED.has(code)
}

/** Refuses a new exchange while the tape cannot be written: such answers are not recorded either. */
export function sendUntaped(res: ServerResponse, failure: Error, path: string): void {
  const { status, reason, flat, body } = errorAnswer(untaped(failure), path, false)
  res.writeHead(status, reason, flat).end(body)
}

/** Why nothing is recorded while the tape cannot be written. */
export function untaped(failure: Error): RolltapeError {
  return new RolltapeError(
    'tape_unavailable',
    `the tape cannot be written: ${errorText(failure)}`,
    { hint: 'retry later, or serve without recording: on_tape_failure: passthrough' },
  )
}
