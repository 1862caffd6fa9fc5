/**
 * Processes of this machine whose end is the end of a session. Linux tells when each began, so that
 * another one with the same id is not taken for it; elsewhere only the id is looked at.
 */
import { readFileSync } from 'node:fs'
import { RolltapeError } from '../errors.ts'
import { PROCESSES_WATCHED_MAX, PROCESS_LOOK_MS } from '../limits.ts'

interface Watched {
  readonly pid: number
  readonly began: string
}

/** Watches processes, one per session. */
export class Processes {
  readonly #onGone: (session: string) => void
  readonly #bySession = new Map<string, Watched>()
  #timer: NodeJS.Timeout | undefined

  constructor(onGone: (session: string) => void) {
    this.#onGone = onGone
  }

  /**
   * Watches one, in place of the session's last one; how many are watched now.
   * @throws RolltapeError `not_found`, `over_capacity`.
   */
  watch(session: string, pid: number): number {
    const began = beganAt(pid)
    if (began === undefined) {
      throw new RolltapeError('not_found', `there is no process ${pid} on this machine`, {
        hint: 'give its id as rolltape sees it, or call CloseSession when it ends',
      })
    }
    if (this.#bySession.size >= PROCESSES_WATCHED_MAX && !this.#bySession.has(session)) {
      const message = `${PROCESSES_WATCHED_MAX} processes are watched already, which is the most`
      throw new RolltapeError('over_capacity', message)
    }
    this.#bySession.set(session, { pid, began })
    this.#timer ??= setInterval(() => this.#look(), PROCESS_LOOK_MS).unref()
    return this.#bySession.size
  }

  /** A session is over, its process is watched no longer. */
  forget(session: string): void {
    this.#bySession.delete(session)
  }

  /** Watches none any more. */
  close(): void {
    this.#bySession.clear()
    this.#look()
  }

  #look(): void {
    for (const [session, { pid, began }] of this.#bySession) {
      if (beganAt(pid) === began) continue
      this.#bySession.delete(session)
      this.#onGone(session)
    }
    if (this.#bySession.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

/** When a process began, in words of the system's own; undefined when it has ended. */
function beganAt(pid: number): string | undefined {
  if (process.platform !== 'linux') return isThere(pid) ? '' : undefined
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // It has ended, and whoever started it has not asked how.
  return state === 'Z' || state === 'X' ? undefined : rest[18]
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
