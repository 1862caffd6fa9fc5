/**
 * Writing to stdout no faster than whoever reads it.
 */
import type { Terminal } from './terminal.ts'

/** Waits while the reader of stdout is slower, so that nothing piles up in memory. */
export async function write(terminal: Terminal, data: string | Uint8Array): Promise<void> {
  const { stdout } = terminal
  if (stdout.write(data) !== false || stdout.once === undefined) return
  await new Promise<void>((resolve) => {
    const done = () => {
      terminal.stopping.removeEventListener('abort', done)
      resolve()
    }
    stdout.once?.('drain', done)
    terminal.stopping.addEventListener('abort', done)
  })
}
