/** What is compared: how an arm is started in front of the mock upstream, and what is asked of it. */
import type { ChildProcess } from 'node:child_process'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { connect } from 'node:net'

/** Where an arm finds the mock upstream. */
export interface Upstream {
  readonly port: number
  readonly ports: number
}

/** A running arm. */
export interface RunningArm {
  readonly port: number
  readonly ports: number
  /** Its processes, load and mock apart. */
  readonly pids: readonly number[]
  /** More header lines that its requests need, each with its CRLF. */
  readonly headers?: string
  /** It knows no request but those of its load. */
  readonly replays?: true
  /** True for the name of a thread that serves requests. */
  isLane(thread: string): boolean
  /** Records written so far; undefined when the arm records nothing. */
  records(): number | undefined
  stop(): Promise<void>
}

/** An arm that can be started. */
export interface Arm {
  readonly name: string
  /** Why it cannot run here; undefined when it can. */
  missing(): string | undefined
  start(upstream: Upstream): Promise<RunningArm>
}

const START_MS_MAX = 30_000
/** Ports of arms are counted up from here, so that none meets what another has left. */
let lastPort = 9_800

/** A port of 127.0.0.1 that nothing listens on. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = ++lastPort
    if (!(await answers(port))) return port
  }
}

/** Resolves once something listens on a port. */
export async function listens(port: number, child: ChildProcess): Promise<void> {
  const untilMs = performance.now() + START_MS_MAX
  while (performance.now() < untilMs && child.exitCode === null) {
    if (await answers(port)) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(
    child.exitCode === null
      ? `nothing listens on port ${port} after ${START_MS_MAX / 1000} s`
      : `it exited with code ${child.exitCode} before it listened on port ${port}`,
  )
}

/** Ends a process that the bench has started; `pid` where another is to be told than the child. */
export async function stopped(child: ChildProcess, pid = child.pid): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || pid === undefined) return
  const exited = once(child, 'exit')
  process.kill(pid, 'SIGTERM')
  await exited
}

/** Processes that a process has started, and theirs. */
export function childrenOf(pid: number): number[] {
  const all = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))
  const mine = all.map(Number).filter((entry) => parentOf(entry) === pid)
  return mine.flatMap((child) => [child, ...childrenOf(child)])
}

/** Why a program cannot be used; undefined when it can. */
export function missingProgram(name: string, ...args: string[]): string | undefined {
  const found = spawnSync(name, args, { stdio: 'ignore' })
  return found.error === undefined && found.status === 0
    ? undefined
    : `${name} ${args.join(' ')} does not run: use --set-up`
}

/** All threads of an arm serve requests. */
export const everyThread = (): boolean => true
/** The arm records nothing. */
export const noRecords = (): undefined => undefined

function answers(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, '127.0.0.1')
  socket.once('connect', () => {
    socket.destroy()
    resolve(true)
  })
  socket.once('error', () => resolve(false))
  return promise
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return undefined
  }
}
