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
import { packConfig } from '../options.ts'
import type { RolltapeConfig } from '../options.ts'
import { ExchangeWatch } from './exchange-watch.ts'
import type { Verdict } from '../replay/verdict.ts'
import type { LaneQuestion, LaneQuestions } from './lane-questions.ts'
import { Admissions } from './admissions.ts'
import type { AdmissionScope } from './admissions.ts'
import { CursorDesk } from './cursor-desk.ts'
import type { AppenderState } from './appender-thread.ts'
import { Lanes, autoLanes } from './lanes.ts'
import type { LaneRules } from './lanes.ts'
import { OneByOne } from './one-by-one.ts'
import type { Recording, RecoveryReport, Rotation } from './recording.ts'
import { Recordings } from './recordings.ts'
import { RotationClock } from './rotation-clock.ts'
import { Sessions } from './sessions.ts'
import { changesTo, warnOfTrust, type Reloaded } from './reload.ts'
import { Responders } from '../responder/responders.ts'
import { Replaying, openReplay } from './replay.ts'
import type { LoadOptions, Replayed } from './replay.ts'
import { countersOf, makeCounters, WatchFlag } from './shared.ts'
import type { CounterName, LaneCounters } from './shared.ts'
import { TicketTable } from './ticket-table.ts'
import { servingOrder } from './serving-order.ts'
import { changeModes, checkApart, modeOf, modesOfAll } from './switching.ts'
import type { Modes, Switch, Switched } from './switching.ts'

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

/** Runs lanes over a recording. */
export class Supervisor {
  #config: RolltapeConfig
  readonly #log: LaneLog
  readonly #counters = makeCounters()
  readonly tickets = new TicketTable(this.#counters)
  readonly #lanes: Lanes
  readonly #admissions: Admissions
  readonly sessions: Sessions
  /** How far runs have come in the sessions of the recording that is replayed. */
  readonly cursors: CursorDesk
  /** Exchanges as they begin and end. */
  readonly watch = new ExchangeWatch((watched) => {
    new WatchFlag(this.#counters).set(watched)
    this.#recordings.current?.watch(watched)
  })
  #modes: Modes
  readonly #recordings: Recordings
  readonly #clock: RotationClock
  readonly #replaying = new Replaying((name) => this.counter(name))
  /** Requests of upstreams that are responders. */
  readonly responders: Responders
  #responderSocket: string | undefined
  /** Stamped on requests from now on; empty when none was told. */
  #policyVersion = ''
  readonly #switches = new OneByOne()
  /** What is read for a switch; it keeps other switches not waiting. */
  readonly #loads = new OneByOne()
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
        config: packConfig(this.#config),
        counters: this.#counters,
        order: this.#order(lane, true),
        admission: this.#admissions.pauses,
      }),
      beats: (lane) => countersOf(this.#counters, lane).get('beats'),
      onDeath: (lane) => {
        this.tickets.free(lane)
        this.#replaying.freeClaims(lane)
      },
      onWatched: (batch) => this.watch.take(batch),
      onReplace: (lane, alone) => this.#recordings.resume(lane, alone),
    })
    this.#admissions = new Admissions(this.#lanes)
    this.responders = new Responders({ config: () => this.#config, log })
    this.sessions = new Sessions({
      lanes: this.#lanes,
      recording: () => this.#recordings.current,
      overrides: () => this.#modes.overrides,
      clear: (id) => this.switch({ session: { id, own: null } }),
      endWaiting: (id) => this.responders.endSession(id, 'closed'),
      cursorsOf: async (session) => (this.replay ? this.cursors.of(session) : []),
    })
    const source = (): LaneReplay | undefined => this.replay?.source
    this.cursors = new CursorDesk(this.#lanes, source, () => this.#config)
    this.#recordings = new Recordings({
      config,
      log,
      lanes: () => this.#lanes,
      watched: () => this.watch.watched,
      onWatched: (batch) => this.watch.take(batch),
      onSums: (sums) => this.sessions.take(sums),
    })
    this.#clock = new RotationClock({
      config: () => this.#config,
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

  /** The configuration in force. */
  get config(): RolltapeConfig {
    return this.#config
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
    return this.#replaying.verdict(modesOfAll(this.#modes).includes('verify'), this.#config)
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
  get replay(): Replayed | undefined {
    return this.#replaying.now
  }

  /** What last went wrong with the recording; empty when nothing did. */
  get lastTrouble(): string {
    return this.#recordings.lastTrouble
  }

  /** True while at least one lane serves. */
  get serves(): boolean {
    return this.#lanes.serves
  }

  /** Asks one lane, see {@link Lanes.ask}. */
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
        const source = await openReplay(replayFile, this.#config, this.#log)
        this.#replaying.take({ source, file: replayFile })
      }
      this.#responderSocket = await this.responders.socketFor(this.#config)
      await this.#lanes.start(this.#config.port)
    } catch (error) {
      await this.responders.close()
      await this.#recordings.close()
      throw error
    }
    this.#clock.start()
  }

