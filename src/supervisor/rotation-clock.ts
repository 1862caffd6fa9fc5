/** Rotates by size and by age (`rotate_bytes`, `rotate_interval`). */
import { statSync } from 'node:fs'
import { errorText } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import type { RolltapeConfig } from '../options.ts'

/** How often size and age are looked at. */
const LOOK_MS = 1_000

/** What the clock looks at, and what it does. */
export interface RotationClockOptions {
  readonly config: () => RolltapeConfig
  readonly log: LaneLog
  /** The file that is written now; undefined when nothing is recorded. */
  readonly file: () => string | undefined
  readonly rotate: () => Promise<unknown>
}

/** Looks after a recording's size and age. */
export class RotationClock {
  readonly #options: RotationClockOptions
  #timer: NodeJS.Timeout | undefined
  #begunMs = performance.now()
  #rotating = false

  constructor(options: RotationClockOptions) {
    this.#options = options
  }

  /** Begins to look, where the configuration says so. */
  start(): void {
    this.#begunMs = performance.now()
    this.reset()
  }

  /** The configuration may be another one: begins, goes on or ends to look. */
  reset(): void {
    this.stop()
    const { rotateBytes, rotateIntervalMs } = this.#options.config()
    if (rotateBytes === 0 && rotateIntervalMs === 0) return
    this.#timer = setInterval(() => this.look(performance.now()), LOOK_MS)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** A part was begun, whoever asked for it. */
  onRotated(): void {
    this.#begunMs = performance.now()
  }

  /** Rotates when it is due. A part without a record is not closed. */
  look(nowMs: number): void {
    const { file, log, rotate } = this.#options
    const { rotateBytes, rotateIntervalMs } = this.#options.config()
    const path = file()
    if (this.#rotating || path === undefined) return
    const bytes = sizeOf(path)
    const isFull = rotateBytes > 0 && bytes >= rotateBytes
    const ageMs = nowMs - this.#begunMs
    const isOld = rotateIntervalMs > 0 && ageMs >= rotateIntervalMs
    if (bytes === 0 || !(isFull || isOld)) return
    this.#rotating = true
    rotate()
      .catch((error: unknown) => log.error({ err: errorText(error) }, 'the part goes on'))
      .finally(() => (this.#rotating = false))
  }
}

/** Bytes of a file; 0 where nobody can say. */
function sizeOf(path: string): number {
  try {
    return statSync(path).size
  } catch {
    return 0
  }
}
