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
import type { CertificateFiles } from './certificate.ts'
import { openListener } from './listener.ts'
import type { Listener } from './listener.ts'
import type { Disk } from '../tape/disk.ts'
import { countersOf } from '../supervisor/shared.ts'
import { TicketTable } from '../supervisor/ticket-table.ts'
import type { LaneCounters } from '../supervisor/shared.ts'
import type { WatchBatch } from '../supervisor/watched.ts'
import { Admission } from './admission.ts'
import type { AdmissionRule } from './admission.ts'
import { SessionSums } from '../trajectory/session-sums.ts'
import type { SessionSum } from '../trajectory/session-sums.ts'
import { countOf } from './ending.ts'
import { LiveList } from './live.ts'
import { Parts } from './parts.ts'
import { Refusals } from './refusals.ts'
import type { ServingOrder } from './parts.ts'
import type { Serving } from './serving.ts'
import { LoopGauge } from './state.ts'
import type { LaneState } from './state.ts'
import { Tickets } from './tickets.ts'
import { LaneWatch } from './watch.ts'
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
  /** Memory of all lanes' counters. */
  readonly counters: SharedArrayBuffer
  /** How it serves at first. */
  readonly order: ServingOrder
  /** Pauses that hold when it starts; none unless given. */
  readonly admission?: readonly AdmissionRule[]
  readonly port: number
  readonly reusePort: boolean
  readonly log: LaneLog
  /** Takes what watchers are told. */
  readonly onWatched?: (batch: WatchBatch) => void
  readonly disk?: Disk
  readonly random?: () => number
}

/** Which part of which recording comes next. */
export interface PartOrder {
  /** The recording's tape folder. */
  readonly folder: string
  readonly part: number
}

/** How a lane is to admit requests from now on. */
export interface AdmissionOrder {
  readonly rules: readonly AdmissionRule[]
  /** What is in flight under this one is cancelled. */
  readonly abort?: AdmissionRule
}

/** How a drain went. */
export interface DrainReport {
  /** Exchanges that had to be cut because the deadline came. */
  readonly cut: number
  /** What could not be written to the tape; null when all was. */
  readonly trouble: string | null
}

/** Somebody who waits for these to end. */
interface Drain {
  left: readonly Exchange[]
  readonly isOver: (exchange: Exchange) => boolean
  resolve(): void
}

/** A running lane. */
export class Lane implements LaneContext {
  readonly counters: LaneCounters
  readonly wheel: Wheel
  readonly blocks = new BlockPool()
  readonly pacer: Wheel
  readonly log: LaneLog
  draining = false
  readonly admission: Admission
  readonly tickets: Tickets
  readonly refusals = new Refusals()
  readonly #parts: Parts
  readonly #live = new LiveList<Exchange>()
  readonly #random: () => number
  readonly #beat: NodeJS.Timeout
  readonly #loop = new LoopGauge()
  readonly #watch: LaneWatch
  #listener: Listener | undefined
  /** Sessions of exchanges that are not recorded; the appender knows the others. */
  readonly #sessions = new SessionSums()
  /** Who waits for exchanges to end. */
  readonly #drains = new Set<Drain>()
  #onQuiet: (() => void) | undefined

