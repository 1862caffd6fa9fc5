/**
 * What becomes of a request before it goes upstream, in this order: the model is replaced, the
 * token limit gets the name that the model wants, it is capped, thinking is switched off, and what
 * makes the engine tell its tokens is put in. So later rules see the model that is really used.
 *
 * Pure: a body in, a plan out. Chat and completions alone are touched, and only where something of
 * this is configured. A body that is no JSON object passes as it is, and the plan says so.
 */
import { capture, skippedCapture } from './capture.ts'
import type { CaptureRules } from './capture.ts'
import type { Call, Engine } from './profiles.ts'
import { ObjectSplice } from './splice.ts'
import type { FieldChange, StripSpec, Transform } from './transform.ts'

/** What is configured. */
export interface TransformOptions {
  readonly modelOverride: string | null
  /** Models, by the part behind their last `/`, that want `max_completion_tokens`; `*` is any text. */
  readonly maxCompletionTokens: readonly string[]
  readonly maxTokensCap: number | null
  readonly disableThinking: boolean
  /** By base URL; `default` stands for the others. */
  readonly engines: ReadonlyMap<string, Engine>
  readonly topLogprobs: number
  readonly sglangStreams: 'logprobs' | 'error'
}

/** A request, as far as transforms look at it. */
export interface PlannedRequest {
  readonly call: Call
  /** Base URL of the upstream. */
  readonly base: string
  readonly body: Buffer
  /** It goes to a tape, so tokens are worth asking for. */
  readonly isRecorded: boolean
  /** Why this upstream is not asked for the tokens of this model; undefined when it is. */
  readonly refusal: (model: string) => string | undefined
}

/** What is to be sent, and what was done to it. */
export interface RequestPlan {
  readonly body: Buffer
  /** The very same where nothing was changed. */
  readonly clientBody: Buffer
  readonly transforms: readonly Transform[]
  /** The model that is asked for, empty where none is named. */
  readonly model: string
  /** Fields that were put in for the sake of tokens; none when the engine is not asked for them. */
  readonly injected: readonly string[]
  /** What of the answer goes; undefined when nothing does. */
  readonly strip: StripSpec | undefined
}

const NOT_AN_OBJECT = 'the body is no JSON object'

/** The transforms of one configuration. */
export class RequestTransforms {
  readonly #options: TransformOptions
  readonly #wants: readonly RegExp[]
  readonly #captures: CaptureRules

  private constructor(options: TransformOptions) {
    this.#options = options
    this.#wants = options.maxCompletionTokens.map(globOf)
    this.#captures = options
  }

  /** Undefined when nothing is to be changed, ever. */
  static from(options: TransformOptions): RequestTransforms | undefined {
    const { modelOverride, maxCompletionTokens, maxTokensCap, disableThinking, engines } = options
    const isIdle =
      modelOverride === null &&
      maxCompletionTokens.length === 0 &&
      maxTokensCap === null &&
      !disableThinking &&
      [...engines.values()].every((engine) => engine === 'none')
    return isIdle ? undefined : new RequestTransforms(options)
  }

  /** The model that is asked for in place of any other; null when the client's is. */
  get model(): string | null {
    return this.#options.modelOverride
  }

