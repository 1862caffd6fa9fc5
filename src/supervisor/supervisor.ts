/**
 * The main thread's part: opens the recording and the replay source, starts the lanes, switches
 * them, and brings all down in order. It never touches a byte of an exchange.
 */
import { RolltapeError } from '../errors.ts'
import type { AdmissionRule } from '../lane/admission.ts'
import type { LaneLog } from '../lane/context.ts'
import type { ServingOrder } from '../lane/parts.ts'
import type { LaneReplay } from '../lane/player.ts'
import { modesOf, records, replays } from '../mode.ts'
import type { Mode } from '../mode.ts'
import { packConfig } from '../options.ts'
import type { RolltapeConfig } from '../options.ts'
import { isSameRecording } from '../options/mode-rules.ts'
import { ExchangeWatch } from './exchange-watch.ts'
import type { Verdict } from '../replay/verdict.ts'
import type { LaneQuestion, LaneQuestions } from './lane-questions.ts'
import { Admissions } from './admissions.ts'
import type { AdmissionScope } from './admissions.ts'
import type { AppenderState } from './appender-thread.ts'
import { Lanes, autoLanes } from './lanes.ts'
import type { LaneRules } from './lanes.ts'
import type { Recording, RecoveryReport, Rotation } from './recording.ts'
import { Recordings } from './recordings.ts'
import { RotationClock } from './rotation-clock.ts'
import { freeClaims, openReplay, verdictOf } from './replay.ts'
import { countersOf, makeCounters, WatchFlag } from './shared.ts'
import type { CounterName, LaneCounters } from './shared.ts'
import { changeModes, endsLive, modeOf, modesOfAll, onMissOf } from './switching.ts'
import type { Means, ModeChange, Modes } from './switching.ts'

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

/** A switch: the modes, and the files they need. */
export interface Switch extends ModeChange {
  /** The recording to answer from; null takes it away. */
  readonly replayFile?: string | null
  /** The file to record to from now on. */
  readonly recordingFile?: string
}

/** What a switch came to. */
export interface Switched {
  /** Of the session, where one was named. */
  readonly previousMode: Mode
  readonly mode: Mode
  readonly modes: Modes
}

