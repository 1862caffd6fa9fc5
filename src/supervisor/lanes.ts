/**
 * All lanes: started on one port, watched, asked and drained together. Several of them share the
 * port by SO_REUSEPORT, which hashes connections over them and does not balance; connections that
 * wait to be accepted by a lane that dies are lost with it.
 */
import { availableParallelism } from 'node:os'
import { RolltapeError, toRolltapeError } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import { LANE_REPLACE_MS_MAX } from '../limits.ts'
import type { LaneQuestion, LaneQuestions } from './lane-questions.ts'
import { LaneSeat } from './lane-seat.ts'
import type { LaneWorkerData } from './lane-thread.ts'
import type { WatchBatch } from './watched.ts'

/** How often the lanes' beats are looked at. */
const WATCH_MS = 1_000

/** Rules for lanes that a test may change. */
export interface LaneRules {
  /** The lanes' entry file; one that dies when told, say. */
  readonly entry?: URL
  /** {@link LANE_REPLACE_MS_MAX} unless given. */
  readonly replaceMsMax?: number
}

/** What lanes are made from. */
export interface LanesOptions {
  readonly count: number
  readonly log: LaneLog
  readonly rules: LaneRules
  /** What a lane that starts now is started with. */
  readonly dataFor: (lane: number) => Omit<LaneWorkerData, 'lane' | 'port' | 'reusePort'>
  readonly beats: (lane: number) => number
  /** A lane has died: what it held is free again. */
  readonly onDeath: (lane: number) => void
  /** Takes what watchers are told. */
  readonly onWatched: (batch: WatchBatch) => void
  /** A lane that died gets a successor; `alone` when it is the only one there is. */
  readonly onReplace: (lane: number, alone: boolean) => void
}

/** How a drain of all lanes went. */
export interface LanesReport {
  readonly cut: number
  readonly troubles: readonly string[]
}

/** How many lanes `auto` means here: a core is left for the workers. */
export function autoLanes(): number {
  return Math.max(1, availableParallelism() - 1)
}

/** Runs lanes. */
export class Lanes {
  readonly #options: LanesOptions
  readonly #failed = Promise.withResolvers<RolltapeError>()
  #seats: readonly LaneSeat[] = []
  #watch: NodeJS.Timeout | undefined

  constructor(options: LanesOptions) {
    this.#options = options
  }

  /** Resolves only if no lane serves any more and none could be started. */
  get failed(): Promise<RolltapeError> {
    return this.#failed.promise
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#seats[0]?.port ?? 0
  }

  /** How many there are. */
  get count(): number {
    return this.#seats.length
  }

  /**
   * Starts them all; resolves when they serve.
   * @throws RolltapeError `listen_failed`, or what else kept the first lane from starting.
   */
  async start(port: number): Promise<void> {
    const { count, log } = this.#options
    const first = this.#seat(0, count > 1)
    await first.start(port)
    const others = Array.from({ length: count - 1 }, (_, i) => this.#seat(i + 1, true))
    this.#seats = [first, ...others]
    try {
      await Promise.all(others.map((seat) => seat.start(first.port)))
    } catch (cause) {
      const { message } = toRolltapeError(cause)
      if (first.port !== 0 && !isUnshared(message)) {
        await this.drain(0)
        throw cause
      }
      log.warn({ err: message }, 'this system does not share a port; one lane serves')
      await Promise.all(others.map((seat) => seat.drain(0)))
      this.#seats = [first]
    }
    this.#watch = setInterval(() => {
      for (const seat of this.#seats) seat.look()
    }, WATCH_MS)
  }

  /**
   * Asks every lane; the answers by lane.
   * @throws RolltapeError `lane_lost`, or what a lane says.
   */
  askAll<Q extends LaneQuestion>(
    question: Q,
    asked: (lane: number) => LaneQuestions[Q]['asked'],
  ): Promise<LaneQuestions[Q]['answered'][]> {
    return Promise.all(this.#seats.map((seat, lane) => seat.ask(question, asked(lane))))
  }

  /**
   * Asks one lane, or who comes after it.
   * @throws RolltapeError `lane_lost`, or what the lane says.
   */
  ask<Q extends LaneQuestion>(
    lane: number,
    question: Q,
    asked: LaneQuestions[Q]['asked'],
  ): Promise<LaneQuestions[Q]['answered']> {
    const seat = this.#seats[lane]
    if (seat === undefined) throw new TypeError(`there is no lane ${lane}`)
    return seat.ask(question, asked)
  }

  /** True while at least one serves. */
  get serves(): boolean {
    return this.#seats.some((seat) => seat.serves)
  }

  /** Drains them all. */
  async drain(timeoutMs: number): Promise<LanesReport> {
    clearInterval(this.#watch)
    const reports = await Promise.all(this.#seats.map((seat) => seat.drain(timeoutMs)))
    return {
      cut: reports.reduce((sum, report) => sum + (report?.cut ?? 0), 0),
      troubles: reports.flatMap((report) => report?.trouble ?? []),
    }
  }

  #seat(lane: number, reusePort: boolean): LaneSeat {
    const { log, rules, dataFor, beats, onDeath, onReplace, onWatched } = this.#options
    return new LaneSeat({
      lane,
      log,
      entry: rules.entry,
      replaceMsMax: rules.replaceMsMax ?? LANE_REPLACE_MS_MAX,
      dataFor: (port) => ({ ...dataFor(lane), lane, port, reusePort }),
      beats: () => beats(lane),
      onDeath: () => onDeath(lane),
      onWatched,
      onReplace: () => onReplace(lane, this.#seats.length === 1),
      onGivenUp: (cause) => this.#givenUp(lane, cause),
    })
  }

  #givenUp(lane: number, cause: unknown): boolean {
    const { log, rules } = this.#options
    const { code, message, hint } = toRolltapeError(cause)
    if (this.#seats.some((seat) => seat.serves)) {
      log.error({ lane, err: message }, 'the lane cannot be replaced; the others serve on')
      return true
    }
    const seconds = (rules.replaceMsMax ?? LANE_REPLACE_MS_MAX) / 1_000
    const text = `no lane serves, and for ${seconds} s none could be started: ${message}`
    const options = hint === undefined ? { cause } : { cause, hint }
    this.#failed.resolve(new RolltapeError(code, text, options))
    return false
  }
}

/** What systems say that know no SO_REUSEPORT. */
function isUnshared(message: string): boolean {
  return /ENOTSUP|EOPNOTSUPP|ENOPROTOOPT|EINVAL/.test(message)
}
