/**
 * One exchange's answer, read from its chunks: decoded, parsed or assembled, and asked for what the
 * outcome hangs on (has its end come, and did the client get it).
 */

import { DECODED_BYTES_MAX, EVENT_CHARS_MAX } from '../limits.ts'
import type { Chunk, HeaderPair, TapedExchange } from '../tape/exchange.ts'
import { createAssembler, hasMark, isDoneMark } from '../wire/protocol.ts'
import type { StreamAssembler } from '../wire/assembler.ts'
import { isObject, parseJson } from '../wire/json.ts'
import { createSseParser } from '../wire/sse.ts'
import { readUnary, type UnaryReading } from '../wire/unary.ts'
import { readJsonBody } from './body.ts'
import { contentEncodings, decodeBody } from './decode.ts'
import type { Protocol } from './record.ts'
import { hasUnreadEnd } from './unread-end.ts'

/** What reading one answer may take. */
export interface AnswerLimits {
  /** Bytes that the answer may decode to; a larger one is recorded without its response. */
  readonly decodedBytesMax: number
  /** Characters of one unfinished event; a stream with a longer one before its end has no response. */
  readonly eventCharsMax: number
}

/** The bounds that hold unless a test sets smaller ones. */
export const ANSWER_LIMITS: AnswerLimits = {
  decodedBytesMax: DECODED_BYTES_MAX,
  eventCharsMax: EVENT_CHARS_MAX,
}

/** What was read from an answer. */
export interface Answer extends UnaryReading {
  /** `events` for an SSE stream. */
  readonly kind: 'none' | 'json' | 'events' | 'other'
  /** JSON text, or null when there is none or it cannot be read. */
  readonly response: Buffer | string | null
  /** Why an answer that should be readable is not (in part), or null. */
  readonly problem: string | null
  /** What an error event inside the stream said, or null. */
  readonly errorEvent: string | null
  /** Whether bytes that are no UTF-8 had to be replaced. */
  readonly repaired: boolean
  /** Whether the end that the protocol itself tells is among the bytes received. */
  readonly ended: boolean
  /** Whether it is among the bytes forwarded, too. */
  readonly endForwarded: boolean
  /** False when a content-encoding ends before its own end. */
  readonly decodedWhole: boolean
  /** The chunk that completed the first visible output of a stream, or null. */
  readonly firstVisible: number | null
}

/** An answer of which nothing is known. */
export const NO_ANSWER: Answer = {
  kind: 'none',
  response: null,
  problem: null,
  errorEvent: null,
  repaired: false,
  ended: false,
  endForwarded: false,
  decodedWhole: true,
  firstVisible: null,
  finishReasons: [],
  usage: undefined,
  tokens: null,
  engineVersion: null,
}

/** The answer's body on the tape, and how much of it the client got. */
export interface AnswerBytes {
  readonly body: Buffer
  readonly forwarded: Buffer
}

/** Gathers the chunks. Without an END nothing tells what was forwarded; the tape never lags it. */
export function bytesOf({ chunks, end }: TapedExchange): AnswerBytes {
  const body = Buffer.concat(chunks.map((chunk) => chunk.bytes))
  return { body, forwarded: body.subarray(0, end === undefined ? body.length : end.bytesForwarded) }
}

/** Reads an answer; `asksStream` is whether the request asked for a stream. */
export function readAnswer(
  exchange: TapedExchange,
  protocol: Protocol,
  asksStream: boolean,
  { body, forwarded }: AnswerBytes,
  limits: AnswerLimits = ANSWER_LIMITS,
): Answer {
  if (body.length === 0) return { ...NO_ANSWER, kind: 'none' }
  const headers = exchange.head?.headers ?? []
  const encodings = contentEncodings(headers)
  const { decodedBytesMax, eventCharsMax } = limits
  const decoded = decodeBody(body, encodings, decodedBytesMax)
  const type = headerOf(headers, 'content-type')?.toLowerCase() ?? ''
  const { bytes, whole } = decoded
  if (decoded.error !== null || bytes.length > decodedBytesMax) {
    const problem = decoded.error ?? `the answer has more than ${decodedBytesMax} bytes`
    const isStream = encodings.length === 0 && isEventStream(type, bytes, asksStream)
    return isStream
      ? unreadStream(protocol, problem, bytes, forwarded)
      : { ...NO_ANSWER, kind: 'other', problem }
  }
  if (!isEventStream(type, bytes, asksStream)) return readWhole(protocol, type, bytes, whole)

  const chunks = encodings.length === 0 ? exchange.chunks : [{ bytes, atUs: 0 }]
  const stream = readEvents(protocol, chunks, eventCharsMax)
  if (stream.isCutShort) {
    const clear = forwarded.length < body.length ? decodeBody(forwarded, encodings).bytes : bytes
    const unread = unreadStream(protocol, stream.problem, bytes, clear)
    return { ...unread, decodedWhole: whole, errorEvent: stream.errorEvent }
  }
  const again =
    forwarded.length < body.length && stream.ended
      ? readEvents(protocol, [{ bytes: decodeBody(forwarded, encodings).bytes }], eventCharsMax)
      : stream
  const { isCutShort: _, ...read } = stream
  return {
    ...read,
    decodedWhole: whole,
    endForwarded: again.ended,
    firstVisible:
      encodings.length === 0 || stream.firstVisible === null
        ? stream.firstVisible
        : firstVisibleEncoded(protocol, exchange.chunks, encodings),
  }
}

