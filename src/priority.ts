/**
 * Threads that make way: where cores are short, traffic goes before what can be done later. The
 * tape is the queue, so a thread that gets less of a core only falls behind, and costs no memory.
 */
import { readlinkSync } from 'node:fs'
import { setPriority } from 'node:os'

/** A thread of this niceness gets a tenth of a core that another one could use all of. */
const NICENESS = 10

/** A thread of this niceness gets what nobody else wants. */
export const LOWEST = 19

/**
 * Lowers the calling thread's share of cores that others want too. Linux alone has priorities by
 * thread; elsewhere, and where /proc cannot be read, nothing changes.
 */
export function makeWay(niceness = NICENESS): void {
  if (process.platform !== 'linux') return
  try {
    const thread = Number(readlinkSync('/proc/thread-self').split('/').at(-1))
    setPriority(thread, niceness)
  } catch {
    // It runs as it is.
  }
}
