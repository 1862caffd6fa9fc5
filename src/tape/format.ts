/**
 * The tape's bytes: how a segment header and a frame are laid out, and what each kind's payload
 * holds. Pure; the writer and the reader both speak through it. Written down for others, with a
 * worked example, in `docs/tape-format.md`. All numbers are little-endian.
 *
 *   segment = header frame*
 *   frame   = magic u32 "RTF1" | kind u8 | flags u8 | 0 u16 | payload length u32
 *             | previous segment u32 | exchange f64 | previous offset f64 | CRC32 of these 32 bytes
 *             | payload | CRC32 of the payload
 *
 * "Previous" points at the same exchange's frame before this one (segment 0: there is none), so an
 * exchange is found backwards from its last frame, over as many segments as it spans.
 */
import { crc32 } from 'node:zlib'
import { MODES } from '../mode.ts'
import type {
  AttemptFrame,
  BeginFrame,
  CloseCause,
  EndFrame,
  GapFrame,
  HeaderPair,
  HeadFrame,
  MatchFrame,
  SentFrame,
} from './exchange.ts'

/** First eight bytes of a segment. */
export const SEGMENT_MAGIC = 'ROLLTAPE'
/** Version in a segment's header; a reader refuses a higher one. */
export const FORMAT_VERSION = 1
/** "RTF1" read as a little-endian u32. */
export const FRAME_MAGIC = 0x31465452
/** Bytes before a frame's payload. */
export const FRAME_HEADER_BYTES = 36
/** Bytes a frame takes beyond its payload. */
export const FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + 4
/** A payload longer than this is no frame of ours: a reader takes the header for damaged. */
export const FRAME_PAYLOAD_BYTES_MAX = 0x4000_0000
/** Bytes in front of each chunk inside a CHUNKS payload: length u32, µs since the previous u32. */
export const CHUNK_HEADER_BYTES = 8
/** Bytes in front of the chunks of a CHUNKS payload: arrival of the first, µs f64. */
export const CHUNKS_HEADER_BYTES = 8

/** Frame kinds. Unknown kinds are skipped by readers; 0 is none, so that zeroes are no frame. */
export const KIND = {
  begin: 1,
  request: 2,
  sent: 3,
  attempt: 4,
  head: 5,
  chunks: 6,
  trailers: 7,
  end: 8,
  gap: 9,
  match: 10,
  policy: 11,
} as const

/** One of the numbers in {@link KIND}. */
export type Kind = (typeof KIND)[keyof typeof KIND]

/** Flag of a HEAD frame: an interim (1xx) answer. */
export const FLAG_INTERIM = 1
/** Flag of a HEAD frame: rolltape made this answer itself. */
export const FLAG_OWN = 2
/** Flag of a BEGIN frame: tokens are to be there. */
export const FLAG_REQUIRES_TOKENS = 1
/** Flag of a SENT frame: the body is the client's own, so none is given. */
export const FLAG_SAME_BODY = 1
/** Flag of a POLICY frame: the version when the answer's head came. */
export const FLAG_AT_HEAD = 1
/** Flag of a POLICY frame: the version when the answer ended. */
export const FLAG_AT_END = 2

const CAUSES: readonly CloseCause[] = [
  'upstream_end',
  'upstream_reset',
  'client_gone',
  'timeout_connect',
  'timeout_ttfb',
  'timeout_stall',
  'timeout_total',
  'cancelled',
  'error',
]

/** What a segment says of itself. */
export interface SegmentHeader {
  readonly recordingId: string
  readonly lane: number
  readonly number: number
  /** µs since the epoch. */
  readonly createdAtUs: number
  /**
   * Highest exchange number given out when the segment was made: no frame in an earlier segment of
   * its lane has a higher one. Lower ones may still come in this segment.
   */
  readonly seqBase: number
}

/** A frame's header, decoded. */
export interface FrameHeader {
  readonly kind: number
  readonly flags: number
  readonly payloadBytes: number
  readonly seq: number
  /** Number of the segment (of the same lane) with the previous frame; 0 when there is none. */
  readonly previousSegment: number
  readonly previousOffset: number
}

