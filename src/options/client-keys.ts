/**
 * The keys that clients must hold: a file with one line per key, its name, the SHA-256 of the key in
 * hex, and what the ids of its sessions begin with (nothing: any session). The keys themselves are in
 * no file of ours.
 *
 *   # name   sha256 of the key                                                  sessions
 *   trainer  9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
 *   agents   60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752  sessions=rollout-
 */
import { readFileSync } from 'node:fs'
import { RolltapeError, errorText } from '../errors.ts'
import { CLIENT_KEYS_MAX } from '../limits.ts'

/** One key. */
export interface ClientKey {
  readonly name: string
  /** SHA-256 of the key, in lower-case hex. */
  readonly digest: string
  /** What ids of its sessions begin with; empty for any. */
  readonly sessions: string
}

/** All keys of a file. */
export interface ClientKeys {
  readonly file: string
  readonly keys: readonly ClientKey[]
}

const LINE = /^(\S+)\s+([0-9a-f]{64})(?:\s+sessions=(\S+))?$/i

/**
 * Reads a file of keys.
 * @throws RolltapeError `bad_option`, with the line that is none.
 */
export function readClientKeys(file: string): ClientKeys {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    throw refusal(file, `cannot be read: ${errorText(cause)}`)
  }
  const keys = text.split('\n').flatMap((line, n) => parseLine(file, line.trim(), n + 1))
  if (keys.length === 0) throw refusal(file, 'has no key in it, so nobody could come in')
  if (keys.length > CLIENT_KEYS_MAX) {
    throw refusal(file, `has ${keys.length} keys, and ${CLIENT_KEYS_MAX} is the most`)
  }
  return { file, keys }
}

function parseLine(file: string, line: string, n: number): ClientKey[] {
  if (line === '' || line.startsWith('#')) return []
  const [, name, digest, sessions = ''] = LINE.exec(line) ?? []
  if (name !== undefined && digest !== undefined) {
    return [{ name, digest: digest.toLowerCase(), sessions }]
  }
  throw refusal(
    file,
    `has no key in line ${n}: a line is a name, 64 hex digits, and perhaps sessions=<prefix>`,
    'make the digits with: printf %s "$KEY" | sha256sum',
  )
}

function refusal(file: string, why: string, hint?: string): RolltapeError {
  const message = `keys_file ${file} ${why}`
  return new RolltapeError('bad_option', message, hint === undefined ? {} : { hint })
}
