/**
 * The certificate of the data port: read at start, and again when one of its files is another, so
 * that a renewed one is used without a restart. One that cannot be read leaves the old in force.
 */
import { readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { RolltapeError, errorText } from '../errors.ts'
import { CERTIFICATE_LOOK_MS } from '../limits.ts'
import type { LaneLog } from './context.ts'

/** Paths of PEM files. */
export interface CertificateFiles {
  readonly cert: string
  readonly key: string
  /** Between two looks at them; default {@link CERTIFICATE_LOOK_MS}. */
  readonly lookMs?: number
}

/** What TLS is spoken with. */
export interface Certificate {
  readonly cert: Buffer
  readonly key: Buffer
}

/**
 * Reads a certificate and its key.
 * @throws RolltapeError `bad_option` when one cannot be read, or they do not belong together.
 */
export function readCertificate({ cert, key }: CertificateFiles): Certificate {
  try {
    const read = { cert: readFileSync(cert), key: readFileSync(key) }
    createSecureContext(read)
    return read
  } catch (cause) {
    const message = `tls_cert ${cert} and tls_key ${key} cannot be used: ${errorText(cause)}`
    throw new RolltapeError('bad_option', message, {
      cause,
      hint: 'give a PEM file with the certificate chain, and one with its key',
    })
  }
}

/**
 * Tells of another certificate than `now` whenever its files change; returns what ends that. What
 * changed since `now` was read is seen too.
 */
export function watchCertificate(
  files: CertificateFiles,
  now: Certificate,
  log: LaneLog,
  onChange: (certificate: Certificate) => void,
): () => void {
  const paths = [files.cert, files.key]
  let inForce = now
  let seen = ''
  let isLooking = false
  const look = async (): Promise<void> => {
    const state = await stateOf(paths)
    if (state === seen) return
    seen = state
    try {
      const found = readCertificate(files)
      if (found.cert.equals(inForce.cert) && found.key.equals(inForce.key)) return
      onChange(found)
      inForce = found
    } catch (error) {
      // Its other half may be on its way: that is a change again.
      log.warn({ err: errorText(error) }, 'the certificate in force stays')
    }
  }
  const timer = setInterval(() => {
    if (isLooking) return
    isLooking = true
    void look().finally(() => (isLooking = false))
  }, files.lookMs ?? CERTIFICATE_LOOK_MS)
  timer.unref()
  return () => clearInterval(timer)
}

/** What tells a file from the one that was there before. */
async function stateOf(paths: readonly string[]): Promise<string> {
  const states = paths.map(async (path) => {
    const { ino, size, mtimeMs, ctimeMs } = await stat(path)
    return `${ino} ${size} ${mtimeMs} ${ctimeMs}`
  })
  const known = await Promise.allSettled(states)
  return known.map((one) => (one.status === 'fulfilled' ? one.value : 'none')).join()
}