/** Name of a segment; also of its file, as long as it is not sealed. */
export function segmentName(lane: number, number: number): string {
  return `${lane}-${String(number).padStart(6, '0')}.tape`
}

/** Behind the name of a segment that is sealed: its file is `0-000001.tape.zst`. */
export const SEALED_SUFFIX = '.zst'

/** Lane and number out of a segment's name; undefined when it is no segment's. */
export function parseSegmentName(name: string): { lane: number; number: number } | undefined {
  const match = /^(\d+)-(\d{6,})\.tape$/.exec(name)
  return match ? { lane: Number(match[1]), number: Number(match[2]) } : undefined
}

/** Which segment a file holds, and whether in sealed form; undefined when it is no segment's. */
export function parseSegmentFile(
  file: string,
): { name: string; lane: number; number: number; isSealed: boolean } | undefined {
  const isSealed = file.endsWith(SEALED_SUFFIX)
  const name = isSealed ? file.slice(0, -SEALED_SUFFIX.length) : file
  const parsed = parseSegmentName(name)
  return parsed && { name, ...parsed, isSealed }
}

/** A segment's first bytes: magic, version, length of the JSON that follows, the JSON, CRC32. */
export function formatSegmentHeader(header: SegmentHeader): Buffer {
  const json = Buffer.from(JSON.stringify(header))
  const out = Buffer.allocUnsafe(8 + 4 + json.length + 4)
  out.write(SEGMENT_MAGIC, 0, 'latin1')
  out.writeUInt16LE(FORMAT_VERSION, 8)
  out.writeUInt16LE(json.length, 10)
  json.copy(out, 12)
  out.writeUInt32LE(crc32(out.subarray(0, 12 + json.length)), 12 + json.length)
  return out
}

/** Reads a segment's header; undefined when the bytes are not one (torn, foreign, damaged). */
export function parseSegmentHeader(
  bytes: Buffer,
): { header: SegmentHeader; version: number; bytes: number } | undefined {
  if (bytes.length < 16 || bytes.toString('latin1', 0, 8) !== SEGMENT_MAGIC) return undefined
  const version = bytes.readUInt16LE(8)
  const end = 12 + bytes.readUInt16LE(10)
  if (bytes.length < end + 4 || crc32(bytes.subarray(0, end)) !== bytes.readUInt32LE(end)) {
    return undefined
  }
  const header = JSON.parse(bytes.toString('utf8', 12, end)) as SegmentHeader
  return { header, version, bytes: end + 4 }
}

/** Writes a frame header at `at`. */
export function writeFrameHeader(out: Buffer, at: number, frame: FrameHeader): void {
  out.writeUInt32LE(FRAME_MAGIC, at)
  out[at + 4] = frame.kind
  out[at + 5] = frame.flags
  out[at + 6] = 0
  out[at + 7] = 0
  out.writeUInt32LE(frame.payloadBytes, at + 8)
  out.writeUInt32LE(frame.previousSegment, at + 12)
  out.writeDoubleLE(frame.seq, at + 16)
  out.writeDoubleLE(frame.previousOffset, at + 24)
  out.writeUInt32LE(crc32(out.subarray(at, at + 32)), at + 32)
}

/** Reads the frame header at `at`; undefined when there is no whole and sound one. */
export function readFrameHeader(bytes: Buffer, at: number): FrameHeader | undefined {
  if (at + FRAME_HEADER_BYTES > bytes.length) return undefined
  if (bytes.readUInt32LE(at) !== FRAME_MAGIC) return undefined
  if (crc32(bytes.subarray(at, at + 32)) !== bytes.readUInt32LE(at + 32)) return undefined
  const payloadBytes = bytes.readUInt32LE(at + 8)
  const kind = bytes[at + 4] ?? 0
  if (kind === 0 || payloadBytes > FRAME_PAYLOAD_BYTES_MAX) return undefined
  return {
    kind,
    flags: bytes[at + 5] ?? 0,
    payloadBytes,
    previousSegment: bytes.readUInt32LE(at + 12),
    seq: bytes.readDoubleLE(at + 16),
    previousOffset: bytes.readDoubleLE(at + 24),
  }
}

