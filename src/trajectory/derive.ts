/**
 * Derive: one exchange of the tape in, one line of the `.jsonl` out.
 *
 * A pure function, called in worker threads. `answer.ts` reads the bytes, `outcome.ts` concludes
 * what became of the exchange, this file puts the record together. Whatever the bytes are, there is
 * a record: if reading them throws, the record says so (`derive_failed`), and they stay on the tape.
 */

import { hash } from 'node:crypto'
import type { TapedExchange } from '../tape/exchange.ts'
import { errorText } from '../errors.ts'
import { isObject, parseJson, textAt, type JsonObject } from '../wire/json.ts'
import { memberText } from '../wire/json-span.ts'
import { geminiTarget, protocolOf, withoutSession } from '../wire/protocol.ts'
import { normalizeUsage, type UsageReading } from '../wire/usage.ts'
import {
  ANSWER_LIMITS,
  bytesOf,
  NO_ANSWER,
  readAnswer,
  type Answer,
  type AnswerBytes,
  type AnswerLimits,
} from './answer.ts'
import { readJsonBody, type JsonBody } from './body.ts'
import { contentEncodings, decodeBody } from './decode.ts'
import { errorOf } from './failure.ts'
import { attemptsOf } from './attempts.ts'
import { lacksTokens, recordedTokens, transformsOf } from './captured-tokens.ts'
import { clientSide, type ClientSide } from './client-side.ts'
import { formatLine, RawJson } from './line.ts'
import { conclude, type Conclusion } from './outcome.ts'
import type { Json } from '../replay/canonical.ts'
import {
  RECORD_SCHEMA,
  type ExchangeRecord,
  type LiveAnswer,
  type Protocol,
  type RecordFlag,
  type Verification,
} from './record.ts'
import { clientRetryOf, policyOf } from './stamps.ts'
import { timesOf } from './timings.ts'

/** What counting and indexing need of a record, without its request and response. */
export type RecordSummary = Omit<ExchangeRecord, 'request' | 'response' | 'tokens'>

/** A record, ready to be appended. */
export interface DerivedRecord {
  /** The line in UTF-8 without its line break, in memory of its own (it may be transferred). */
  readonly line: Buffer
  /** The line as it would be with its request; undefined where it is. For the index. */
  readonly whole?: Buffer
  readonly summary: RecordSummary
  /** The part that the exchange belongs to; undefined when it has no END. */
  readonly part: number | undefined
}

/** A record, and what its line was made of. */
interface WholeRecord extends DerivedRecord {
  readonly fields: Readonly<Record<string, unknown>> & { readonly tape: object }
}

const UNSTRIPPED: Omit<ClientSide, 'exchange'> = { skipped: null, isStripped: false }

/** Compares the answer with a recorded one (mode `verify`). */
export type Compare = (live: LiveAnswer) => Verification

/** The request's JSON as a record holds it; undefined when it is none. */
export function requestBodyOf({ begin, requestBody }: TapedExchange): JsonBody | undefined {
  const decoded = decodeBody(requestBody, contentEncodings(begin.headers)).bytes
  const body = decoded.length === 0 ? undefined : readJsonBody(decoded)
  return typeof body === 'string' ? undefined : body
}

/** Whether requests are in the record, or on the tape alone. */
export type RecordRequests = 'full' | 'ref'

/** Makes the record of one exchange. Never throws on anything a client or an upstream sent. */
export function deriveRecord(
  exchange: TapedExchange,
  limits: AnswerLimits = ANSWER_LIMITS,
  compare?: Compare,
  requests: RecordRequests = 'full',
): DerivedRecord {
  const derived = deriveWhole(exchange, limits, compare)
  return requests === 'full' ? derived : withoutRequest(derived)
}

/** Where its request is on the tape as well, the line says so instead of holding it. */
function withoutRequest({ line, fields, ...derived }: WholeRecord): DerivedRecord {
  if (fields.request === null) return { ...derived, line }
  const tape = { ...fields.tape, request: true }
  return { ...derived, line: formatLine({ ...fields, request: null, tape }), whole: line }
}

function deriveWhole(
  exchange: TapedExchange,
  limits: AnswerLimits,
  compare: Compare | undefined,
): WholeRecord {
  const request = attempt(() => readRequest(exchange), emptyRequest(exchange))
  const side = attempt(() => clientSide(exchange), { exchange, ...UNSTRIPPED })
  const seen = side.value.exchange
  const bytes = bytesOf(seen)
  const { protocol, stream } = request.value
  const read = (of: TapedExchange, its: AnswerBytes): Answer =>
    readAnswer(of, protocol, stream, its, limits)
  const answer = attempt(() => {
    const client = read(seen, bytes)
    // What the client did not get is what tokens are told by.
    return seen === exchange ? client : withTokensOf(client, read(exchange, bytesOf(exchange)))
  }, NO_ANSWER)
  const failure = request.failure ?? side.failure ?? answer.failure
  const { skipped, isStripped } = side.value
  try {
    return assemble(
      seen,
      request.value,
      answer.value,
      bytes,
      { failure, skipped, isStripped },
      compare,
    )
  } catch (error) {
    const why = { failure: errorText(error), skipped, isStripped }
    return assemble(exchange, emptyRequest(exchange), NO_ANSWER, bytes, why)
  }
}

function withTokensOf(client: Answer, { tokens, usage, engineVersion }: Answer): Answer {
  return { ...client, tokens, usage, engineVersion }
}

/** The record of an exchange that could not be derived: what the tape says, nothing read of it. */
export function bareRecord(exchange: TapedExchange, reason: string): DerivedRecord {
  const why = { failure: reason, ...UNSTRIPPED }
  return assemble(exchange, emptyRequest(exchange), NO_ANSWER, bytesOf(exchange), why)
}

