/**
 * The control service: one short method per call. What a caller says is checked here, what is done
 * is the target's, how it looks on the wire is `messages.ts`.
 */
import { RolltapeError } from '../errors.ts'
import { effectiveOptions } from '../options/effective.ts'
import {
  drainTimeoutMs,
  fileOf,
  outcomesOf,
  pageOf,
  pathOf,
  pauseOf,
  policyVersionOf,
  scopeOf,
  switchOf,
} from './arguments.ts'
import { Calls } from './calls.ts'
import type { Caller, OnFault } from './calls.ts'
import type {
  ControlServiceServer,
  ExplainRequestRequest,
  ExplainRequestResponse,
  FlushRecordingResponse,
  GetConfigResponse,
  GetStatusResponse,
  ListUpstreamsRequest,
  ListUpstreamsResponse,
  PauseAdmissionRequest,
  PauseAdmissionResponse,
  ReloadConfigResponse,
  ResumeAdmissionRequest,
  ResumeAdmissionResponse,
  RotateRecordingResponse,
  SetModeRequest,
  SetModeResponse,
  SetPolicyVersionRequest,
  SetPolicyVersionResponse,
  ShutdownRequest,
  ShutdownResponse,
  UnloadTapeResponse,
  WatchExchangesRequest,
} from './gen/rolltape/control/v1/control.ts'
import {
  MODE,
  STATE,
  admissionMessage,
  configMessage,
  explainMessage,
  loadedMessage,
  recordingMessage,
  statusMessage,
  switchMessage,
  upstreamMessage,
} from './messages.ts'
import { SessionCalls } from './session-calls.ts'
import { progressTo } from './load-stream.ts'
import type { LoadCall } from './load-stream.ts'
import type { ControlTarget } from './target.ts'
import { relayWatch } from './watch-stream.ts'
import type { WatchCall } from './watch-stream.ts'

/** The service over a target. */
export function controlService(target: ControlTarget, onFault: OnFault): ControlServiceServer {
  const service = new Service(target)
  const sessions = new SessionCalls(target)
  const calls = new Calls(onFault)
  return {
    getStatus: calls.unary(() => service.getStatus()),
    getConfig: calls.unary(() => service.getConfig()),
    listSessions: calls.unary((request) => sessions.listSessions(request)),
    getSession: calls.unary((request) => sessions.getSession(request)),
    closeSession: calls.unary((request, caller) => sessions.closeSession(request, caller)),
    annotateSession: calls.unary((request) => sessions.annotateSession(request)),
    listCursors: calls.unary((request) => sessions.listCursors(request)),
    getCursor: calls.unary((request) => sessions.getCursor(request)),
    seekCursor: calls.unary((request) => sessions.seekCursor(request)),
    resetCursors: calls.unary((request) => sessions.resetCursors(request)),
    forkCursor: calls.unary((request) => sessions.forkCursor(request)),
    reloadConfig: calls.unary(() => service.reloadConfig()),
    setMode: calls.unary((request) => service.setMode(request)),
    loadTape: calls.streaming((call, signal) => service.loadTape(call, signal)),
    unloadTape: calls.unary(() => service.unloadTape()),
    rotateRecording: calls.unary(() => service.rotateRecording()),
    flushRecording: calls.unary((_, { signal }) => service.flushRecording(signal)),
    pauseAdmission: calls.unary((request, caller) => service.pauseAdmission(request, caller)),
    resumeAdmission: calls.unary((request) => service.resumeAdmission(request)),
    setPolicyVersion: calls.unary((request) => service.setPolicyVersion(request)),
    listUpstreams: calls.unary((request) => service.listUpstreams(request)),
    explainRequest: calls.unary((request, { signal }) => service.explainRequest(request, signal)),
    watchExchanges: calls.streaming((call, signal) => service.watchExchanges(call, signal)),
    shutdown: calls.unary((request) => service.shutdown(request)),
  }
}

class Service {
  readonly #target: ControlTarget

