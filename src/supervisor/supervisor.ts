/**
 * The main thread's part: opens the recording, starts the lanes, watches them, and brings all down
 * in order. It never touches a byte of an exchange.
 */
import { setTimeout } from 'node:timers/promises'
import { RolltapeError, errorText, toRolltapeError } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import { LANE_REPLACE_MS_MAX, LANE_REPLACE_PAUSE_MS, LANE_SILENT_MS_MAX } from '../limits.ts'
import { modesOf, records, replays } from '../mode.ts'
import { packConfig } from '../options.ts'
import type { RolltapeConfig } from '../options.ts'
import { LaneThread } from './lane-thread.ts'
import type { LaneReplay } from '../lane/player.ts'
import type { Verdict } from '../replay/verdict.ts'
import { Recording } from './recording.ts'
import { freeClaims, openReplay, verdictOf } from './replay.ts'
import type { RecoveryReport } from './recording.ts'
import { SharedTables, makeSharedMemory } from './shared.ts'
import type { CounterName } from './shared.ts'

/** So many short lives of lanes in a row are borne in any case. */
const SHORT_LIVES_MAX = 3
/** How often the lanes' beats are looked at. */
const WATCH_MS = 1_000

/** How bringing it down went. */
export interface CloseReport {
  /** Exchanges that the drain deadline cut. */
  readonly cut: number
  /** Records appended since the start. */
  readonly records: number
  /** What could not be written; null when all was. */
  readonly trouble: string | null
  /** How the replay went; undefined when nothing was replayed. */
  readonly verdict: Verdict | undefined
}

/** Rules for lanes that a test may change. */
export interface LaneRules {
  /** The lanes' entry file; one that dies when told, say. */
  readonly entry?: URL
  /** {@link LANE_REPLACE_MS_MAX} unless given. */
  readonly replaceMsMax?: number
}

/** Runs lanes over a recording. */
export class Supervisor {
  readonly #config: RolltapeConfig
  readonly #log: LaneLog
  readonly #rules: LaneRules
  readonly #failed = Promise.withResolvers<RolltapeError>()
  readonly #stopping = new AbortController()
  readonly #tables = new SharedTables(makeSharedMemory())
  #recording: Recording | undefined
  #replay: LaneReplay | undefined
  #lane: LaneThread | undefined
  #watch: NodeJS.Timeout | undefined
  #closing: Promise<CloseReport> | undefined
  #replacing: Promise<void> | undefined
  #port = 0
  #beats = 0
  #beatMs = 0
  #startedMs = 0
  /** Lanes in a row that died soon after their start. */
  #shortLives = 0

  constructor(config: RolltapeConfig, log: LaneLog, rules: LaneRules = {}) {
    this.#config = config
    this.#log = log
    this.#rules = rules
  }

  /** Resolves only if no lane serves any more and none could be started; then close it. */
  get failed(): Promise<RolltapeError> {
    return this.#failed.promise
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#port
  }

  /** What opening the recording found; undefined in `passthrough`. */
  get recovery(): RecoveryReport | undefined {
    return this.#recording?.report
  }

  /** How the replay has gone so far; undefined when nothing is replayed. */
  get verdict(): Verdict | undefined {
    return (
      this.#replay &&
      verdictOf(
        this.#replay,
        (name) => this.counter(name),
        modesOf(this.#config).includes('verify'),
      )
    )
  }

  /** A counter of the lane. */
  counter(name: CounterName): number {
    return this.#tables.counters(0).get(name)
  }

  /** Brings everything up; resolves when requests are served. */
  async start(): Promise<void> {
    const { recordingFile, recordWorkers, onMiss } = this.#config
    const modes = modesOf(this.#config)
    if (recordingFile !== null && modes.some((mode) => records(mode, onMiss))) {
      this.#recording = await Recording.open({
        file: recordingFile,
        tables: this.#tables,
        workers: recordWorkers,
        log: this.#log,
        onTrouble: (message) => this.#log.error({}, message),
      })
      this.#sayRecovery(this.#recording.report)
    }
    try {
      if (modes.some(replays)) this.#replay = await openReplay(this.#config, this.#log)
      await this.#startLane(this.#config.port)
    } catch (error) {
      await this.#recording?.close()
      throw error
    }
    this.#watch = setInterval(() => this.#look(), WATCH_MS)
  }

