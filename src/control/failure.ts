/** Errors as callers of the control API see them: a status, a message, rolltape's own code. */
import { Metadata, status } from '@grpc/grpc-js'
import type { StatusObject } from '@grpc/grpc-js'
import { GRPC_STATUS, toRolltapeError } from '../errors.ts'

/** Trailer with rolltape's own code. */
export const CODE_KEY = 'rolltape-code'

/** Anything thrown as the status of a call. */
export function failureOf(error: unknown): StatusObject {
  const { code, message, hint } = toRolltapeError(error)
  const metadata = new Metadata()
  metadata.set(CODE_KEY, code)
  const details = hint === undefined ? message : `${message} (${hint})`
  return { code: status[GRPC_STATUS[code]], details, metadata }
}
