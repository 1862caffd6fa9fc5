/**
 * One lane: a thread's worth of data plane, composed. Listener → exchange → forward and relay →
 * tape writer → derive queue, and nothing shared with other lanes but the tables of
 * `supervisor/shared.ts`. Started by `workers/lane.ts`; a test may start one in its own thread.
 */
import { RolltapeError } from '../errors.ts'
import type { RolltapeConfig } from '../options.ts'
import { BlockPool } from './taping.ts'
import type { LaneContext, LaneLog } from './context.ts'
import { Exchange } from './exchange.ts'
import { forwards, modesOf } from '../mode.ts'
import { openListener } from './listener.ts'
import type { Listener } from './listener.ts'
import type { Disk } from '../tape/disk.ts'
import { SharedTables } from '../supervisor/shared.ts'
import type { LaneCounters } from '../supervisor/shared.ts'
import { Player } from './player.ts'
import type { LaneReplay } from './player.ts'
import { Recorder } from './recorder.ts'
import type { LaneRecording } from './recorder.ts'
import type { Serving } from './serving.ts'
import { Upstreams } from './upstreams.ts'
import { Wheel } from './wheel.ts'

/** Resolution of all deadlines, and how long a full block waits for its write at most. */
const TICK_MS = 20
/** Resolution of paced replays. */
const PACE_TICK_MS = 2
/** A lane beats every second. */
const BEAT_MS = 1_000

const DRAINING = 'rolltape is shutting down and takes no new requests'

/** What a lane is made from. */
export interface LaneOptions {
  readonly lane: number
  readonly config: RolltapeConfig
  readonly tables: SharedTables
  /** Undefined in `passthrough`. */
  readonly recording: LaneRecording | undefined
  /** Undefined unless answers are replayed. */
  readonly replay?: LaneReplay | undefined
  readonly port: number
  readonly reusePort: boolean
  readonly log: LaneLog
  readonly disk?: Disk
  readonly random?: () => number
}

/** How a drain went. */
export interface DrainReport {
  /** Exchanges that had to be cut because the deadline came. */
  readonly cut: number
  /** What could not be written to the tape; null when all was. */
  readonly trouble: string | null
}

/** How a lane is. */
export interface LaneState {
  /** Exchanges that are not over. */
  readonly inFlight: number
  readonly draining: boolean
}

/** A running lane. */
export class Lane implements LaneContext {
  readonly config: RolltapeConfig
  readonly tables: SharedTables
  readonly counters: LaneCounters
  readonly wheel: Wheel
  readonly blocks = new BlockPool()
  readonly serving: Serving
  readonly pacer: Wheel
  readonly log: LaneLog
  readonly tagsJson: string
  draining = false
  readonly #live = new Set<Exchange>()
  readonly #random: () => number
  readonly #beat: NodeJS.Timeout
  #listener: Listener | undefined
  #onQuiet: (() => void) | undefined

  private constructor(options: LaneOptions) {
    const { config, log } = options
    this.config = config
    this.tables = options.tables
    this.counters = options.tables.counters(options.lane)
    this.log = log
    this.tagsJson = JSON.stringify(config.tags)
    this.serving = serve(options, this.counters)
    this.pacer = new Wheel(PACE_TICK_MS, () => undefined)
    this.#random = options.random ?? Math.random
    this.wheel = new Wheel(TICK_MS, () => {
      this.serving.recorder?.writer.submit()
      this.#watchDisk()
    })
    this.#beat = setInterval(() => {
      this.counters.add('beats')
      this.#watchDisk()
    }, BEAT_MS)
  }

  /** Opens the lane's listener and starts serving. */
  static async start(options: LaneOptions): Promise<Lane> {
    const lane = new Lane(options)
    try {
      await lane.serving.player?.ready()
      lane.#listener = await openListener({
        host: options.config.host,
        port: options.port,
        reusePort: options.reusePort,
        isReady: () => !lane.draining,
        onRequest: (req, res) => {
          const exchange = new Exchange(lane, req, res)
          lane.#live.add(exchange)
          lane.counters.set('inFlight', lane.#live.size)
          lane.counters.add('exchanges')
          if (lane.draining) exchange.refuse(new RolltapeError('draining', DRAINING))
          else exchange.accept()
        },
      })
    } catch (error) {
      await lane.serving.recorder?.abandon()
      await lane.#release()
      throw error
    }
    return lane
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#listener?.port ?? 0
  }

  /** Exchanges that are not over. */
  get inFlight(): number {
    return this.#live.size
  }

  /** How the lane is. */
  get state(): LaneState {
    return { inFlight: this.inFlight, draining: this.draining }
  }

  random(): number {
    return this.#random()
  }

  onClosed(exchange: Exchange): void {
    this.#live.delete(exchange)
    this.counters.set('inFlight', this.#live.size)
    if (!this.draining) return
    this.#listener?.closeIdle()
    if (this.#live.size === 0) this.#onQuiet?.()
  }

  /**
   * Takes no new work, lets what runs finish until the deadline, cuts the rest with a recorded
   * outcome, writes and derives everything, and ends.
   */
  async drain(timeoutMs: number): Promise<DrainReport> {
    this.draining = true
    const closed = this.#listener?.close()
    this.#listener?.closeIdle()
    await this.#quiet(timeoutMs)
    const cut = this.#live.size
    for (const exchange of this.#live) exchange.cancel()
    // What was cut still commits its END; a disk that hangs may not hold the process.
    await this.#quiet(this.config.commitTimeoutMs || timeoutMs)
    this.#listener?.closeAll()
    await closed
    const trouble = (await this.serving.recorder?.close()) ?? null
    await this.#release()
    return { cut, trouble }
  }

  #watchDisk(): void {
    this.serving.recorder?.writer.watch(performance.now(), this.config.commitTimeoutMs)
  }

  #quiet(timeoutMs: number): Promise<void> {
    if (this.#live.size === 0) return Promise.resolve()
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, timeoutMs)
    this.#onQuiet = resolve
    return promise.finally(() => {
      clearTimeout(timer)
      this.#onQuiet = undefined
    })
  }

  async #release(): Promise<void> {
    clearInterval(this.#beat)
    this.wheel.stop()
    this.pacer.stop()
    await this.serving.player?.close()
    await this.serving.upstreams?.close()
  }
}

/** The parts that serve, each made only if some mode needs it. */
function serve(options: LaneOptions, counters: LaneCounters): Serving {
  const { lane, config, tables, recording, replay, log, disk } = options
  const { mode, onMiss, pace, shape, replayTurns, sessionOverrides: overrides } = config
  const upstreams = modesOf(config).some(forwards)
    ? new Upstreams(config.connectTimeoutMs)
    : undefined
  return {
    generation: 1,
    rules: { mode, onMiss, pace, single: shape === 'single', turnMax: replayTurns ?? Infinity },
    overrides,
    recorder: recording && new Recorder({ lane, config, tables, counters, recording, log, disk }),
    player: replay && new Player(replay, config, counters),
    upstreams,
  }
}
