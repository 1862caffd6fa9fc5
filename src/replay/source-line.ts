/**
 * One line of a replay source, whoever wrote it, in one form: what was asked, what came of it, and
 * what there is to answer with. Read by the index when it is built, and by the play worker.
 *
 * Three kinds of lines are told apart by their keys:
 *
 *   {"model","stream","status",…,"error","schema":"rolltape.record/1","id",…}      ours
 *   {"model","stream","status","response_time",…,"request","response","error"}      nine keys
 *   {"turn":1,"request":{…},"response":{…},"logprobs":[…],"latency_s":0.8,…}        turn lines
 *
 * Turn lines that `rolltape export` wrote have `"recorder":"rolltape"`: their request is what the
 * client sent, and they tell whether the answer is whole.
 */
import { RECORD_SCHEMA } from '../trajectory/record.ts'
import type { Outcome, Protocol } from '../trajectory/record.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { isObject, objectAt, textAt, type JsonObject } from '../wire/json.ts'
import { protocolOf } from '../wire/protocol.ts'
import type { Json } from './canonical.ts'

/** What there is to answer with when the tape is not asked. */
export type LineResponse =
  /** The value under this key of the line, as it stands there. */
  | { readonly kind: 'member'; readonly path: readonly string[] }
  /** An error that the line tells only the status of. */
  | { readonly kind: 'error' }
  /** An answer without a body. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'none'; readonly why: string }

/** One exchange as a line tells it. */
export interface SourceLine {
  readonly writer: 'rolltape' | 'nine-keys' | 'turns'
  readonly method: string
  /** With its query, without a session prefix. */
  readonly target: string
  readonly protocol: Protocol
  readonly session: string
  /** Undefined where lines are not numbered: then their order is what counts. */
  readonly seq: number | undefined
  readonly turn: number
  readonly isGeneration: boolean
  readonly model: string | null
  /** What was asked, without what its recorder put in; undefined when nothing is known of it. */
  readonly request: Json | undefined
  /** SHA-256 of the request's bytes in hex. */
  readonly digest: string | undefined
  /** The answer was a stream, or asked to be one. */
  readonly isStream: boolean
  /** HTTP status; null when the answer never had a head. */
  readonly status: number | null
  readonly outcome: Outcome
  /** The answer is not whole. */
  readonly isCut: boolean
  readonly response: LineResponse
  /** µs from the request's arrival to the answer's head and its end. */
  readonly headUs: number
  readonly endUs: number
}

const OWN_SCHEMAS = 'rolltape.record/'

/** Path of a line that names none: other recorders know just the one. */
const DEFAULT_PATH = '/v1/chat/completions'

/** Spellings of other recorders, in the order they are looked for. */
const SPELLINGS = {
  request: ['request', 'request_body'],
  response: ['response', 'response_body'],
  turn: ['turn', 'turn_index', 'turn_idx', 'step'],
  session: ['session', 'session_id', 'rollout_id'],
  seconds: ['response_time', 'latency_s', 'latency', 'duration_s'],
} as const

/** Reads a line; a text says why it is none that can be replayed. */
export function readSourceLine(record: StoredRecord): SourceLine | string {
  const line = record as unknown as JsonObject
  const schema: unknown = line['schema']
  if (schema === RECORD_SCHEMA) return readOwn(record)
  if (typeof schema === 'string' && schema.startsWith(OWN_SCHEMAS)) {
    return `has the schema ${JSON.stringify(schema.slice(0, 80))}, and this rolltape reads ${RECORD_SCHEMA}`
  }
  const requestKey = spelled(line, 'request')
  const responseKey = spelled(line, 'response')
  if (requestKey === undefined && responseKey === undefined) {
    return 'has neither a request nor a response'
  }
  const turn = spelled(line, 'turn')
  const isTurn = turn !== undefined && typeof line['status'] !== 'string'
  return readOther(line, { isTurn, requestKey, responseKey })
}

function spelled(line: JsonObject, what: keyof typeof SPELLINGS): string | undefined {
  return SPELLINGS[what].find((key) => Object.hasOwn(line, key))
}

function readOwn(record: StoredRecord): SourceLine {
  const method = record.method ?? 'POST'
  const target = record.path ?? DEFAULT_PATH
  const outcome = record.outcome ?? 'complete'
  const status = record.http_status ?? null
  return {
    writer: 'rolltape',
    method,
    target,
    protocol: record.protocol ?? protocolOf(method, target),
    session: record.session ?? 'default',
    seq: record.seq,
    turn: record.turn ?? 0,
    isGeneration: record.turn !== null && record.turn !== undefined,
    model: record.model,
    request: (record.request ?? undefined) as Json | undefined,
    digest: record.sha256?.request,
    isStream: record.stream,
    status,
    outcome,
    isCut: record.partial === true,
    response: ownResponse(record, method, status),
    headUs: Math.round((record.timings?.ttfb_ms ?? 0) * 1000),
    endUs: Math.round((record.timings?.duration_ms ?? 0) * 1000),
  }
}

