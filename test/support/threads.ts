/** This process's threads, as the kernel tells of them (proc_pid_stat(5)). */
import { readFileSync, readdirSync } from 'node:fs'

/** One of them. */
export interface KernelThread {
  readonly id: string
  readonly name: string
  /** Niceness. */
  readonly nice: number
}

/** All there are; one that ends while it is looked at is none. */
export function kernelThreads(): KernelThread[] {
  return readdirSync('/proc/self/task').flatMap((id) => {
    const stat = statOf(id)
    if (stat === undefined) return []
    const end = stat.lastIndexOf(')')
    const name = stat.slice(stat.indexOf('(') + 1, end)
    // Field 19; the first two are cut off.
    return [{ id, name, nice: Number(stat.slice(end + 2).split(' ')[16]) }]
  })
}

function statOf(id: string): string | undefined {
  try {
    return readFileSync(`/proc/self/task/${id}/stat`, 'utf8')
  } catch {
    return undefined
  }
}