/** What BEGIN stores; the id follows from the recording and the exchange number. */
export type BeginFields = Omit<BeginFrame, 'id' | 'seq' | 'headers' | 'tags' | 'requiresTokens'> & {
  /** Header names and values in turn, as in `IncomingMessage.rawHeaders`, redacted. */
  readonly rawHeaders: readonly string[]
  /** The labels as JSON text of one object. */
  readonly tagsJson: string
}

/**
 * BEGIN: arrival f64 | turn u32 | generation u32 | mode u8 | 0 u8×3 | text length u32 | text
 * (UTF-8 lines) | header names and values (Latin-1 lines).
 */
export function formatBegin(begin: BeginFields): Buffer {
  const text = [
    begin.session,
    begin.run,
    begin.method,
    begin.httpVersion,
    begin.target,
    begin.forwardedTarget,
    begin.upstream,
    begin.policyVersion,
    begin.tagsJson,
    ...optionalLines(begin),
  ].join('\n')
  const textBytes = Buffer.byteLength(text)
  const headers = begin.rawHeaders.join('\n')
  const out = Buffer.allocUnsafe(24 + textBytes + headers.length)
  out.writeDoubleLE(begin.arrivedAtUs, 0)
  out.writeUInt32LE(begin.turn, 8)
  out.writeUInt32LE(begin.generation, 12)
  out.writeUInt32LE(MODES.indexOf(begin.mode), 16)
  out.writeUInt32LE(textBytes, 20)
  out.write(text, 24, 'utf8')
  out.write(headers, 24 + textBytes, 'latin1')
  return out
}

/** Group, then digest; an empty line stands for no group where a digest follows. */
function optionalLines({ group, keyHmac }: BeginFields): string[] {
  if (keyHmac !== undefined) return [group ?? '', keyHmac]
  return group === undefined ? [] : [group]
}

/** Reads a BEGIN payload. */
export function parseBegin(
  payload: Buffer,
  recordingId: string,
  seq: number,
  flags = 0,
): BeginFrame {
  const textEnd = 24 + payload.readUInt32LE(20)
  const lines = payload.toString('utf8', 24, textEnd).split('\n')
  const [session = '', run = '', method = '', httpVersion = '', target = ''] = lines
  const [forwardedTarget = '', upstream = '', policyVersion = ''] = lines.slice(5)
  const [tags = '{}', group = '', keyHmac] = lines.slice(8)
  return {
    id: `${recordingId}-${seq}`,
    seq,
    session,
    turn: payload.readUInt32LE(8),
    run,
    tags: JSON.parse(tags) as Record<string, string>,
    method,
    target,
    forwardedTarget,
    upstream,
    httpVersion,
    headers: parsePairs(payload.toString('latin1', textEnd)),
    arrivedAtUs: payload.readDoubleLE(0),
    mode: MODES[payload[16] ?? 0] ?? 'record',
    generation: payload.readUInt32LE(12),
    policyVersion,
    ...(group === '' ? {} : { group }),
    ...(keyHmac === undefined ? {} : { keyHmac }),
    ...((flags & FLAG_REQUIRES_TOKENS) === 0 ? {} : { requiresTokens: true }),
  }
}

/** SENT: length of the JSON u32 | JSON with transforms and strip | body, unless it is the client's. */
export function formatSent({ body, ...said }: SentFrame): Buffer {
  const json = Buffer.from(JSON.stringify(said))
  const out = Buffer.allocUnsafe(4 + json.length + (body?.length ?? 0))
  out.writeUInt32LE(json.length, 0)
  json.copy(out, 4)
  body?.copy(out, 4 + json.length)
  return out
}

/** Reads a SENT payload. */
export function parseSent(payload: Buffer, flags: number): SentFrame {
  const end = 4 + payload.readUInt32LE(0)
  const said = JSON.parse(payload.toString('utf8', 4, end)) as Omit<SentFrame, 'body'>
  return (flags & FLAG_SAME_BODY) === 0 ? { ...said, body: payload.subarray(end) } : said
}

