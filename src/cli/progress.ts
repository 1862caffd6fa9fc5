/**
 * A progress bar on stderr: only on a terminal, and only for work that takes over a second.
 */
import { formatBytes } from './table.ts'
import { tell, type Terminal } from './terminal.ts'

const QUIET_MS = 1_000
const BETWEEN_MS = 100
const BAR_WIDTH = 30

/** Shows how far a reading has come. Call `clear` before writing lines, and at the end. */
export class Progress {
  readonly #terminal: Terminal
  readonly #startedAtMs = performance.now()
  #shownAtMs = 0
  #visible = false

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  /** Takes the bytes read and the bytes in all. */
  update(done: number, total: number): void {
    const now = performance.now()
    if (this.#terminal.stderr.isTTY !== true || now - this.#startedAtMs < QUIET_MS) return
    if (now - this.#shownAtMs < BETWEEN_MS || total === 0) return
    this.#shownAtMs = now
    this.#visible = true
    const part = Math.min(1, done / total)
    const bar = '█'.repeat(Math.round(part * BAR_WIDTH)).padEnd(BAR_WIDTH, '░')
    const shown = `${bar} ${Math.floor(part * 100)} %  ${formatBytes(done)} of ${formatBytes(total)}`
    this.#terminal.stderr.write(`\r\u001b[K${shown}`)
  }

  /** Takes the bar off the screen. */
  clear(): void {
    if (!this.#visible) return
    this.#visible = false
    this.#terminal.stderr.write('\r\u001b[K')
  }
}

/** What a reading tells while it goes on. */
export interface ReadingTold {
  readonly onProgress: (done: number, total: number) => void
  /** In one line: something that cannot be read. */
  readonly onTrouble: (line: string) => void
}

/** Does a reading under a progress bar; lines about trouble stand above it. */
export async function withProgress<T>(
  terminal: Terminal,
  read: (told: ReadingTold) => Promise<T>,
): Promise<T> {
  const progress = new Progress(terminal)
  try {
    return await read({
      onProgress: (done, total) => progress.update(done, total),
      onTrouble: (line) => {
        progress.clear()
        tell(terminal, line)
      },
    })
  } finally {
    progress.clear()
  }
}
