/**
 * The state file of a detached rolltape: who runs, where it listens, what it records. One per
 * user unless `--state-file` says otherwise; mode 0600.
 *
 * A state is stale when its process is gone, or when the pid now belongs to another process: then
 * the start time that `/proc/<pid>/stat` tells differs from the one in the file.
 */
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

import { RolltapeError } from '../errors.ts'

/** What is known about a detached rolltape. */
export interface State {
  readonly version: 1
  readonly pid: number
  /** Clock ticks since boot at which the process started; null where the system does not tell. */
  readonly process_start: string | null
  /** ISO 8601. */
  readonly started_at: string
  /** Empty while it is starting. */
  readonly url: string
  /** Where its control API listens; null while it is starting, or when it has none. */
  readonly control: string | null
  /** The file with the token that its control API asks for; null when it asks for none. */
  readonly control_token_file: string | null
  readonly mode: string
  readonly recording_file: string | null
  readonly log_file: string
  readonly drain_timeout_ms: number
}

/** Where the state file is: `--state-file`, `$XDG_RUNTIME_DIR/rolltape`, or `~/.rolltape`. */
export function stateFileOf(
  given: string | null | undefined,
  env: Readonly<Record<string, string | undefined>>,
): string {
  if (given !== null && given !== undefined) return given
  const runtime = env['XDG_RUNTIME_DIR'] ?? ''
  const folder =
    runtime === '' ? join(env['HOME'] ?? homedir(), '.rolltape') : join(runtime, 'rolltape')
  return join(folder, 'state.json')
}

/** Claims the file for a start. Throws `already_running` when a live rolltape holds it. */
export function claimState(file: string, state: State): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const running = readLiveState(file)
    if (running !== undefined) {
      const where = running.url === '' ? 'starting' : `at ${running.url}`
      throw new RolltapeError('already_running', `already running: pid ${running.pid}, ${where}`, {
        hint: '`rolltape stop` ends it; a second one needs its own --state-file',
      })
    }
    try {
      writeFileSync(file, format(state), { mode: 0o600, flag: 'wx' })
      return
    } catch (error) {
      // Somebody was faster: look again at who it is.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
  throw new RolltapeError('already_running', `another start holds ${file}`)
}

/** Replaces a state that `claimState` made; readers see the old or the new one, whole. */
export function writeState(file: string, state: State): void {
  const beside = `${file}.${process.pid}`
  writeFileSync(beside, format(state), { mode: 0o600 })
  chmodSync(beside, 0o600)
  renameSync(beside, file)
}

/** Removes the state file, if it is there. */
export function removeState(file: string): void {
  rmSync(file, { force: true })
}

/** The state of a rolltape that lives; a stale file is removed. Undefined: none runs. */
export function readLiveState(file: string): State | undefined {
  let state: State | undefined
  try {
    state = JSON.parse(readFileSync(file, 'utf8')) as State
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    // Unreadable as JSON: from a start that was killed while it wrote, unless it is younger.
    if (!(error instanceof SyntaxError)) throw error
    if (Date.now() - statSync(file).mtimeMs < 1_000) {
      throw new RolltapeError('already_running', `another start holds ${file}`)
    }
  }
  if (state !== undefined && isAlive(state)) return state
  removeState(file)
  return undefined
}

/** Whether the process of a state still runs, and is the same one. */
export function isAlive(state: Pick<State, 'pid' | 'process_start'>): boolean {
  if (!Number.isSafeInteger(state.pid) || state.pid < 1) return false
  try {
    process.kill(state.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  const seen = readProcess(state.pid)
  if (seen === undefined) return true
  return seen.state !== 'Z' && (state.process_start === null || seen.start === state.process_start)
}

/** Start time of a process in clock ticks since boot, with the boot's id; null if not told. */
export function processStart(pid: number): string | null {
  return readProcess(pid)?.start ?? null
}

function readProcess(pid: number): { state: string; start: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name, in parentheses, may itself hold blanks and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
    return { state: fields[0] ?? '', start: `${boot} ${fields[19] ?? ''}` }
  } catch {
    return undefined
  }
}

function format(state: State): string {
  return `${JSON.stringify(state, null, 2)}\n`
}
