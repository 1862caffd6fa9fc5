/** The options of credentials and of trust in upstreams: as a caller gives them, and once checked. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { RolltapeError, errorText } from '../errors.ts'
import type { OptionValues } from './definitions.ts'

/** Part of what a library user passes to `startRolltape`. */
export interface SecurityFace {
  /** Authorities that https upstreams are trusted by besides the known ones, a PEM file. */
  readonly upstreamCa?: string
  /** Take any certificate of https upstreams. Default false. */
  readonly upstreamInsecure?: boolean
  /** Headers whose values are not kept, besides those that never are. Default none. */
  readonly redactHeader?: readonly string[]
  /** Query parameters whose values are not kept, besides those that never are. Default none. */
  readonly redactQuery?: readonly string[]
}

/** Certificates of authorities, and the file they came from. */
export interface Authorities {
  readonly file: string
  /** One PEM block each. */
  readonly certificates: readonly string[]
}

/** Part of a configuration. */
export interface SecurityConfig {
  readonly upstreamCa: Authorities | null
  readonly upstreamInsecure: boolean
  /** In lower case, as in the next. */
  readonly redactHeaders: readonly string[]
  readonly redactQuery: readonly string[]
}

/**
 * This part of a configuration.
 * @throws RolltapeError `bad_option` for a file without certificates, or two options of which one
 *   makes the other void.
 */
export function securityConfigOf(values: OptionValues): SecurityConfig {
  const { upstreamCa, upstreamInsecure, redactHeader, redactQuery } = values
  if (upstreamCa !== null && upstreamInsecure) {
    throw new RolltapeError(
      'bad_option',
      'upstream_insecure takes any certificate, and upstream_ca says whose to take',
      { hint: 'leave upstream_insecure out: the authority is enough' },
    )
  }
  return {
    upstreamCa: upstreamCa === null ? null : readAuthorities(upstreamCa),
    upstreamInsecure,
    redactHeaders: redactHeader ?? Object.freeze([]),
    redactQuery: redactQuery ?? Object.freeze([]),
  }
}

const BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

function readAuthorities(file: string): Authorities {
  try {
    const certificates = readFileSync(file, 'latin1').match(BLOCK) ?? []
    if (certificates.length === 0) throw new Error('there is no certificate in it')
    for (const certificate of certificates) void new X509Certificate(certificate)
    return { file, certificates }
  } catch (cause) {
    const message = `upstream_ca ${file} cannot be used: ${errorText(cause)}`
    throw new RolltapeError('bad_option', message, {
      cause,
      hint: 'give a PEM file with the certificates of authorities',
    })
  }
}