  /** Drains the lanes, closes the recording. Safe to call twice: the second waits for the first. */
  close(): Promise<CloseReport> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<CloseReport> {
    clearInterval(this.#watch)
    this.#stopping.abort()
    await this.#replacing
    const drained = await this.#lane?.drain(this.#config.drainTimeoutMs)
    const closed = await this.#recording?.close()
    const troubles = [drained?.trouble, closed?.trouble].filter((one) => typeof one === 'string')
    return {
      cut: drained?.cut ?? 0,
      records: closed?.lines ?? 0,
      trouble: troubles.join('; ') || null,
      verdict: this.verdict,
    }
  }

  async #startLane(port: number): Promise<void> {
    const recording = this.#recording
    const lane = await LaneThread.start(
      {
        lane: 0,
        config: packConfig(this.#config),
        memory: this.#tables.memory,
        port,
        reusePort: false,
        replay: this.#replay,
        recording: recording && {
          folder: recording.folder,
          recordingId: recording.recordingId,
          firstSegment: recording.firstSegment(0),
          appender: recording.appender,
        },
      },
      this.#log,
      (reason) => this.#died(reason),
      this.#rules.entry,
    )
    this.#lane = lane
    this.#port = lane.port
    this.#beatMs = performance.now()
    this.#startedMs = this.#beatMs
  }

  /** A lane that has not beaten for five seconds is taken for dead. */
  #look(): void {
    const lane = this.#lane
    const beats = this.counter('beats')
    const nowMs = performance.now()
    if (lane === undefined || beats !== this.#beats) {
      this.#beats = beats
      this.#beatMs = nowMs
    } else if (nowMs - this.#beatMs > LANE_SILENT_MS_MAX) {
      this.#died(`it was silent for ${LANE_SILENT_MS_MAX} ms`, lane)
    }
  }

  /** Its clients have seen a reset; what it taped is recovered, and a new lane takes its place. */
  #died(reason: string, hung?: LaneThread): void {
    if (this.#closing !== undefined) return
    this.#log.error({ port: this.#port }, `a lane died and is replaced: ${reason}`)
    this.#lane = undefined
    const livedMs = performance.now() - this.#startedMs
    this.#shortLives = livedMs < LANE_SILENT_MS_MAX ? this.#shortLives + 1 : 0
    if (this.#replay !== undefined) freeClaims(this.#replay)
    this.#replacing = this.#replace(hung)
  }

  /** Starts a lane on the same port; what takes it may go away, so it is tried for a while. */
  async #replace(hung: LaneThread | undefined): Promise<void> {
    await hung?.terminate()
    const { signal } = this.#stopping
    const triesMs = this.#rules.replaceMsMax ?? LANE_REPLACE_MS_MAX
    const untilMs = performance.now() + triesMs
    let resumed = false
    // A lane that dies as soon as it serves is no better than one that cannot be started.
    if (this.#shortLives > Math.max(SHORT_LIVES_MAX, triesMs / LANE_REPLACE_PAUSE_MS)) {
      return this.#fail(triesMs, new Error('each of them died right after its start'))
    }
    if (this.#shortLives > 1) await this.#pause()
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        if (!resumed) this.#recording?.resume()
        resumed = true
        return await this.#startLane(this.#port)
      } catch (cause) {
        const text = errorText(cause)
        if (tries === 0) this.#log.error({ err: text }, 'no lane serves; it is tried again')
        if (performance.now() >= untilMs) return this.#fail(triesMs, cause)
      }
      await this.#pause()
    }
  }

  async #pause(): Promise<void> {
    const { signal } = this.#stopping
    await setTimeout(LANE_REPLACE_PAUSE_MS, undefined, { signal }).catch(() => undefined)
  }

  #fail(triesMs: number, cause: unknown): void {
    const { code, message, hint } = toRolltapeError(cause)
    const text = `no lane serves, and for ${triesMs / 1_000} s none could be started: ${message}`
    const options = hint === undefined ? { cause } : { cause, hint }
    this.#failed.resolve(new RolltapeError(code, text, options))
  }

  #sayRecovery(report: RecoveryReport): void {
    if (report.isNew || report.recovered + report.tornBytes + report.cutBytes === 0) return
    this.#log.warn({ ...report }, 'the recording was left unfinished; it is whole again')
  }
}
