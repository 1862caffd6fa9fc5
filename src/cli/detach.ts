/**
 * `serve --detach`: starts the same command line in a process of its own, waits until `/readyz`
 * answers at the address it really has, and leaves a state file for `status` and `stop`.
 *
 * The child's stdout is a pipe for its ready line; its stderr goes to a log file beside the state.
 */
import { get as getInClear } from 'node:http'
import { get as getSecurely } from 'node:https'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'

import { errorText, RolltapeError } from '../errors.ts'
import type { RolltapeConfig } from '../options.ts'
import { formatReadyLine, parseReadyLine, type ReadyLine } from './ready-line.ts'
import {
  claimState,
  processStart,
  removeState,
  stateFileOf,
  writeState,
  type State,
} from './state.ts'
import { EXIT, say, tell, type Terminal } from './terminal.ts'

/** Between two looks at `/readyz`. */
const POLL_MS = 50

/** One look at `/readyz`; a rolltape that does not answer in this time is not ready. */
const PROBE_MS_MAX = 2_000

/** A start that takes longer has failed; recovery of a long tape is the slowest part of one. */
const START_MS_MAX = 120_000

/** Starts in the background. Throws `already_running`; 1 when the child does not become ready. */
export async function detach(config: RolltapeConfig, terminal: Terminal): Promise<number> {
  const file = resolve(stateFileOf(config.stateFile, terminal.env))
  const logFile = `${file.replace(/\.json$/, '')}.log`
  const state: State = {
    version: 1,
    pid: process.pid,
    process_start: processStart(process.pid),
    started_at: new Date().toISOString(),
    url: '',
    control: null,
    control_token_file: config.controlTokenFile === null ? null : resolve(config.controlTokenFile),
    mode: config.mode,
    recording_file: config.recordingFile === null ? null : resolve(config.recordingFile),
    log_file: logFile,
    drain_timeout_ms: config.drainTimeoutMs,
  }
  claimState(file, state)
  let child: ChildProcess | undefined
  try {
    child = start(logFile, terminal)
    const ready = await becomeReady(child, terminal.stopping)
    const pid = child.pid ?? 0
    const control = ready.control === undefined ? null : absolute(ready.control)
    writeState(file, { ...state, ...ready, control, pid, process_start: processStart(pid) })
    child.stdout?.destroy()
    child.unref()
    say(terminal, formatReadyLine(ready))
    tell(terminal, `rolltape runs in the background: pid ${pid}, log ${logFile}`)
    return EXIT.done
  } catch (error) {
    if (child?.exitCode === null) child.kill('SIGKILL')
    removeState(file)
    tell(terminal, `rolltape: did not start: ${reasonOf(error)}`)
    const log = tail(logFile)
    if (log !== '') tell(terminal, log)
    return EXIT.failed
  }
}

/** Asks `/readyz` once. */
export async function isReady(url: string, signal?: AbortSignal): Promise<boolean> {
  const timeout = AbortSignal.timeout(PROBE_MS_MAX)
  try {
    const asked = new URL('/readyz', reachable(url))
    const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout])
    return (await statusOf(asked, either)) === 200
  } catch {
    return false
  }
}

/** Whose certificate it is does not matter: this asks whether a process of ours is up. */
function statusOf(url: URL, signal: AbortSignal): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const get = url.protocol === 'https:' ? getSecurely : getInClear
    const asked = get(url, { signal, rejectUnauthorized: false, agent: false }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode))
    })
    asked.once('error', reject)
  })
}

/** An address that leads to the same place from any folder. */
function absolute(address: string): string {
  return address.startsWith('unix:') ? `unix:${resolve(address.slice('unix:'.length))}` : address
}

/** A URL that can be asked: "all addresses" is where one listens, not where one connects. */
function reachable(url: string): string {
  return url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:')
}

function start(logFile: string, terminal: Terminal): ChildProcess {
  const argv = terminal.argv.filter((word) => word !== '--detach')
  const [executable = process.execPath, ...before] = terminal.self
  mkdirSync(dirname(logFile), { recursive: true, mode: 0o700 })
  const log = openSync(logFile, 'w', 0o600)
  try {
    return spawn(executable, [...before, ...argv], {
      detached: true,
      stdio: ['ignore', 'pipe', log],
      env: terminal.env as NodeJS.ProcessEnv,
    })
  } finally {
    closeSync(log)
  }
}

async function becomeReady(child: ChildProcess, stopping: AbortSignal): Promise<ReadyLine> {
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, stopping, AbortSignal.timeout(START_MS_MAX)])
  const gone = once(child, 'exit', { signal }).then(([code, by]) => {
    throw new RolltapeError('not_running', `it ended with ${by ?? `code ${code}`}`)
  })
  const ready = (async () => {
    const line = await firstLine(child.stdout, signal)
    const parsed = parseReadyLine(line)
    if (parsed === undefined) throw new RolltapeError('not_running', `it said ${line}`)
    while (!(await isReady(parsed.url, signal))) await wait(POLL_MS, undefined, { signal })
    return parsed
  })()
  try {
    return await Promise.race([ready, gone])
  } finally {
    over.abort()
    await Promise.allSettled([ready, gone])
  }
}

async function firstLine(output: Readable | null, signal: AbortSignal): Promise<string> {
  if (output === null) throw new TypeError('the child has no stdout')
  const lines = createInterface({ input: output })
  try {
    const [line] = (await once(lines, 'line', { signal })) as [string]
    return line
  } finally {
    lines.close()
  }
}

function reasonOf(error: unknown): string {
  return error instanceof RolltapeError ? error.message : errorText(error)
}

function tail(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim().split('\n').slice(-10).join('\n')
  } catch {
    return ''
  }
}
