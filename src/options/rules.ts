/**
 * Rules that span several options: what follows from what, and which do not go together.
 */
import { BlockList, isIP } from 'node:net'

import { RolltapeError } from '../errors.ts'
import type { OptionValues } from './definitions.ts'
import { settleModes, type ModeConsequences } from './mode-rules.ts'

/** What several options decide together. */
export interface Consequences extends ModeConsequences {
  readonly maxAttempts: number
  readonly retryAfterSend: boolean
  readonly retryableStatusCodes: readonly number[]
}

/** Statuses retried where several attempts are on and no statuses were given. */
const RETRYABLE_BY_DEFAULT = Object.freeze([408, 429, 500, 502, 503, 504])

/** Attempts where statuses were given and no number of attempts. */
const ATTEMPTS_WITH_STATUSES = 6

/** Checks the rules and settles what follows. Throws `bad_option` or `recording_conflict`. */
export function settle(values: OptionValues): Consequences {
  checkBind(values)
  const modes = settleModes(values)
  checkSessions(values)
  const statuses = values.retryableStatusCodes
  const statusesGiven = statuses !== null && statuses.length > 0
  const maxAttempts = values.maxAttempts ?? (statusesGiven ? ATTEMPTS_WITH_STATUSES : 1)
  return {
    ...modes,
    maxAttempts,
    retryAfterSend: values.retryAfterSend ?? statusesGiven,
    retryableStatusCodes:
      statuses ?? (maxAttempts > 1 ? RETRYABLE_BY_DEFAULT : Object.freeze<number[]>([])),
  }
}

/** True for an address that only this machine can reach. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, '').toLowerCase()
  if (name === 'localhost' || name.endsWith('.localhost')) return true
  const family = isIP(name)
  return family !== 0 && LOOPBACK.check(name, family === 6 ? 'ipv6' : 'ipv4')
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

function checkBind(values: OptionValues): void {
  if ((values.tlsCert === null) !== (values.tlsKey === null)) {
    const [given, missing] = values.tlsCert === null ? ['tls_key', 'cert'] : ['tls_cert', 'key']
    throw new RolltapeError('bad_option', `${given} is given without its other half`, {
      hint: `give --tls-${missing} (tls_${missing}) too`,
    })
  }
  if (values.keysFile !== null || values.insecureBind || isLoopback(values.host)) return
  throw new RolltapeError(
    'bad_option',
    `host ${values.host} is not a loopback address, and clients need no key to use rolltape`,
    {
      hint: 'give clients keys with --keys-file (keys_file), or add --insecure-bind (insecure_bind: true) where everybody who reaches the port may use the upstream',
    },
  )
}

function checkSessions(values: OptionValues): void {
  const fromBody = values.sessionSources.includes('body')
  if (fromBody && values.sessionBodyField === null) {
    throw new RolltapeError('bad_option', 'session_sources holds body, and no field is named', {
      hint: 'give --session-body-field (session_body_field), such as session_id',
    })
  }
  if (!fromBody && values.sessionBodyField !== null) {
    throw new RolltapeError(
      'bad_option',
      `session_body_field ${values.sessionBodyField} is read only where session_sources holds body`,
      { hint: 'give --session-sources path,header,body, or leave the field out' },
    )
  }
}
