/**
 * The parts a lane serves with, through all its switches: an order comes, parts that stay are kept,
 * new ones are made, and those that no exchange needs any more are ended.
 */
import { errorText } from '../errors.ts'
import { forwards } from '../mode.ts'
import type { Mode, OnMiss } from '../mode.ts'
import { unpackConfig } from '../options.ts'
import type { PackedConfig, RolltapeConfig } from '../options.ts'
import type { SessionOverride } from '../options/overrides.ts'
import { RequestTransforms } from '../transforms/request.ts'
import { Player } from './player.ts'
import type { LaneReplay } from './player.ts'
import { Recorder } from './recorder.ts'
import type { LaneRecording, RecorderOptions } from './recorder.ts'
import { redactionOf } from './redaction.ts'
import type { Serving } from './serving.ts'
import { Upstreams } from './upstreams.ts'

/** How a lane is to serve from now on. */
export interface ServingOrder {
  readonly generation: number
  /** As before unless given; at first, that of the lane. */
  readonly config?: PackedConfig
  readonly mode: Mode
  readonly onMiss: OnMiss
  /** In `hybrid`: what has run out goes live. */
  readonly endsLive: boolean
  readonly overrides: ReadonlyMap<string, SessionOverride>
  readonly policyVersion: string
  /** Unix socket that leads to responders; undefined as long as no upstream is one. */
  readonly responderSocket?: string | undefined
  /** Undefined when nothing is recorded. */
  readonly recording: LaneRecording | undefined
  /** Undefined when nothing is replayed; `kept` when it is the same as before. */
  readonly replay: LaneReplay | 'kept' | undefined
}

/** What making parts needs. */
export type PartsOptions = Omit<RecorderOptions, 'recording'>

/** The parts of one lane. */
export class Parts {
  /** How exchanges that arrive now are served. */
  current: Serving
  readonly #options: PartsOptions
  /** Servings that exchanges still keep to. */
  #past: Serving[] = []
  /** Recorders that are being ended, by folder; what could not be written, or null. */
  readonly #ending = new Map<string, Promise<string | null>>()
  readonly #troubles: string[] = []
  /** Who waits for a sweep that ends something. */
  #swept: (() => void)[] = []

  constructor(options: PartsOptions, order: ServingOrder) {
    this.#options = options
    this.current = this.#make(order, undefined)
  }

  /** Serves by an order from now on: requests that arrive after it is done. */
  async apply(order: ServingOrder): Promise<void> {
    const before = this.current
    const next = this.#make(order, before)
    // The first answer must not wait for its worker to start.
    try {
      if (next.player !== before.player) await next.player?.ready()
    } catch (error) {
      if (next.player !== before.player) this.#close(next.player)
      if (next.upstreams !== before.upstreams) this.#close(next.upstreams)
      if (next.recorder !== before.recorder) await next.recorder?.abandon()
      throw error
    }
    this.current = next
    this.#past.push(before)
    this.sweep()
  }

  /** Ends what nobody needs any more; to be called when an exchange is over. */
  sweep(): void {
    if (this.#past.length === 0) return
    const gone = this.#past.filter((serving) => serving.users === 0)
    this.#past = this.#past.filter((serving) => serving.users > 0)
    if (gone.length === 0) return
    const needed = [this.current, ...this.#past]
    for (const serving of gone) {
      const { recorder, player, upstreams } = serving
      if (!needed.some((one) => one.player === player)) this.#close(player)
      if (!needed.some((one) => one.upstreams === upstreams)) this.#close(upstreams)
      if (recorder && !needed.some((one) => one.recorder === recorder)) this.#end(recorder)
    }
    for (const resolve of this.#swept.splice(0)) resolve()
  }

  /** Resolves once nothing is written to this recording any more. */
  async retired(folder: string): Promise<void> {
    while ([this.current, ...this.#past].some((one) => one.recorder?.folder === folder)) {
      await new Promise<void>((resolve) => this.#swept.push(resolve))
    }
    await this.#ending.get(folder)
  }

  /** The recorders that exchanges write with. */
  get recorders(): ReadonlySet<Recorder> {
    const all = [this.current, ...this.#past].flatMap(({ recorder }) => recorder ?? [])
    return new Set(all)
  }

  /**
   * A barrier: every exchange that was over before has its record.
   * @throws RolltapeError `tape_unavailable` when tape or records cannot be written.
   */
  async flush(): Promise<void> {
    const flushes = [...this.recorders].map((recorder) => recorder.flush())
    await Promise.all([...flushes, ...this.#ending.values()])
  }

  /** Writes and derives everything; what could not be written, or null. */
  async finish(): Promise<string | null> {
    for (const recorder of this.recorders) this.#end(recorder)
    await Promise.all(this.#ending.values())
    return this.#troubles.join('; ') || null
  }

  /** Ends all that is no recorder; recorders too when nothing is to be written any more. */
  async release(isFailed: boolean): Promise<void> {
    const all = [this.current, ...this.#past]
    for (const { player, upstreams, recorder } of all) {
      if (isFailed) await recorder?.abandon()
      await player?.close()
      await upstreams?.close()
    }
  }

  /** Ends a part that nothing is lost with; who it served has gone. */
  #close(part: { close(): Promise<void> } | undefined): void {
    part?.close().catch((error: unknown) => {
      this.#options.log.warn({ err: errorText(error) }, 'a part of the lane did not end in order')
    })
  }

  #end(recorder: Recorder): void {
    const { folder } = recorder
    if (this.#ending.has(folder)) return
    const ending = recorder
      .close()
      .catch(errorText)
      .then((trouble) => {
        if (trouble !== null) this.#troubles.push(trouble)
        return trouble
      })
    this.#ending.set(folder, ending)
  }

  #make(order: ServingOrder, before: Serving | undefined): Serving {
    const { counters, lane } = this.#options
    const kept = before?.config ?? this.#options.config
    const config = order.config === undefined ? kept : unpackConfig(order.config)
    const { generation, mode, onMiss, endsLive, overrides, policyVersion } = order
    const { recording, replay } = order
    const modes = [mode, ...[...overrides.values()].map((own) => own.mode ?? mode)]
    const recorder = before?.recorder
    const records = recorder !== undefined && recorder.folder === recording?.folder
    const upstreams =
      before?.upstreams ?? (modes.some(forwards) ? new Upstreams(config) : undefined)
    if (upstreams) upstreams.responderSocket = order.responderSocket
    return {
      generation,
      config,
      redaction: redactionOf(config),
      tagsJson: JSON.stringify(config.tags),
      rules: { mode, onMiss, endsLive, ...replayRules(config) },
      overrides,
      transforms: RequestTransforms.from(config),
      policyVersion,
      recorder: records ? recorder : recording && this.#record(recording),
      player:
        replay === 'kept' ? before?.player : replay && new Player(replay, config, counters, lane),
      upstreams,
      users: 0,
    }
  }

  #record(recording: LaneRecording): Recorder {
    // A recording that was left and is taken up again writes to segments of its own.
    this.#ending.delete(recording.folder)
    return new Recorder({ ...this.#options, recording })
  }
}

function replayRules({ pace, shape, replayTurns }: RolltapeConfig) {
  return { pace, single: shape === 'single', turnMax: replayTurns ?? Infinity }
}