  private constructor(options: LaneOptions) {
    const { lane, config, log, disk } = options
    this.counters = countersOf(options.counters, lane)
    this.log = log
    this.admission = new Admission(options.admission ?? [])
    this.#watch = new LaneWatch(options.onWatched, options)
    const onVoid = (seq: number): void => this.#watch.onVoid(seq)
    const parts = { lane, config, counters: this.counters, log, disk, onVoid }
    this.#parts = new Parts(parts, options.order)
    this.pacer = new Wheel(PACE_TICK_MS, () => undefined)
    this.#random = options.random ?? Math.random
    this.wheel = new Wheel(TICK_MS, () => {
      for (const { writer } of this.#parts.recorders) writer.submit()
      this.#watchDisk()
      this.#lookAtDrains()
    })
    const table = new TicketTable(options.counters)
    this.tickets = new Tickets(table, lane, this.wheel, () => this.serving.config)
    this.#beat = setInterval(() => {
      this.counters.add('beats')
      this.#watchDisk()
      this.#lookAtDrains()
      this.#loop.beat(this.counters)
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
        tls: tlsOf(options.config),
        log: options.log,
        isReady: () => !lane.draining,
        headMsMax: options.config.clientHeaderTimeoutMs,
        onRequest: (req, res) => {
          const exchange = new Exchange(lane, req, res)
          lane.#live.add(exchange)
          exchange.serving.users++
          lane.counters.set('inFlight', lane.#live.size)
          lane.counters.add('exchanges')
          exchange.accept(lane.draining ? new RolltapeError('draining', DRAINING) : undefined)
          if (lane.#live.has(exchange)) lane.#watch.onBegin(exchange, res)
        },
      })
    } catch (error) {
      await lane.#release(true)
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
    return {
      inFlight: this.inFlight,
      draining: this.draining,
      held: this.admission.held,
      queued: this.tickets.waiting,
      upstreams: this.serving.upstreams?.tally.all ?? [],
      tape: this.serving.recorder?.state,
    }
  }

  /** The last batch for watchers has been taken. */
  onWatchedTaken(): void {
    this.#watch.onTaken()
  }

  /**
   * A barrier: what was over before has its record.
   * @throws RolltapeError `tape_unavailable` when tape or records cannot be written.
   */
  async flush(): Promise<void> {
    await this.#parts.flush()
  }

  /** How requests that arrive now are served. */
  get serving(): Serving {
    return this.#parts.current
  }

  /**
   * Serves by another order; when it resolves, every request that arrives is served by it.
   * Exchanges that have arrived before keep to theirs.
   */
  serve(order: ServingOrder): Promise<void> {
    return this.#parts.apply(order)
  }

  /**
   * Admits by these rules from now on. With `abort`, what has gone to an upstream under one of them
   * is ended, told so and recorded; the number of those exchanges.
   */
  admit({ rules, abort }: AdmissionOrder): number {
    this.admission.apply(rules)
    if (abort === undefined) return 0
    const error = new RolltapeError('aborted', 'an operator has cancelled what was in flight')
    const under = this.#under(abort)
    for (const exchange of under) exchange.cancel(error)
    return under.length
  }

  /** How many have gone to an upstream under this rule and are not over. */
  countUnder(rule: AdmissionRule): number {
    return this.#under(rule).length
  }

  /** Resolves once what has gone to an upstream under this rule before now has ended. */
  quiet(rule: AdmissionRule): Promise<void> {
    return this.#ended(this.#under(rule), (exchange) => exchange.isOver)
  }

  /** How many exchanges of this session are not closed. */
  countOfSession(session: string): number {
    return this.#ofSession(session).length
  }

  /** Resolves once the exchanges of this session are closed: a barrier has their records then. */
  sessionQuiet(session: string): Promise<void> {
    return this.#ended(this.#ofSession(session), (exchange) => !this.#live.has(exchange))
  }

  /** Those that are only refused leave nothing behind, and do not count. */
  #ofSession(session: string): Exchange[] {
    return this.#live
      .all()
      .filter(
        ({ arrival, isOver, taping }) =>
          arrival.hasSession && arrival.session === session && !(isOver && taping === undefined),
      )
  }

  #ended(left: readonly Exchange[], isOver: Drain['isOver']): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#drains.add({ left, isOver, resolve })
    this.#lookAtDrains()
    return promise
  }

  /** Ends the part of a recording, see {@link Recorder.endPart}. */
  async endPart({ folder, part }: PartOrder): Promise<void> {
    for (const recorder of this.#parts.recorders) {
      if (recorder.folder === folder) await recorder.endPart(part)
    }
  }

  /** The next part of a recording has begun. */
  beginPart(folder: string): void {
    for (const recorder of this.#parts.recorders) {
      if (recorder.folder === folder) recorder.beginPart()
    }
  }

  /** What sessions come to by exchanges that are not recorded, since this was asked last. */
  takeSessionSums(): SessionSum[] {
    return this.#sessions.take()
  }

  /** Resolves once the lane writes nothing to this recording any more. */
  retired(folder: string): Promise<void> {
    return this.#parts.retired(folder)
  }

  random(): number {
    return this.#random()
  }

  onClosed(exchange: Exchange): void {
    if (!this.#live.delete(exchange)) return
    exchange.serving.users--
    if (exchange.arrival.ticket) this.tickets.give(exchange.arrival.ticket)
    if (exchange.taping === undefined) this.#sessions.add(countOf(exchange))
    this.#lookAtDrains()
    this.#parts.sweep()
    this.counters.set('inFlight', this.#live.size)
    this.#watch.onClosed(exchange)
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
    const draining = new RolltapeError('draining', 'rolltape is shutting down')
    for (const exchange of this.#live.all()) exchange.cancel(draining)
    // What was cut still commits its END; a disk that hangs may not hold the process.
    await this.#quiet(this.serving.config.commitTimeoutMs || timeoutMs)
    this.#listener?.closeAll()
    await closed
    const trouble = await this.#parts.finish()
    await this.#release(false)
    return { cut, trouble }
  }

  /** A slow reader's exchange is over long before it is closed, so this is looked at by time too. */
  #lookAtDrains(): void {
    for (const drain of this.#drains) {
      drain.left = drain.left.filter((exchange) => !drain.isOver(exchange))
      if (drain.left.length > 0) continue
      this.#drains.delete(drain)
      drain.resolve()
    }
  }

  #under(rule: AdmissionRule): Exchange[] {
    return this.#live.all().filter((exchange) => !exchange.isOver && exchange.isUnder(rule))
  }

  #watchDisk(): void {
    const nowMs = performance.now()
    const { commitTimeoutMs } = this.serving.config
    for (const { writer } of this.#parts.recorders) writer.watch(nowMs, commitTimeoutMs)
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

  async #release(isFailed: boolean): Promise<void> {
    clearInterval(this.#beat)
    this.#loop.close()
    this.wheel.stop()
    this.pacer.stop()
    await this.#parts.release(isFailed)
  }
}

function tlsOf({ tlsCert, tlsKey }: RolltapeConfig): CertificateFiles | undefined {
  return tlsCert === null || tlsKey === null ? undefined : { cert: tlsCert, key: tlsKey }
}
