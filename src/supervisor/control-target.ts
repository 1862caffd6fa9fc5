/**
 * A running supervisor as the control API steers it: each call's work, bounded and in plain types.
 * How the parts are is asked by `probe.ts`.
 */
import type {
  AdmissionState,
  AskedRequest,
  ControlTarget,
  Counters,
  Loaded,
  PauseAsked,
  RecordingStatus,
  Rotated,
  Status,
  Stopping,
  Unloaded,
  UpstreamStatus,
} from '../control/target.ts'
import type { Caller } from '../control/calls.ts'
import { redactionOf } from '../lane/redaction.ts'
import { RolltapeError } from '../errors.ts'
import { EXPLAINED_AT_ONCE_MAX, FLUSHES_AT_ONCE_MAX, LOADS_AT_ONCE_MAX } from '../limits.ts'
import { forwards, replays } from '../mode.ts'
import type { Mode } from '../mode.ts'
import { rereadConfig } from '../options.ts'
import type { RolltapeConfig } from '../options.ts'
import type { ExplainedRequest } from '../replay/explain-recording.ts'
import { parseAskedBody } from '../replay/explain-recording.ts'
import { keyHead } from '../replay/key.ts'
import type { Responders } from '../responder/responders.ts'
import { version } from '../version.ts'
import type { AnnotationInput } from '../trajectory/annotations.ts'
import type { CursorDesk } from './cursor-desk.ts'
import type { Sessions } from './sessions.ts'
import { barrier } from './barrier.ts'
import type { AdmissionScope } from './admissions.ts'
import { Drains } from './drains.ts'
import { explainAside } from './explain-aside.ts'
import type { Watcher } from './exchange-watch.ts'
import { Probe, upstreamsOf } from './probe.ts'
import type { Reloaded } from './reload.ts'
import type { LoadOptions } from './replay.ts'
import type { CounterName } from './shared.ts'
import type { Supervisor } from './supervisor.ts'
import { TrajectoryDesk } from './trajectory-desk.ts'
import { modesOfAll } from './switching.ts'
import type { Switch, Switched } from './switching.ts'

/** What the target needs of whoever runs the supervisor. */
export interface TargetOwner {
  /** Where clients point their base URL. */
  readonly url: string
  /** Brings everything down; called once. */
  close(drainTimeoutMs: number): void
  /** Another configuration has come into force. */
  onReload?(): void
}

/** Names of the counters that a status tells. */
const COUNTED = [
  'exchanges',
  'refused',
  'tapeRefused',
  'untaped',
  'clientGone',
  'retries',
  'egress',
  'hintsDropped',
] as const satisfies readonly (keyof Counters & CounterName)[]

/** Steers one supervisor. */
export class SupervisorTarget implements ControlTarget {
  readonly #supervisor: Supervisor
  readonly #probe: Probe
  readonly #drains: Drains
  /** What has finished, for trainers. */
  readonly trajectories: TrajectoryDesk
  readonly #owner: TargetOwner
  readonly #startedAtMs = Date.now()
  readonly #sinceMs = performance.now()
  readonly #version = version()
  #flushing = 0
  #explaining = 0
  #loading = 0
  #stopping: { readonly deadlineMs: number } | undefined

  constructor(supervisor: Supervisor, owner: TargetOwner) {
    this.#supervisor = supervisor
    this.#probe = new Probe(supervisor)
    this.#drains = new Drains(supervisor)
    this.trajectories = new TrajectoryDesk(supervisor)
    this.#owner = owner
  }

  get config(): RolltapeConfig {
    return this.#supervisor.config
  }

  get mode(): Mode {
    return this.#supervisor.modes.mode
  }

  get records(): boolean {
    return this.#supervisor.recording !== undefined
  }

  async status(): Promise<Status> {
    const supervisor = this.#supervisor
    const states = await this.#probe.states()
    const recording = await this.#probe.recording(states)
    const serves = supervisor.serves ? 'serving' : 'recovering'
    const { mode, generation } = supervisor.modes
    return {
      version: this.#version,
      startedAtMs: this.#startedAtMs,
      uptimeMs: performance.now() - this.#sinceMs,
      state: this.#stopping === undefined ? serves : 'draining',
      mode,
      generation,
      url: this.#owner.url,
      pid: process.pid,
      lanes: this.#probe.lanes(states),
      capacity: this.#probe.capacity(),
      recording,
      replay: this.#probe.replay(),
      pauses: supervisor.pauses,
      policyVersion: supervisor.policyVersion,
      counters: Object.fromEntries(
        COUNTED.map((name) => [name, supervisor.counter(name)]),
      ) as unknown as Counters,
    }
  }

  get sessions(): Sessions {
    return this.#supervisor.sessions
  }

  get responders(): Responders {
    return this.#supervisor.responders
  }

  get cursors(): CursorDesk {
    return this.#supervisor.cursors
  }

  annotate(input: AnnotationInput): { readonly at: number; readonly file: string } {
    const { recording } = this.#supervisor
    if (recording === undefined) throw this.#nothing('recorded', '--recording-file')
    return { at: recording.annotate(input).at, file: recording.annotationsFile }
  }

  switch(change: Switch): Promise<Switched> {
    return this.#supervisor.switch(change)
  }