  /**
   * What is to be sent; undefined when that is what the client has sent, and there is nothing to
   * say about it.
   * @throws RolltapeError `capture_unavailable`.
   */
  plan(request: PlannedRequest): RequestPlan | undefined {
    const { body, call, base, isRecorded } = request
    const engine = isRecorded ? engineOf(this.#options.engines, base) : 'none'
    const splice = ObjectSplice.open(body)
    if (splice === undefined) {
      const transforms = this.#skipped(engine)
      if (transforms.length === 0) return undefined
      return { body, clientBody: body, transforms, model: '', injected: [], strip: undefined }
    }
    const transforms = this.#rules(splice)
    const model = textOf(splice.get('model')) ?? ''
    const refusal = engine === 'none' ? undefined : request.refusal(model)
    const captured =
      engine === 'none'
        ? undefined
        : refusal === undefined
          ? capture(splice, engine, call, this.#captures)
          : { transform: skippedCapture(engine, refusal), injected: [], strip: undefined }
    if (captured !== undefined) transforms.push(captured.transform)
    if (transforms.length === 0) return undefined
    const { injected = [], strip } = captured ?? {}
    return { body: splice.bytes(), clientBody: body, transforms, model, injected, strip }
  }

  #rules(splice: ObjectSplice): Transform[] {
    const { modelOverride, maxTokensCap, disableThinking } = this.#options
    const all: [Transform['name'], FieldChange[]][] = [
      ['model_override', modelOverride === null ? [] : overrideModel(splice, modelOverride)],
      ['max_completion_tokens', renameLimit(splice, this.#wants)],
      ['max_tokens_cap', maxTokensCap === null ? [] : capTokens(splice, maxTokensCap)],
      ['disable_thinking', disableThinking ? stopThinking(splice) : []],
    ]
    return all.flatMap(([name, changes]) =>
      changes.length === 0 ? [] : [{ name, version: 1, changes }],
    )
  }

  /** All that would have been done to an object. */
  #skipped(engine: Engine): Transform[] {
    const { modelOverride, maxTokensCap, disableThinking } = this.#options
    const names: [Transform['name'], boolean][] = [
      ['model_override', modelOverride !== null],
      ['max_completion_tokens', this.#wants.length > 0],
      ['max_tokens_cap', maxTokensCap !== null],
      ['disable_thinking', disableThinking],
    ]
    const skipped: Transform[] = names.flatMap(([name, isOn]) =>
      isOn ? [{ name, version: 1, skipped: NOT_AN_OBJECT }] : [],
    )
    return engine === 'none' ? skipped : [...skipped, skippedCapture(engine, NOT_AN_OBJECT)]
  }
}

/** The captured call that a request is; undefined for any other. */
export function callOf(method: string, path: string): Call | undefined {
  if (method !== 'POST') return undefined
  const end = path.length > 1 && path.endsWith('/') ? path.length - 1 : path.length
  if (path.endsWith('/chat/completions', end)) return 'chat'
  return path.endsWith('/completions', end) ? 'completions' : undefined
}

function engineOf(engines: ReadonlyMap<string, Engine>, base: string): Engine {
  return engines.get(base) ?? engines.get('default') ?? 'none'
}

function overrideModel(splice: ObjectSplice, model: string): FieldChange[] {
  const before = splice.get('model')
  if (textOf(before) === model) return []
  splice.set('model', Buffer.from(JSON.stringify(model)))
  return [{ field: 'model', ...fromOf(before), to: model }]
}

/** `max_tokens` under its newer name, for models that want that, unless it is there too. */
function renameLimit(splice: ObjectSplice, wants: readonly RegExp[]): FieldChange[] {
  const model = textOf(splice.get('model'))
  if (model === undefined || wants.length === 0) return []
  const name = model.slice(model.lastIndexOf('/') + 1)
  const limit = splice.get('max_tokens')
  const newer = splice.get('max_completion_tokens')
  if (limit === undefined || !wants.some((glob) => glob.test(name))) return []
  if (newer !== undefined && !isNull(newer)) return []
  if (newer !== undefined) splice.remove('max_completion_tokens')
  splice.rename('max_tokens', 'max_completion_tokens')
  return [
    { field: 'max_tokens', ...fromOf(limit) },
    { field: 'max_completion_tokens', ...fromOf(newer), to: valueOf(limit) },
  ]
}

/** What is absent stays absent. */
function capTokens(splice: ObjectSplice, cap: number): FieldChange[] {
  return ['max_tokens', 'max_completion_tokens'].flatMap((field) => {
    const before = splice.get(field)
    const value = before === undefined ? undefined : valueOf(before)
    if (typeof value !== 'number' || value <= cap) return []
    splice.set(field, Buffer.from(String(cap)))
    return [{ field, from: value, to: cap }]
  })
}

function stopThinking(splice: ObjectSplice): FieldChange[] {
  const field = 'chat_template_kwargs'
  const before = splice.get(field)
  const inner = ObjectSplice.open(
    before === undefined || isNull(before) ? Buffer.from('{}') : before,
  )
  if (inner === undefined || inner.get('enable_thinking') !== undefined) return []
  inner.set('enable_thinking', Buffer.from('false'))
  const after = inner.bytes()
  splice.set(field, after)
  return [{ field, ...fromOf(before), to: valueOf(after) }]
}

function fromOf(value: Buffer | undefined): { from?: unknown } {
  return value === undefined ? {} : { from: valueOf(value) }
}

/** A value as it is told of; what is no JSON is told as text. */
function valueOf(value: Buffer): unknown {
  const text = value.toString('utf8')
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}

function textOf(value: Buffer | undefined): string | undefined {
  const text = value === undefined ? undefined : valueOf(value)
  return typeof text === 'string' && value?.[0] === 0x22 ? text : undefined
}

function isNull(value: Buffer): boolean {
  return value.toString('latin1') === 'null'
}

function globOf(glob: string): RegExp {
  const parts = glob.split('*').map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 's')
}