  constructor(target: ControlTarget) {
    this.#target = target
  }

  async getStatus(): Promise<GetStatusResponse> {
    return statusMessage(await this.#target.status())
  }

  getConfig(): GetConfigResponse {
    return { entries: effectiveOptions(this.#target.config).map(configMessage) }
  }

  async reloadConfig(): Promise<ReloadConfigResponse> {
    const { changed, generation } = await this.#target.reload()
    return { changedKeys: [...changed], generation }
  }

  async setMode(request: SetModeRequest): Promise<SetModeResponse> {
    return switchMessage(await this.#target.switch(switchOf(request)), request.session)
  }

  async loadTape(call: LoadCall, signal: AbortSignal): Promise<void> {
    const onProgress = progressTo(call)
    const loaded = await this.#target.load(fileOf(call.request.file), { onProgress, signal })
    call.write(loadedMessage(loaded))
  }

  async unloadTape(): Promise<UnloadTapeResponse> {
    const { mode, ...rest } = await this.#target.unload()
    return { ...rest, mode: MODE[mode] }
  }

  async rotateRecording(): Promise<RotateRecordingResponse> {
    const { closed, current } = await this.#target.rotate()
    return { closed: { ...closed }, current: { ...current } }
  }

  async flushRecording(signal: AbortSignal): Promise<FlushRecordingResponse> {
    return { recording: recordingMessage(await this.#target.flush(signal)) }
  }

  async pauseAdmission(
    request: PauseAdmissionRequest,
    caller: Caller,
  ): Promise<PauseAdmissionResponse> {
    const { aborted, ...state } = await this.#target.pause(pauseOf(request), caller)
    return { ...admissionMessage(state), aborted }
  }

  async resumeAdmission({ scope }: ResumeAdmissionRequest): Promise<ResumeAdmissionResponse> {
    return admissionMessage(await this.#target.resume(scope && scopeOf(scope)))
  }

  async setPolicyVersion(request: SetPolicyVersionRequest): Promise<SetPolicyVersionResponse> {
    const policyVersion = policyVersionOf(request.policyVersion)
    const previousPolicyVersion = await this.#target.setPolicyVersion(policyVersion)
    return { policyVersion, previousPolicyVersion }
  }

  async listUpstreams(request: ListUpstreamsRequest): Promise<ListUpstreamsResponse> {
    const all = await this.#target.upstreams()
    const { entries, nextPageToken } = pageOf(all, ({ baseUrl }) => baseUrl, request)
    return { upstreams: entries.map(upstreamMessage), nextPageToken }
  }

  async explainRequest(
    request: ExplainRequestRequest,
    signal: AbortSignal,
  ): Promise<ExplainRequestResponse> {
    const method = request.method || 'POST'
    const path = pathOf(request.path, '/v1/chat/completions')
    return explainMessage(await this.#target.explain({ ...request, method, path }, signal))
  }

  async watchExchanges(call: WatchCall, signal: AbortSignal): Promise<void> {
    const { session, models, outcomes, resumeToken }: WatchExchangesRequest = call.request
    const filter = { session, models: new Set(models), outcomes: outcomesOf(outcomes) }
    if (filter.models.size + filter.outcomes.size > 0 && !this.#target.records) {
      throw new RolltapeError(
        'wrong_state',
        'outcomes and models are told by records, and nothing is recorded',
        { hint: 'watch without them, or start rolltape with --recording-file' },
      )
    }
    const watcher = this.#target.watch(resumeToken)
    const mode = MODE[this.#target.mode]
    try {
      await relayWatch(call, watcher, filter, mode, signal)
    } finally {
      watcher.close()
    }
  }

  shutdown({ drainTimeout }: ShutdownRequest): ShutdownResponse {
    const { inFlight, deadlineMs } = this.#target.shutdown(drainTimeoutMs(drainTimeout))
    return { state: STATE.draining, inFlight, deadline: new Date(deadlineMs) }
  }
}