  async load(file: string, how: LoadOptions): Promise<Loaded> {
    if (this.#loading >= LOADS_AT_ONCE_MAX) {
      const message = `${LOADS_AT_ONCE_MAX} loads are waiting already, which is the most`
      throw new RolltapeError('over_capacity', message)
    }
    this.#loading++
    try {
      const { generation, mode } = (await this.#supervisor.switch({ replayFile: file }, how)).modes
      return { replay: this.#probe.replay(), mode, generation }
    } finally {
      this.#loading--
    }
  }

  async unload(): Promise<Unloaded> {
    const { replay, modes } = this.#supervisor
    if (replay === undefined) throw this.#nothing('replayed', '--replay-file, or load one')
    const needing = modesOfAll(modes).find(replays)
    if (needing !== undefined) {
      const message = `mode ${needing} is in force and answers from ${replay.file}`
      throw new RolltapeError('wrong_state', message, {
        hint: 'switch the process, and sessions with a mode of their own, before',
      })
    }
    const { generation, mode } = (await this.#supervisor.switch({ replayFile: null })).modes
    return { file: replay.file, mode, generation }
  }

  async rotate(): Promise<Rotated> {
    const { closed, file, part } = await this.#supervisor.rotate()
    const records = (await this.#supervisor.records())?.partLines ?? 0
    return {
      closed: { file: closed.file, records: closed.lines, part: part - 1 },
      current: { file, records, part },
    }
  }

  async flush(signal: AbortSignal): Promise<RecordingStatus> {
    const { recording } = this.#supervisor
    if (recording === undefined) throw this.#nothing('recorded', '--recording-file')
    if (this.#flushing >= FLUSHES_AT_ONCE_MAX) {
      throw new RolltapeError(
        'over_capacity',
        `${FLUSHES_AT_ONCE_MAX} flushes are waiting already, which is the most`,
      )
    }
    this.#flushing++
    try {
      await Promise.race([barrier(this.#supervisor, recording), aborted(signal)])
      const after = await this.#probe.recording(await this.#probe.states())
      if (after === undefined) throw new TypeError('a recording was flushed and is gone')
      return after
    } finally {
      this.#flushing--
    }
  }

  async upstreams(): Promise<readonly UpstreamStatus[]> {
    if (!modesOfAll(this.#supervisor.modes).some(forwards)) {
      throw new RolltapeError(
        'wrong_state',
        'in mode replay no upstream is asked, so there is none',
        {
          hint: 'start with --proxy-base-url, and in another mode',
        },
      )
    }
    return upstreamsOf(await this.#probe.states(), this.#upstreams)
  }

  async explain(asked: AskedRequest, signal: AbortSignal): Promise<ExplainedRequest> {
    const { replay } = this.#supervisor
    if (replay === undefined) throw this.#nothing('replayed', '--replay-file')
    const { file, source } = replay
    const text = Buffer.from(asked.body).toString('utf8')
    const body = parseAskedBody(text === '' ? '{}' : text, 'body')
    if (this.#explaining >= EXPLAINED_AT_ONCE_MAX) {
      throw new RolltapeError(
        'over_capacity',
        `${EXPLAINED_AT_ONCE_MAX} requests are being explained already, which is the most`,
      )
    }
    this.#explaining++
    try {
      const head = keyHead(asked.method, redactionOf(this.config).target(asked.path))
      return await explainAside({ file, head, body, ignore: source.ignore }, signal)
    } finally {
      this.#explaining--
    }
  }

  async pause(
    { policy, scope }: PauseAsked,
    caller: Caller,
  ): Promise<AdmissionState & { readonly aborted: number }> {
    this.#checkUpstream(scope.upstream)
    const rule = { ...scope, policy: policy === 'reject' ? policy : 'hold' } as const
    if (policy === 'drain') this.#drains.check()
    const aborted = await this.#supervisor.pause(rule, policy === 'abort')
    if (policy === 'drain') await this.#drains.wait(rule, caller)
    return { ...(await this.#admission(scope)), aborted }
  }

  async resume(scope: AdmissionScope | undefined): Promise<AdmissionState> {
    await this.#supervisor.resume(scope)
    return this.#admission(scope ?? {})
  }

  setPolicyVersion(version: string): Promise<string> {
    return this.#supervisor.setPolicyVersion(version)
  }

  async reload(): Promise<Reloaded> {
    const reloaded = await this.#supervisor.reload(() => rereadConfig(this.config))
    this.#owner.onReload?.()
    return reloaded
  }

  async #admission(scope: AdmissionScope): Promise<AdmissionState> {
    const [inFlight, states] = await Promise.all([
      this.#supervisor.inFlight(scope),
      this.#probe.states(),
    ])
    const held = states.reduce((sum, state) => sum + (state?.held ?? 0), 0)
    return { pauses: this.#supervisor.pauses, inFlight, held }
  }

  #checkUpstream(asked: string | undefined): void {
    const known = this.#upstreams
    if (asked === undefined || known.includes(asked)) return
    throw new RolltapeError('not_found', `${asked} is no upstream that is configured`, {
      hint: known.length === 0 ? 'none is' : `those are ${known.join(', ')}`,
    })
  }

  /** Base URLs that the configuration names. */
  get #upstreams(): readonly string[] {
    const { proxyBaseUrl, proxyRules } = this.config
    return proxyBaseUrl.length > 0 ? proxyBaseUrl : [...new Set(proxyRules.values())]
  }

  watch(resumeToken: string): Watcher {
    return this.#supervisor.watch.open(resumeToken)
  }

  shutdown(drainTimeoutMs = this.config.drainTimeoutMs): Stopping {
    if (this.#stopping === undefined) {
      this.#stopping = { deadlineMs: Date.now() + drainTimeoutMs }
      this.#owner.close(drainTimeoutMs)
    }
    return { ...this.#stopping, inFlight: this.#supervisor.counter('inFlight') }
  }

  #nothing(what: string, flag: string): RolltapeError {
    const message = `mode is ${this.#supervisor.modes.mode}, and nothing is ${what}`
    return new RolltapeError('wrong_state', message, { hint: `start rolltape with ${flag}` })
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (): void => reject(new RolltapeError('draining', 'nobody waits any more'))
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}