/** A stream too large to be read: nothing is told of it but whether its end has come. */
function unreadStream(
  protocol: Protocol,
  problem: string | null,
  bytes: Buffer,
  forwarded: Buffer,
): Answer {
  const ended = hasUnreadEnd(protocol, bytes)
  const endForwarded =
    ended && (forwarded.length === bytes.length || hasUnreadEnd(protocol, forwarded))
  return { ...NO_ANSWER, kind: 'events', problem, ended, endForwarded }
}

/** The value of a header, the last one if it came twice. */
export function headerOf(headers: readonly HeaderPair[], name: string): string | undefined {
  return headers.findLast(([other]) => other.toLowerCase() === name)?.[1]
}

/** By its type, unless it begins like JSON (errors do come mistyped); or by its looks. */
function isEventStream(type: string, bytes: Buffer, asksStream: boolean): boolean {
  const begin = bytes
    .toString('latin1', 0, 64)
    .replace(/^\u00ef\u00bb\u00bf/, '')
    .trimStart()
  if (type.includes('text/event-stream')) return !begin.startsWith('{') && !begin.startsWith('[')
  return asksStream && !isJsonType(type) && /^(?:data:|event:|id:|retry:|:)/.test(begin)
}

function isJsonType(type: string): boolean {
  return /[/+]json\b/.test(type)
}

function readWhole(protocol: Protocol, type: string, bytes: Buffer, whole: boolean): Answer {
  const due = protocol !== 'raw' || isJsonType(type)
  const looksJson = bytes[0] === 0x7b || bytes[0] === 0x5b
  if (!due && (type !== '' || !looksJson)) {
    return { ...NO_ANSWER, kind: 'other', decodedWhole: whole }
  }
  const json = readJsonBody(bytes)
  if (typeof json === 'string') {
    const problem = due ? `the response is not JSON: ${json}` : null
    return { ...NO_ANSWER, kind: 'other', problem, decodedWhole: whole }
  }
  return {
    ...NO_ANSWER,
    ...readUnary(protocol, json.value),
    kind: 'json',
    response: json.bytes,
    repaired: json.repaired,
    ended: true,
    endForwarded: true,
    decodedWhole: whole,
  }
}

/** What was read of a stream's events. */
interface EventsRead extends Answer {
  /** An event before the end was too long, and nothing from there on was read. */
  readonly isCutShort: boolean
}

/** Reads a stream's events; `endForwarded` is left to the caller. */
function readEvents(
  protocol: Protocol,
  chunks: readonly Pick<Chunk, 'bytes'>[],
  eventCharsMax: number,
): EventsRead {
  const assembler = createAssembler(protocol)
  if (assembler === undefined) return { ...NO_ANSWER, kind: 'events', isCutShort: false }
  const reader = new EventReader(assembler)
  const parser = createSseParser(reader, eventCharsMax)
  for (const chunk of chunks) parser.feed(chunk.bytes)
  reader.atEnd = true
  parser.end()
  const tooLong = parser.overflowed ? `an event has more than ${eventCharsMax} characters` : null
  return {
    kind: 'events',
    response: assembler.response(),
    problem: tooLong ?? reader.problem,
    errorEvent: assembler.error,
    repaired: false,
    ended: reader.done || assembler.ended,
    endForwarded: false,
    decodedWhole: true,
    firstVisible: reader.firstVisible,
    finishReasons: assembler.finishReasons(),
    usage: assembler.usage(),
    tokens: assembler.tokens(),
    engineVersion: assembler.engineVersion(),
    isCutShort: parser.overflowed && !reader.done && !assembler.ended,
  }
}

/** Hands a stream's events to an assembler and notes what that does not see. */
class EventReader {
  readonly #assembler: StreamAssembler
  #events = 0
  done = false
  firstVisible: number | null = null
  problem: string | null = null
  /** From here on an event was not closed by the server, so it may be cut. */
  atEnd = false

  constructor(assembler: StreamAssembler) {
    this.#assembler = assembler
  }

  onEvent = (data: string, name: string | undefined, chunk: number): void => {
    this.#events++
    if (data === '') return
    if (isDoneMark(data)) {
      this.done = true
      return
    }
    const value = parseJson(data)
    if (isObject(value)) {
      const visible = this.#assembler.add(value, data, name)
      if (visible) this.firstVisible ??= chunk
    } else if (!this.atEnd) {
      this.problem ??= `event ${this.#events} of the stream is not a JSON object`
    }
  }
}

/**
 * The chunk of an encoded stream that first lets something visible be decoded. Decoding cannot be
 * resumed synchronously, so prefixes are tried: doubling from the start, then by halves.
 */
function firstVisibleEncoded(
  protocol: Protocol,
  chunks: readonly Chunk[],
  encodings: readonly string[],
): number | null {
  const isVisible = (count: number): boolean => {
    const body = Buffer.concat(chunks.slice(0, count).map((chunk) => chunk.bytes))
    const { bytes } = decodeBody(body, encodings)
    return readPrefix(protocol, bytes)
  }
  let high = 1
  while (high < chunks.length && !isVisible(high)) high *= 2
  let low = Math.floor(high / 2)
  high = Math.min(high, chunks.length)
  // The first `low` chunks show nothing, the first `high` do.
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (isVisible(middle)) high = middle
    else low = middle
  }
  return high === 0 ? null : high - 1
}

function readPrefix(protocol: Protocol, bytes: Buffer): boolean {
  const assembler = createAssembler(protocol)
  if (assembler === undefined) return false
  const reader = new EventReader(assembler)
  createSseParser(reader, ANSWER_LIMITS.eventCharsMax).feed(bytes)
  return reader.firstVisible !== null
}

/** Whether a stream of this protocol tells its own end. */
export function tellsEnd(protocol: Protocol, kind: Answer['kind']): boolean {
  return kind === 'events' && hasMark(protocol)
}