function ownResponse(record: StoredRecord, method: string, status: number | null): LineResponse {
  if (status === null) return { kind: 'none', why: 'it ended before it had an answer' }
  if (record.response !== null) return { kind: 'member', path: ['response'] }
  if (method === 'HEAD' || status === 204 || status === 304) return { kind: 'empty' }
  if (status >= 400) return { kind: 'error' }
  return { kind: 'none', why: 'its answer is on the tape alone, and there is no tape' }
}

function readOther(
  line: JsonObject,
  keys: {
    readonly isTurn: boolean
    readonly requestKey: string | undefined
    readonly responseKey: string | undefined
  },
): SourceLine {
  const { isTurn, requestKey, responseKey } = keys
  const target = textAt(line, 'path') ?? DEFAULT_PATH
  const method = textAt(line, 'method') ?? 'POST'
  const protocol = protocolOf(method, target)
  const asked = requestKey === undefined ? undefined : line[requestKey]
  const isOurs = isTurn && line['recorder'] === 'rolltape'
  const request = isTurn && !isOurs && isObject(asked) ? withoutCapture(asked) : asked
  const fields = isObject(asked) ? asked : {}
  const turn = line[spelled(line, 'turn') ?? '']
  const session = line[spelled(line, 'session') ?? '']
  const endUs = secondsOf(line) * 1_000_000
  const answer = isTurn
    ? turnAnswer(line, responseKey, protocol)
    : nineKeyAnswer(line, responseKey, protocol)
  return {
    writer: isTurn ? 'turns' : 'nine-keys',
    method,
    target,
    protocol,
    session: typeof session === 'string' && session !== '' ? session : 'default',
    seq: undefined,
    turn: typeof turn === 'number' ? turn : 0,
    isGeneration: protocol !== 'raw',
    model: textAt(line, 'model') ?? textAt(fields, 'model'),
    request: (request ?? undefined) as Json | undefined,
    digest: undefined,
    isStream: fields['stream'] === true || line['stream'] === true,
    headUs: endUs,
    endUs,
    ...answer,
    ...(isOurs && line['partial'] === true
      ? { isCut: true, outcome: (textAt(line, 'outcome') ?? 'truncated') as Outcome }
      : { outcome: answer.isCut ? 'truncated' : 'complete' }),
  }
}

/**
 * Such recorders ask for log-probs on the agent's behalf and write down the request as it went
 * on; what they put in is no part of what the agent asks.
 */
function withoutCapture(request: JsonObject): JsonObject {
  if (request['logprobs'] !== true) return request
  const { logprobs: _logprobs, top_logprobs: _top, ...rest } = request
  return rest
}

function secondsOf(line: JsonObject): number {
  const seconds = line[spelled(line, 'seconds') ?? '']
  return typeof seconds === 'number' && seconds >= 0 ? seconds : 0
}

type OtherAnswer = Pick<SourceLine, 'status' | 'isCut' | 'response'>

/** `status`, `error` and `response` say together what there is. */
function nineKeyAnswer(line: JsonObject, key: string | undefined, protocol: Protocol): OtherAnswer {
  const response = key === undefined ? null : line[key]
  const error = textAt(line, 'error')
  const status = Number(/\bupstream_status=([45]\d\d)\b/.exec(error ?? '')?.[1] ?? 0)
  if (status !== 0) {
    const told = objectAt(isObject(response) ? response : undefined, 'error') !== undefined
    const member = { kind: 'member', path: [key ?? ''] } as const
    return { status, isCut: false, response: told ? member : { kind: 'error' } }
  }
  const isCut = line['status'] === 'failure'
  return { status: 200, isCut, response: usable(response, [key ?? ''], protocol, error) }
}

/** Error answers keep their status beside their body, inside the response. */
function turnAnswer(line: JsonObject, key: string | undefined, protocol: Protocol): OtherAnswer {
  const response = key === undefined ? null : line[key]
  const path = [key ?? '']
  const own = isObject(response) ? response : {}
  const told = own['upstream_status'] ?? line['upstream_status'] ?? statusOf(own)
  if (typeof told === 'number' && told >= 400 && told <= 599) {
    const inner = isObject(own['upstream_error'])
    const isError = objectAt(own, 'error') !== undefined
    const member = { kind: 'member', path: inner ? [...path, 'upstream_error'] : path } as const
    return { status: told, isCut: false, response: inner || isError ? member : { kind: 'error' } }
  }
  return { status: 200, isCut: false, response: usable(response, path, protocol, null) }
}

/** The status that an error body itself tells, as vLLM's does. */
function statusOf(response: JsonObject): unknown {
  return objectAt(response, 'error')?.['code']
}

function usable(
  response: unknown,
  path: readonly string[],
  protocol: Protocol,
  error: string | null,
): LineResponse {
  if (!isObject(response)) return { kind: 'none', why: error ?? 'it has no response' }
  const hasChoices = protocol === 'openai.chat' || protocol === 'openai.completions'
  const choices = response['choices']
  if (hasChoices && !(Array.isArray(choices) && choices.length > 0)) {
    return { kind: 'none', why: error ?? 'its response has no choices' }
  }
  return { kind: 'member', path }
}
