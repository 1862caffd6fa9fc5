/** Errors as callers of the control API see them: a status, a message, rolltape's own code. */
import { Metadata, status } from '@grpc/grpc-js'
import type { StatusObject } from '@grpc/grpc-js'
import { CONTROL_DETAILS_CHARS_MAX } from '../limits.ts'
import { GRPC_STATUS, toRolltapeError } from '../errors.ts'

/** Trailer with rolltape's own code. */
export const CODE_KEY = 'rolltape-code'

/** Anything thrown as the status of a call. */
export function failureOf(error: unknown): StatusObject {
  const { code, message, hint } = toRolltapeError(error)
  const metadata = new Metadata()
  metadata.set(CODE_KEY, code)
  const details = hint === undefined ? message : `${message} (${hint})`
  return { code: status[GRPC_STATUS[code]], details: short(details), metadata }
}

/** What callers say may stand in it, and be long. */
function short(details: string): string {
  if (details.length <= CONTROL_DETAILS_CHARS_MAX) return details
  return `${details.slice(0, CONTROL_DETAILS_CHARS_MAX - 1).toWellFormed()}…`
}
