/**
 * Asks an engine for what it sampled: puts into a request what its profile says, where the client
 * has not asked for it itself, and says what of the answer is then not the client's.
 */
import { RolltapeError } from '../errors.ts'
import { STRIPPED_BODY_BYTES_MAX, STRIPPED_EVENT_BYTES_MAX } from '../limits.ts'
import { PROFILES } from './profiles.ts'
import type { Call, Engine, Injection } from './profiles.ts'
import { ObjectSplice } from './splice.ts'
import type { FieldChange, StripRule, StripSpec, Transform } from './transform.ts'

/** How is captured. */
export interface CaptureRules {
  /** Alternatives per token, 0 for none but the sampled one. */
  readonly topLogprobs: number
  /** What becomes of chat streams of an engine that gives no ids in them. */
  readonly sglangStreams: 'logprobs' | 'error'
}

/** What was asked for. */
export interface Captured {
  readonly transform: Transform
  readonly injected: readonly string[]
  readonly strip: StripSpec | undefined
}

const TRUE = Buffer.from('true')
const INVALID_PAIR = 'the client asks for top_logprobs without logprobs'
/** What is stripped below a place that goes whole needs no rule of its own. */
const WHOLE_LOGPROBS = 'choices/*/logprobs'

/**
 * Asks for tokens in a request that is being spliced.
 * @throws RolltapeError `capture_unavailable` when the engine cannot, and that is to be an error.
 */
export function capture(
  splice: ObjectSplice,
  engine: Exclude<Engine, 'none'>,
  call: Call,
  { topLogprobs, sglangStreams }: CaptureRules,
): Captured {
  const profile = PROFILES[engine]
  const isStream = splice.get('stream')?.toString('latin1') === 'true'
  if (isStream && call === 'chat' && profile.streamLacksIds && sglangStreams === 'error') {
    throw new RolltapeError('capture_unavailable', profile.streamLacksIds, {
      hint: 'ask without stream, or take log-probs alone with --sglang-streams logprobs',
    })
  }
  if (call === 'chat' && isInvalidPair(splice, engine)) {
    return { transform: skippedCapture(engine, INVALID_PAIR), injected: [], strip: undefined }
  }
  const changes: FieldChange[] = []
  const rules: StripRule[] = []
  const added: Injection[] = []
  for (const injection of profile.injections[call][isStream ? 'stream' : 'whole']) {
    const change = inject(splice, injection, topLogprobs)
    if (change === undefined) continue
    changes.push(change)
    rules.push(...injection.strips)
    added.push(injection)
  }
  const takesLogprobs = rules.some(({ path }) => path === WHOLE_LOGPROBS)
  const transform = { name: 'capture' as const, version: 1, profile: nameOf(engine), changes }
  const strip: StripSpec = {
    version: 2,
    rules: rules.filter(({ path }) => !takesLogprobs || !path.startsWith(`${WHOLE_LOGPROBS}/`)),
    dropsEmpty: added.some(({ addsEvents }) => addsEvents === true),
    dropsUsage: added.some(({ value }) => value === 'usage'),
    eventBytesMax: STRIPPED_EVENT_BYTES_MAX,
    bodyBytesMax: STRIPPED_BODY_BYTES_MAX,
  }
  return {
    transform,
    injected: added.map(({ field }) => field),
    strip: added.length === 0 ? undefined : strip,
  }
}

/** Says why nothing was asked for. */
export function skippedCapture(engine: Exclude<Engine, 'none'>, why: string): Transform {
  return { name: 'capture', version: 1, profile: nameOf(engine), skipped: why }
}

/**
 * Alternatives without log-probs are an error, which is the upstream's to tell: log-probs of ours
 * would make them valid. vLLM takes none (0) for valid, OpenAI does not.
 */
function isInvalidPair(splice: ObjectSplice, engine: Engine): boolean {
  const [logprobs, top] = ['logprobs', 'top_logprobs'].map((name) => splice.get(name))
  if (!isUnasked(logprobs?.toString('latin1'))) return false
  const asked = top?.toString('latin1')
  return !isUnasked(asked) && (asked !== '0' || engine === 'openai')
}

/** False is not asked for either, and null is what clients write for nothing. */
function isUnasked(text: string | undefined): boolean {
  return text === undefined || text === 'null' || text === 'false'
}

function nameOf(engine: Exclude<Engine, 'none'>): string {
  return `${engine}/${PROFILES[engine].version}`
}

/** Puts a field in; undefined when the client has. */
function inject(
  splice: ObjectSplice,
  { field, value }: Injection,
  topLogprobs: number,
): FieldChange | undefined {
  const before = splice.get(field)
  const text = before?.toString('latin1')
  if (value === 'usage') return injectUsage(splice, field, before)
  // Whatever else stands there is the upstream's to judge.
  if (!isUnasked(text)) return undefined
  const to = value === 'true' ? true : topLogprobs
  splice.set(field, value === 'true' ? TRUE : Buffer.from(String(topLogprobs)))
  return { field, ...(text === undefined ? {} : { from: parsed(text) }), to }
}

/** `stream_options.include_usage`: without the usage nothing tells whether tokens are missing. */
function injectUsage(
  splice: ObjectSplice,
  field: string,
  before: Buffer | undefined,
): FieldChange | undefined {
  const isAbsent = before === undefined || before.toString('latin1') === 'null'
  const options = ObjectSplice.open(isAbsent ? Buffer.from('{}') : before)
  if (options === undefined) return undefined
  const [usage, each] = ['include_usage', 'continuous_usage_stats'].map(
    (name) => options.get(name)?.toString('latin1') === 'true',
  )
  // With it every event would have its own count, which nobody could tell from the client's.
  if (usage === true || each === true) return undefined
  options.set('include_usage', TRUE)
  const after = options.bytes()
  splice.set(field, after)
  const from = before === undefined ? {} : { from: parsed(before.toString('utf8')) }
  return { field, ...from, to: parsed(after.toString('utf8')) }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