  /**
   * Switches modes, the files they need included. When it resolves, every lane serves what arrives by
   * the new modes. With `load` the replay file is read also where it is loaded already.
   * @throws RolltapeError `generation_conflict`, `mode_unavailable`, `recording_conflict`, or what
   *   opening a file throws, `deadline_passed` when nobody waits for it; then nothing has changed.
   */
  switch(change: Switch, load?: LoadOptions): Promise<Switched> {
    const { replayFile } = change
    if (replayFile === undefined) return this.#switches.run(() => this.#switch(change))
    return this.#loads.run(async () => {
      this.#decide(change)
      const isKnown = load === undefined && replayFile === this.replay?.file
      const source =
        replayFile === null || isKnown
          ? undefined
          : await openReplay(replayFile, this.#config, this.#log, load)
      return this.#switches.run(() => this.#switch(change, source))
    })
  }

  /**
   * Serves by another configuration: exchanges that have arrived keep to theirs. Modes, and what
   * sessions have of their own, stay.
   * @throws RolltapeError `wrong_state`, `mode_unavailable`, or what reading it throws; then
   *   nothing has changed.
   */
  reload(read: () => RolltapeConfig): Promise<Reloaded> {
    return this.#switches.run(async () => {
      const next = read()
      const { changed, concernsPlayers, concernsPolicy } = changesTo(this.#config, next)
      const responderSocket = await this.responders.socketFor(next)
      if (changed.length > 0) this.#modes = this.#decide({}, next)
      if (concernsPolicy) this.#policyVersion = ''
      this.#responderSocket = responderSocket
      this.#config = next
      warnOfTrust(next, this.#log)
      this.#clock.reset()
      if (changed.length > 0) {
        await this.#lanes.askAll('serve', (lane) => this.#order(lane, concernsPlayers))
      }
      return { changed, generation: this.#modes.generation }
    })
  }

  /** The version that requests are stamped with; empty when none was told. */
  get policyVersion(): string {
    return this.#policyVersion
  }

  /** Stamps requests from now on, which every lane does once it resolves; the version before. */
  setPolicyVersion(version: string): Promise<string> {
    return this.#switches.run(async () => {
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
    return this.#switches.run(async () => {
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
    return this.#switches.run(() => this.#admissions.pause(rule, abort))
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
    return this.#switches.run(() => this.#admissions.resume(scope))
  }

  /** Drains the lanes, closes the recording. Safe to call twice: the second waits for the first. */
  close(drainTimeoutMs = this.#config.drainTimeoutMs): Promise<CloseReport> {
    this.#closing ??= this.#close(drainTimeoutMs)
    return this.#closing
  }

  async #close(drainTimeoutMs: number): Promise<CloseReport> {
    this.#clock.stop()
    await this.#switches.close(stopping())
    const drained = await this.#lanes.drain(drainTimeoutMs)
    await this.responders.close()
    const { lines, troubles } = await this.#recordings.close()
    return {
      cut: drained.cut,
      records: lines,
      trouble: [...drained.troubles, ...troubles].join('; ') || null,
      verdict: this.verdict,
    }
  }

  /** The modes after a change; throws where it cannot be had. */
  #decide(change: Switch, config = this.#config): Modes {
    if (this.#closing !== undefined) throw stopping()
    const { recordingFile = this.#recordings.file } = change
    const source = change.replayFile === undefined ? this.replay?.file : change.replayFile
    if (recordingFile !== undefined && source) checkApart(recordingFile, source)
    return changeModes(this.#modes, change, {
      hasRecording: recordingFile !== undefined,
      hasReplay: Boolean(source),
      hasUpstream: config.proxyBaseUrl.length + config.proxyRules.size > 0,
    })
  }

  /** `source` is what `replayFile` holds, where it is to be loaded. */
  async #switch(change: Switch, source?: LaneReplay): Promise<Switched> {
    const before = this.#modes
    const modes = this.#decide(change)
    const { recordingFile, replayFile } = change
    const left =
      recordingFile === undefined || recordingFile === this.#recordings.file
        ? undefined
        : this.#recordings.take(await this.#recordings.open(recordingFile), recordingFile)
    this.#modes = modes
    const isNewReplay = source !== undefined || (replayFile === null && this.replay !== undefined)
    if (isNewReplay)
      this.#replaying.take(source && replayFile ? { source, file: replayFile } : undefined)
    await this.#lanes.askAll('serve', (lane) => this.#order(lane, isNewReplay))
    if (left !== undefined) this.#recordings.leave(left)
    const session = change.session?.id
    return { previousMode: modeOf(before, session), mode: modeOf(modes, session), modes }
  }

  /** How a lane is to serve; with the replay source itself only where it has not got it yet. */
  #order(lane: number, withReplay: boolean): ServingOrder {
    return servingOrder(lane, {
      config: this.#config,
      modes: this.#modes,
      policyVersion: this.#policyVersion,
      responderSocket: this.#responderSocket,
      recording: this.#recordings.current,
      replay: withReplay || this.replay === undefined ? this.replay?.source : 'kept',
    })
  }
}

function stopping(): RolltapeError {
  return new RolltapeError('draining', 'rolltape is shutting down and changes nothing more')
}