/** What the request said about itself. */
interface Request {
  readonly protocol: Protocol
  readonly model: string | null
  /** Whether it asked for a stream. */
  readonly stream: boolean
  readonly body: JsonBody | undefined
}

function readRequest({ begin, requestBody }: TapedExchange): Request {
  const protocol = protocolOf(begin.method, begin.target)
  const decoded = decodeBody(requestBody, contentEncodings(begin.headers)).bytes
  const body = decoded.length === 0 ? 'it is empty' : readJsonBody(decoded)
  const target = protocol === 'gemini.generate' ? geminiTarget(begin.target) : undefined
  if (typeof body === 'string') {
    const text = decoded.toString('utf8')
    const model = target?.model ?? textAt({ model: valueOf(text, 'model') }, 'model')
    const stream = target?.stream ?? valueOf(text, 'stream') === true
    return { protocol, model, stream, body: undefined }
  }
  const fields = isObject(body.value) ? body.value : {}
  return {
    protocol,
    model: target?.model ?? textAt(fields, 'model'),
    stream: target?.stream ?? fields['stream'] === true,
    body,
  }
}

function fieldsOf({ body }: Request): JsonObject {
  return isObject(body?.value) ? body.value : {}
}

function valueOf(text: string, key: string): unknown {
  const value = memberText(text, key)
  try {
    return value === undefined ? undefined : (JSON.parse(value) as unknown)
  } catch {
    return undefined
  }
}

function emptyRequest({ begin }: TapedExchange): Request {
  const protocol = protocolOf(begin.method, begin.target)
  return { protocol, model: null, stream: false, body: undefined }
}

function attempt<T>(read: () => T, fallback: T): { value: T; failure: string | null } {
  try {
    return { value: read(), failure: null }
  } catch (error) {
    return { value: fallback, failure: errorText(error) }
  }
}

function assemble(
  exchange: TapedExchange,
  request: Request,
  answer: Answer,
  bytes: AnswerBytes,
  { failure, ...side }: { readonly failure: string | null } & Omit<ClientSide, 'exchange'>,
  compare?: Compare,
): WholeRecord {
  const { begin, head, end } = exchange
  const transforms = transformsOf(exchange, side)
  const clientRetry = clientRetryOf(begin)
  const conclusion = conclude(exchange, request.protocol, answer, bytes)
  const error =
    failure === null ? errorOf(exchange, answer, conclusion) : `derive_failed: ${failure}`
  const usage = normalizeUsage(request.protocol, answer.usage)
  const times = timesOf(exchange, answer.firstVisible)

  const fields = {
    model: request.model,
    stream: request.stream || answer.kind === 'events',
    status: error === null ? ('success' as const) : ('failure' as const),
    response_time: times.response_time,
    start_time: times.start_time,
    end_time: times.end_time,
    request: request.body === undefined ? null : new RawJson(request.body.bytes),
    response: answer.response === null ? null : new RawJson(answer.response),
    error,
    schema: RECORD_SCHEMA,
    id: begin.id,
    seq: begin.seq,
    session: begin.session,
    turn: begin.turn === 0 ? null : begin.turn,
    run: begin.run,
    protocol: request.protocol,
    method: begin.method,
    path: withoutSession(begin.target),
    http_status: head?.status ?? null,
    outcome: conclusion.outcome,
    partial: conclusion.partial,
    flags: flagsOf(exchange, request, answer, conclusion, usage, failure),
    finish_reasons: answer.finishReasons,
    tokens: recordedTokens(answer.tokens, fieldsOf(request)),
    usage: usage && { normalized: usage.normalized, raw: answer.usage },
    timings: times.timings,
    attempts: attemptsOf(exchange),
    policy: policyOf(exchange, answer.engineVersion),
    upstream: begin.upstream === '' ? null : begin.upstream,
    key_hmac: begin.keyHmac ?? null,
    ...(transforms && { transforms }),
    ...(begin.group === undefined ? {} : { group: begin.group }),
    ...(clientRetry === undefined ? {} : { client_retry: clientRetry }),
    sha256: {
      request: hash('sha256', exchange.requestBody),
      response: head === undefined ? null : hash('sha256', bytes.forwarded),
    },
    tape: { segment: exchange.position.segment, end: exchange.position.offset },
    tags: begin.tags,
    ...(compare && { verify: compare(liveAnswer(answer, request, conclusion, head)) }),
  }
  const { request: _request, response: _response, tokens: _tokens, ...summary } = fields
  return { line: formatLine(fields), fields, summary, part: end?.part }
}

function liveAnswer(
  answer: Answer,
  request: Request,
  { outcome }: Conclusion,
  head: TapedExchange['head'],
): LiveAnswer {
  const response = answer.response === null ? null : (parseJson(answer.response.toString()) as Json)
  const isStream = request.stream || answer.kind === 'events'
  return { status: head?.status ?? null, outcome, isStream, response }
}

function flagsOf(
  exchange: TapedExchange,
  request: Request,
  answer: Answer,
  conclusion: Conclusion,
  usage: UsageReading | null,
  failure: string | null,
): RecordFlag[] {
  const flags: RecordFlag[] = []
  if (conclusion.recovered) flags.push('recovered')
  if (failure !== null) flags.push('derive_failed')
  if (lacksTokens(exchange, request.protocol, answer.tokens)) flags.push('tokens_incomplete')
  if (exchange.gaps.length > 0) flags.push('gap')
  if (usage?.odd) flags.push('usage_odd')
  if (request.body?.repaired || answer.repaired) flags.push('invalid_utf8')
  return flags
}