/** Runs lanes over a recording. */
export class Supervisor {
  readonly #config: RolltapeConfig
  readonly #log: LaneLog
  readonly #counters = makeCounters()
  readonly #lanes: Lanes
  readonly #admissions: Admissions
  /** Exchanges as they begin and end. */
  readonly watch = new ExchangeWatch((watched) => {
    new WatchFlag(this.#counters).set(watched)
    this.#recordings.current?.watch(watched)
  })
  #modes: Modes
  readonly #recordings: Recordings
  readonly #clock: RotationClock
  #replay: LaneReplay | undefined
  #replayFile: string | undefined
  /** Counters when the replay source was loaded: a verdict is of one source. */
  #base: ReadonlyMap<CounterName, number> = new Map()
  /** Stamped on requests from now on; empty when none was told. */
  #policyVersion = ''
  /** Switches come one after the other. */
  #switching: Promise<unknown> = Promise.resolve()
  #closing: Promise<CloseReport> | undefined

  constructor(config: RolltapeConfig, log: LaneLog, rules: LaneRules = {}) {
    this.#config = config
    this.#log = log
    this.#modes = { generation: 1, mode: config.mode, overrides: config.sessionOverrides }
    this.#lanes = new Lanes({
      count: config.lanes === 'auto' ? autoLanes() : config.lanes,
      log,
      rules,
      dataFor: (lane) => ({
        config: packConfig(config),
        counters: this.#counters,
        order: this.#order(lane, true),
        admission: this.#admissions.pauses,
      }),
      beats: (lane) => countersOf(this.#counters, lane).get('beats'),
      onDeath: (lane) => {
        if (this.#replay) freeClaims(this.#replay, lane)
      },
      onWatched: (batch) => this.watch.take(batch),
      onReplace: (lane, alone) => this.#recordings.current?.resume(lane, alone),
    })
    this.#admissions = new Admissions(this.#lanes)
    this.#recordings = new Recordings({
      config,
      log,
      lanes: () => this.#lanes,
      watched: () => this.watch.watched,
      onWatched: (batch) => this.watch.take(batch),
    })
    this.#clock = new RotationClock({
      config,
      log,
      file: () => this.#recordings.file,
      rotate: () => this.rotate(),
    })
  }

  /** Resolves only if no lane serves any more and none could be started; then close it. */
  get failed(): Promise<RolltapeError> {
    return this.#lanes.failed
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#lanes.port
  }

  /** How many lanes serve. */
  get lanes(): number {
    return this.#lanes.count
  }

  /** How it serves now. */
  get modes(): Modes {
    return this.#modes
  }

  /** What opening the recording found; undefined in `passthrough`. */
  get recovery(): RecoveryReport | undefined {
    return this.#recordings.current?.report
  }

  /** How the replay has gone so far; undefined when nothing is replayed. */
  get verdict(): Verdict | undefined {
    const count = (name: CounterName): number => this.counter(name) - (this.#base.get(name) ?? 0)
    const verifies = modesOfAll(this.#modes).includes('verify') || count('verifiedSame') > 0
    return this.#replay && verdictOf(this.#replay, count, verifies)
  }

  /** The open recording; undefined when nothing is recorded. */
  get recording(): Recording | undefined {
    return this.#recordings.current
  }

  /** How far records are, see {@link Recordings.records}. */
  records(): Promise<AppenderState | undefined> {
    return this.#recordings.records()
  }

  /** The recording that is replayed, and its path; undefined when none is. */
  get replay(): { readonly source: LaneReplay; readonly file: string } | undefined {
    const [source, file] = [this.#replay, this.#replayFile]
    return source && file !== undefined ? { source, file } : undefined
  }

  /** What last went wrong with the recording; empty when nothing did. */
  get lastTrouble(): string {
    return this.#recordings.lastTrouble
  }

  /** True while at least one lane serves. */
  get serves(): boolean {
    return this.#lanes.serves
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
    return this.#lanes.ask(lane, question, asked)
  }

  /** The counters of one lane. */
  laneCounters(lane: number): LaneCounters {
    return countersOf(this.#counters, lane)
  }

  /** A counter, summed over all lanes. */
  counter(name: CounterName): number {
    let sum = 0
    for (let lane = 0; lane < this.#lanes.count; lane++) {
      sum += countersOf(this.#counters, lane).get(name)
    }
    return sum
  }

  /** Brings everything up; resolves when requests are served. */
  async start(): Promise<void> {
    const { recordingFile, replayFile, onMiss } = this.#config
    const modes = modesOf(this.#config)
    try {
      if (recordingFile !== null && modes.some((mode) => records(mode, onMiss))) {
        this.#recordings.take(await this.#recordings.open(recordingFile), recordingFile)
      }
      if (replayFile !== null && modes.some(replays)) {
        this.#replay = await openReplay(replayFile, this.#config, this.#log)
        this.#replayFile = replayFile
      }
      await this.#lanes.start(this.#config.port)
    } catch (error) {
      await this.#recordings.close()
      throw error
    }
    this.#clock.start()
  }

  /**
   * Switches modes, the files they need included. When it resolves, every lane serves every request
   * that arrives by the new modes; exchanges that had arrived keep to theirs.
   * @throws RolltapeError `generation_conflict`, `mode_unavailable`, `recording_conflict`, or what
   *   opening a file throws; then nothing has changed.
   */
  switch(change: Switch): Promise<Switched> {
    return this.#inTurn(() => this.#switch(change))
  }

  /** The version that requests are stamped with; empty when none was told. */
  get policyVersion(): string {
    return this.#policyVersion
  }

  /** Stamps requests from now on, which every lane does once it resolves; the version before. */
  setPolicyVersion(version: string): Promise<string> {
    return this.#inTurn(async () => {
      const before = this.#policyVersion
      this.#policyVersion = version
      await this.#lanes.askAll('serve', (lane) => this.#order(lane, false))
      return before
    })
  }

  /**
   * Closes the part that is written and begins the next: no exchange is lost, none is in both.
   * @throws RolltapeError `wrong_state` when nothing is recorded, `tape_unavailable`.
   */
  rotate(): Promise<Rotation> {
    return this.#inTurn(async () => {
      const rotation = await this.#recordings.rotate()
      this.#clock.onRotated()
      return rotation
    })
  }

  /** The pauses of admission that hold now. */
  get pauses(): readonly AdmissionRule[] {
    return this.#admissions.pauses
  }

  /** Pauses admission, see {@link Admissions.pause}. */
  pause(rule: AdmissionRule, abort: boolean): Promise<number> {
    return this.#inTurn(() => this.#admissions.pause(rule, abort))
  }

  /** How many are in flight, see {@link Admissions.inFlight}. */
  inFlight(scope: AdmissionScope): Promise<number> {
    return this.#admissions.inFlight(scope)
  }

  /** Waits for what is in flight, see {@link Admissions.quiet}. */
  quiet(rule: AdmissionRule): Promise<void> {
    return this.#admissions.quiet(rule)
  }

  /** Takes pauses back, see {@link Admissions.resume}. */
  resume(scope?: AdmissionScope): Promise<void> {
    return this.#inTurn(() => this.#admissions.resume(scope))
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#switching.then(work)
    this.#switching = done.catch(() => undefined)
    return done
  }

  /** Drains the lanes, closes the recording. Safe to call twice: the second waits for the first. */
  close(drainTimeoutMs = this.#config.drainTimeoutMs): Promise<CloseReport> {
    this.#closing ??= this.#close(drainTimeoutMs)
    return this.#closing
  }

  async #close(drainTimeoutMs: number): Promise<CloseReport> {
    this.#clock.stop()
    await this.#switching
    const drained = await this.#lanes.drain(drainTimeoutMs)
    const { lines, troubles } = await this.#recordings.close()
    return {
      cut: drained.cut,
      records: lines,
      trouble: [...drained.troubles, ...troubles].join('; ') || null,
      verdict: this.verdict,
    }
  }

  async #switch(change: Switch): Promise<Switched> {
    if (this.#closing !== undefined) {
      throw new RolltapeError('draining', 'rolltape is shutting down and switches no more')
    }
    const { recordingFile = this.#recordings.file, replayFile } = change
    const source = replayFile === undefined ? this.#replayFile : (replayFile ?? undefined)
    const means: Means = {
      hasRecording: recordingFile !== undefined,
      hasReplay: source !== undefined,
      hasUpstream: this.#config.proxyBaseUrl.length + this.#config.proxyRules.size > 0,
    }
    if (recordingFile !== undefined && source !== undefined) checkApart(recordingFile, source)
    const before = { modes: this.#modes, replay: this.#replay }
    const modes = changeModes(this.#modes, change, means)
    const replay =
      source === this.#replayFile || source === undefined
        ? source && this.#replay
        : await openReplay(source, this.#config, this.#log)
    const left =
      recordingFile === undefined || recordingFile === this.#recordings.file
        ? undefined
        : this.#recordings.take(await this.#recordings.open(recordingFile), recordingFile)
    this.#modes = modes
    if (replay !== before.replay) this.#loaded(replay || undefined, source)
    const isNewReplay = replay !== before.replay
    await this.#lanes.askAll('serve', (lane) => this.#order(lane, isNewReplay))
    if (left !== undefined) this.#recordings.leave(left)
    const session = change.session?.id
    return { previousMode: modeOf(before.modes, session), mode: modeOf(modes, session), modes }
  }

  #loaded(replay: LaneReplay | undefined, file: string | undefined): void {
    this.#replay = replay
    this.#replayFile = file
    const names = ['servedExact', 'servedByRule', 'missed', 'exhausted', 'aborted'] as const
    const more = ['unusable', 'modelMismatch', 'live'] as const
    const verified = ['verifiedSame', 'verifiedDifferent', 'verifiedAlone'] as const
    const all = [...names, ...more, ...verified]
    this.#base = new Map(all.map((name) => [name, this.counter(name)]))
  }

  /** How a lane is to serve; with the replay source itself only where it has not got it yet. */
  #order(lane: number, withReplay: boolean): ServingOrder {
    const { generation, mode, overrides } = this.#modes
    const recording = this.#recordings.current
    return {
      generation,
      mode,
      onMiss: onMissOf(this.#config, { hasRecording: recording !== undefined }),
      endsLive: endsLive(this.#config),
      overrides,
      policyVersion: this.#policyVersion,
      recording: recording && {
        folder: recording.folder,
        recordingId: recording.recordingId,
        firstSegment: recording.firstSegment(lane),
        appender: recording.appender,
        part: recording.part,
        memory: recording.tables.memory,
      },
      replay: withReplay || this.#replay === undefined ? this.#replay : 'kept',
    }
  }
}

function checkApart(recordingFile: string, replayFile: string): void {
  if (!isSameRecording(recordingFile, replayFile)) return
  throw new RolltapeError(
    'recording_conflict',
    `${recordingFile} is recorded to, and it is the recording that ${replayFile} answers from`,
    { hint: 'record into another file, or answer from another recording' },
  )
}
