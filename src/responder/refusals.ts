/** Why requests to a responder get no answer, in rolltape's own words. */
import { RolltapeError } from '../errors.ts'

/** Why a session is over. */
export type SessionEnd = 'closed' | 'process_gone' | 'command_ended'

/** What waits is as much as may. */
export function full(what: string, max: number): RolltapeError {
  const message = `${what}, and ${max} is the most`
  return new RolltapeError('responder_queue_full', message, { hint: 'try again in a moment' })
}

/** Nobody took a request in time. */
export function late(
  queue: string,
  responders: number,
  { waitMs, onNoResponder }: { readonly waitMs: number; readonly onNoResponder: 503 | 504 },
): RolltapeError {
  const all = responders === 1 ? 'the one there is had' : `the ${responders} there are had`
  const why = responders === 0 ? 'there is none' : `${all} no credit left`
  const message = `no responder took the request from queue ${queue} within responder_wait (${waitMs} ms): ${why}`
  return new RolltapeError(
    onNoResponder === 503 ? 'responder_missing' : 'responder_timeout',
    message,
  )
}

/** Responders died over a request. */
export function lost(deliveries: number): RolltapeError {
  const message = `${deliveries} responders were lost over this request before any of them answered`
  return new RolltapeError('responder_lost', message)
}

/** Its session is over. */
export function sessionEnded(session: string, why: SessionEnd): RolltapeError {
  return new RolltapeError('session_ended', `session ${session} is over: ${ENDS[why]}`)
}

const ENDS: Readonly<Record<SessionEnd, string>> = {
  closed: 'it was closed',
  process_gone: 'the process that was watched for it is gone',
  command_ended: 'the command of `rolltape run` has ended',
}
