/**
 * The certificate of the data port: read at start, and again when one of its files is another, so
 * that a renewed one is used without a restart. One that cannot be read leaves the old in force.
 */
import { readFileSync, unwatchFile, watchFile } from 'node:fs'
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

/** Tells of another certificate whenever its files change; returns what ends that. */
export function watchCertificate(
  files: CertificateFiles,
  log: LaneLog,
  onChange: (certificate: Certificate) => void,
): () => void {
  const look = (): void => {
    try {
      onChange(readCertificate(files))
    } catch (error) {
      // Its other half may be on its way: that is a change again.
      log.warn({ err: errorText(error) }, 'the certificate in force stays')
    }
  }
  const paths = [files.cert, files.key]
  const options = { interval: files.lookMs ?? CERTIFICATE_LOOK_MS, persistent: false }
  for (const path of paths) watchFile(path, options, look)
  return () => paths.forEach((path) => unwatchFile(path, look))
}