/** HEAD: time f64 | status u16 | reason and header lines (Latin-1). `own` travels as a flag. */
export function formatHead(
  atUs: number,
  status: number,
  reason: string,
  rawHeaders: readonly string[],
): Buffer {
  const text = rawHeaders.length === 0 ? reason : `${reason}\n${rawHeaders.join('\n')}`
  const out = Buffer.allocUnsafe(10 + text.length)
  out.writeDoubleLE(atUs, 0)
  out.writeUInt16LE(status, 8)
  out.write(text, 10, 'latin1')
  return out
}

/** Reads a HEAD payload. */
export function parseHead(payload: Buffer, flags: number): HeadFrame {
  const text = payload.toString('latin1', 10)
  const cut = text.indexOf('\n')
  return {
    status: payload.readUInt16LE(8),
    reason: cut < 0 ? text : text.slice(0, cut),
    headers: cut < 0 ? [] : parsePairs(text.slice(cut + 1)),
    atUs: payload.readDoubleLE(0),
    own: (flags & FLAG_OWN) !== 0,
  }
}

/** END: cause u8 | 0 u8×3 | part u32 | received f64 | forwarded f64 | time f64 | code \n message. */
export function formatEnd(end: EndFrame): Buffer {
  const text = end.code === '' && end.message === '' ? '' : `${end.code}\n${end.message}`
  const out = Buffer.allocUnsafe(32 + Buffer.byteLength(text))
  out.writeUInt32LE(CAUSES.indexOf(end.cause), 0)
  out.writeUInt32LE(end.part, 4)
  out.writeDoubleLE(end.bytesReceived, 8)
  out.writeDoubleLE(end.bytesForwarded, 16)
  out.writeDoubleLE(end.atUs, 24)
  out.write(text, 32, 'utf8')
  return out
}

/** Reads an END payload. */
export function parseEnd(payload: Buffer): EndFrame {
  const [code = '', ...message] = payload.toString('utf8', 32).split('\n')
  return {
    cause: CAUSES[payload[0] ?? 0] ?? 'error',
    part: payload.readUInt32LE(4),
    bytesReceived: payload.readDoubleLE(8),
    bytesForwarded: payload.readDoubleLE(16),
    atUs: payload.readDoubleLE(24),
    code,
    message: message.join('\n'),
  }
}

/** TRAILERS: names and values in turn, Latin-1 lines. */
export function formatTrailers(rawTrailers: readonly string[]): Buffer {
  return Buffer.from(rawTrailers.join('\n'), 'latin1')
}

/** Reads a TRAILERS payload. */
export function parseTrailers(payload: Buffer): HeaderPair[] {
  return parsePairs(payload.toString('latin1'))
}

/** ATTEMPT, GAP and MATCH are rare, so they are JSON. */
export function formatJson(frame: AttemptFrame | GapFrame | MatchFrame): Buffer {
  return Buffer.from(JSON.stringify(frame))
}

/** Reads an ATTEMPT, GAP or MATCH payload. */
export function parseJson<T extends AttemptFrame | GapFrame | MatchFrame>(payload: Buffer): T {
  return JSON.parse(payload.toString('utf8')) as T
}

/** Reads the chunks of a CHUNKS payload, each with its arrival in µs since the request's. */
export function parseChunks(payload: Buffer): { bytes: Buffer; atUs: number }[] {
  const chunks: { bytes: Buffer; atUs: number }[] = []
  let atUs = payload.readDoubleLE(0)
  for (let at = CHUNKS_HEADER_BYTES; at < payload.length;) {
    const length = payload.readUInt32LE(at)
    atUs += payload.readUInt32LE(at + 4)
    const start = at + CHUNK_HEADER_BYTES
    chunks.push({ bytes: payload.subarray(start, start + length), atUs })
    at = start + length
  }
  return chunks
}

function parsePairs(text: string): HeaderPair[] {
  if (text === '') return []
  const parts = text.split('\n')
  const pairs: HeaderPair[] = []
  for (let i = 0; i + 1 < parts.length; i += 2) pairs.push([parts[i] ?? '', parts[i + 1] ?? ''])
  return pairs
}
