/**
 * Every error rolltape makes itself: one class, one list of codes, and two exhaustive tables that
 * map a code to the HTTP status a client sees and to the gRPC status a caller of the control API does.
 *
 * Errors of the upstream are none of these: they pass through as they are. Misuse by a programmer
 * is a plain `TypeError`.
 */

/** HTTP status per code; being exhaustive by type, a new code cannot be forgotten here. */
export const HTTP_STATUS = {
  bad_session: 400,
  bad_request: 400,
  bad_model: 400,
  no_route: 400,
  request_too_large: 413,
  request_stalled: 408,
  upgrade_unsupported: 501,
  over_capacity: 429,
  admission_paused: 429,
  aborted: 503,
  upstream_unreachable: 502,
  upstream_reset: 502,
  upstream_invalid: 502,
  upstream_timeout_connect: 504,
  upstream_timeout_ttfb: 504,
  upstream_timeout_stall: 504,
  upstream_timeout_total: 504,
  responder_queue_full: 429,
  responder_missing: 503,
  responder_timeout: 504,
  responder_failed: 502,
  responder_lost: 502,
  session_ended: 410,
  tape_exhausted: 404,
  tape_miss: 404,
  tape_record_unusable: 500,
  tape_unavailable: 503,
  session_frozen: 409,
  capture_unavailable: 400,
  draining: 503,
  internal_error: 500,
  // Errors of starting and of the command line; no client ever sees them.
  bad_option: 500,
  config_unreadable: 500,
  recording_unwritable: 500,
  recording_locked: 500,
  recording_conflict: 500,
  tape_corrupt: 500,
  tape_let_go: 410,
  record_malformed: 500,
  snapshot_changed: 500,
  not_found: 404,
  listen_failed: 500,
  already_running: 500,
  not_running: 500,
  generation_conflict: 409,
  stream_replaced: 409,
  mode_unavailable: 409,
  lane_lost: 503,
  // Errors of the control API.
  bad_argument: 400,
  wrong_state: 409,
  unauthenticated: 401,
  session_forbidden: 403,
  deadline_passed: 504,
} as const satisfies Record<string, number>

/** Stable literal that names an error; clients and tests may match on it. */
export type ErrorCode = keyof typeof HTTP_STATUS

/** Name of a gRPC status that an error can have. */
export type GrpcStatus =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'UNAVAILABLE'
  | 'DEADLINE_EXCEEDED'
  | 'UNAUTHENTICATED'
  | 'PERMISSION_DENIED'
  | 'DATA_LOSS'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'

/** gRPC status per code, for callers of the control API; exhaustive by type as well. */
export const GRPC_STATUS = {
  bad_session: 'INVALID_ARGUMENT',
  bad_request: 'INVALID_ARGUMENT',
  bad_model: 'INVALID_ARGUMENT',
  no_route: 'FAILED_PRECONDITION',
  request_too_large: 'RESOURCE_EXHAUSTED',
  request_stalled: 'DEADLINE_EXCEEDED',
  upgrade_unsupported: 'UNIMPLEMENTED',
  over_capacity: 'RESOURCE_EXHAUSTED',
  admission_paused: 'UNAVAILABLE',
  aborted: 'UNAVAILABLE',
  upstream_unreachable: 'UNAVAILABLE',
  upstream_reset: 'UNAVAILABLE',
  upstream_invalid: 'UNAVAILABLE',
  upstream_timeout_connect: 'DEADLINE_EXCEEDED',
  upstream_timeout_ttfb: 'DEADLINE_EXCEEDED',
  upstream_timeout_stall: 'DEADLINE_EXCEEDED',
  upstream_timeout_total: 'DEADLINE_EXCEEDED',
  responder_queue_full: 'RESOURCE_EXHAUSTED',
  responder_missing: 'UNAVAILABLE',
  responder_timeout: 'DEADLINE_EXCEEDED',
  responder_failed: 'UNAVAILABLE',
  responder_lost: 'UNAVAILABLE',
  session_ended: 'ABORTED',
  tape_exhausted: 'NOT_FOUND',
  tape_miss: 'NOT_FOUND',
  tape_record_unusable: 'DATA_LOSS',
  tape_unavailable: 'UNAVAILABLE',
  session_frozen: 'FAILED_PRECONDITION',
  capture_unavailable: 'FAILED_PRECONDITION',
  draining: 'UNAVAILABLE',
  internal_error: 'INTERNAL',
  bad_option: 'INVALID_ARGUMENT',
  config_unreadable: 'INVALID_ARGUMENT',
  recording_unwritable: 'FAILED_PRECONDITION',
  recording_locked: 'FAILED_PRECONDITION',
  recording_conflict: 'FAILED_PRECONDITION',
  tape_corrupt: 'DATA_LOSS',
  tape_let_go: 'NOT_FOUND',
  record_malformed: 'DATA_LOSS',
  snapshot_changed: 'DATA_LOSS',
  not_found: 'NOT_FOUND',
  listen_failed: 'UNAVAILABLE',
  already_running: 'ALREADY_EXISTS',
  not_running: 'UNAVAILABLE',
  generation_conflict: 'ABORTED',
  stream_replaced: 'ABORTED',
  mode_unavailable: 'FAILED_PRECONDITION',
  lane_lost: 'UNAVAILABLE',
  bad_argument: 'INVALID_ARGUMENT',
  wrong_state: 'FAILED_PRECONDITION',
  unauthenticated: 'UNAUTHENTICATED',
  session_forbidden: 'PERMISSION_DENIED',
  deadline_passed: 'DEADLINE_EXCEEDED',
} as const satisfies Record<ErrorCode, GrpcStatus>

/**
 * An error of rolltape's own. `message` names the thing, the value met and the bound; `hint` says
 * what to do; `cause` is logged, never sent.
 */
export class RolltapeError extends Error {
  override readonly name = 'RolltapeError'
  readonly code: ErrorCode
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = options.hint
  }

  /** HTTP status that a client gets for this error. */
  get httpStatus(): number {
    return HTTP_STATUS[this.code]
  }
}

/** The message of anything thrown, with its code in front where it has one. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = (error as { code?: unknown }).code
  return typeof code === 'string' && !error.message.includes(code)
    ? `${code}: ${error.message}`
    : error.message
}

/** Anything thrown as an error of rolltape's own: `internal_error` unless it is one already. */
export function toRolltapeError(error: unknown): RolltapeError {
  if (error instanceof RolltapeError) return error
  const message = `rolltape failed: ${errorText(error)}`
  return new RolltapeError('internal_error', message, { cause: error })
}
