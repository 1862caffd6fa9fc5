/**
 * What a command has in hand: streams, variables, and the signal to stop. Commands return an exit
 * code and never exit themselves, so tests run them in-process.
 */
import { errorText, RolltapeError } from '../errors.ts'

/** A stream that a command writes to. */
export interface Output {
  /** False when it would rather not get more before `drain`. */
  write(text: string | Uint8Array): unknown
  once?(event: 'drain', listener: () => void): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

/** The surroundings of one command. */
export interface Terminal {
  /** Results only: what a script would read. */
  readonly stdout: Output
  /** All else: progress, errors. */
  readonly stderr: Output
  /** The command line, without executable and script. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly stopping: AbortSignal
  /** Calls a listener at each SIGHUP, which from then on does not end the process. */
  readonly onHangup?: (listener: () => void) => void
  /** How this program is started again: executable, its options, script. */
  readonly self: readonly string[]
}

/** Exit codes of all commands. */
export const EXIT = { done: 0, failed: 1, misused: 2 } as const

/** Writes one line to stdout. */
export function say(terminal: Terminal, line: string): void {
  terminal.stdout.write(`${line}\n`)
}

/** Writes one line to stderr. */
export function tell(terminal: Terminal, line: string): void {
  terminal.stderr.write(`${line}\n`)
}

/** Tells what went wrong, in one line and a hint, and gives the exit code for it. */
export function report(terminal: Terminal, error: unknown): number {
  if (!(error instanceof RolltapeError)) {
    tell(terminal, `rolltape: ${errorText(error)}`)
    return EXIT.failed
  }
  const hint = error.hint === undefined ? '' : ` (${error.hint})`
  tell(terminal, `rolltape: ${error.message}${hint}`)
  const misused = ['bad_option', 'config_unreadable', 'recording_conflict'].includes(error.code)
  return misused ? EXIT.misused : EXIT.failed
}

/** Text from elsewhere made harmless: control characters, which could steer a terminal, show. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- they are what this is about
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (character) => {
    const code = character.codePointAt(0) ?? 0
    return `\\x${code.toString(16).padStart(2, '0')}`
  })
}
