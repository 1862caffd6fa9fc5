/**
 * A line of ours, read for the index without parsing it. Derive writes its keys in one order, so it
 * has three parts: the head up to the request, which is compared with what has to stand there; the
 * request, which the canonical key is made of, and which is gone through once, by that; and behind
 * the response the tail, which is searched for and compared again:
 *
 *   {"model":…,"end_time":1763640001,"request":{…},"response":…,"error":null
 *   ,"schema":"rolltape.record/1","id":"…",…,"partial":false,"flags":[],…
 *   ,"sha256":{"request":"…","response":null},"tape":{"segment":"…","end":1000},"tags":{}}
 *
 * The response is jumped over, and so is what stands between `flags` and `sha256`: whether they are
 * JSON is seen when they are asked for. What does not look just like this is left to `JSON.parse`
 * (the scan says so, and has done nothing): lines that were torn, joined or edited among it.
 *
 * A line break must stand behind the line, and the line must be UTF-8; the caller has seen to both.
 */
import { NAMES_CACHED_MAX } from '../limits.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { RECORD_SCHEMA } from '../trajectory/record.ts'
import type { Outcome, Protocol } from '../trajectory/record.ts'
import { BytePattern } from './byte-pattern.ts'
import { bytesOf } from './byte-texts.ts'
import { CanonicalWriter } from './canonical-text.ts'
import type { IgnoreRules, Json } from './canonical.ts'
import type { JsonBytes } from './json-bytes.ts'
import {
  NO_KEY,
  canonicalKeyOf,
  canonicalStart,
  keyHead,
  keyRules,
  rawKeyOf,
  toKey,
} from './key.ts'
import type { Key } from './key.ts'
import { LineCursor, LinePart, ODD, Piece, TextField, odd } from './line-cursor.ts'
import { flagsOf } from './pack-record.ts'
import type { LinePlace } from './pack-record.ts'
import type { Packer } from './packed.ts'
import { readSourceLine } from './source-line.ts'

const COMMA = 0x2c
const BRACE_END = 0x7d

const TAIL = ',"schema":"rolltape.record/1","id":'
const DIGEST = ',"sha256":{"request":"'

/** What stands before the values that are not texts, or not kept, in the order of the line. */
const BEFORE = {
  stream: bytesOf(',"stream":'),
  status: bytesOf(',"status":'),
  responseTime: bytesOf(',"response_time":'),
  startTime: bytesOf(',"start_time":'),
  endTime: bytesOf(',"end_time":'),
  request: bytesOf(',"request":'),
  response: bytesOf(',"response":'),
  id: bytesOf(TAIL),
  seq: bytesOf(',"seq":'),
  turn: bytesOf(',"turn":'),
  run: bytesOf(',"run":'),
  httpStatus: bytesOf(',"http_status":'),
  partial: bytesOf(',"partial":'),
  flags: bytesOf(',"flags":'),
  digest: bytesOf(DIGEST),
  responseDigest: bytesOf('","response":'),
  tapeEnd: bytesOf(',"end":'),
  tags: bytesOf('},"tags":'),
  verify: bytesOf(',"verify":'),
} as const

const DIGEST_DIGITS = 64

/** Of every head, and hardly of anything else: where it comes again, two lines have become one. */
const SECOND_HEAD = new BytePattern('","response_time":')

/** What is known of a method and target: its canonical keys' first bytes, and their rules. */
interface Head {
  readonly text: string
  readonly start: Buffer
  readonly rules: IgnoreRules
}

/** What the line begins with. */
type Opening = Pick<StoredRecord, 'model' | 'stream'>

/** What tells of the call, and what became of it. */
type Call = Required<
  Pick<StoredRecord, 'protocol' | 'method' | 'path' | 'http_status' | 'outcome' | 'partial'>
> & { readonly head: Head }

/** What lines have in common that begin alike and tell of the same call. */
interface Kind {
  readonly opening: Opening
  readonly call: Call
  readonly hasRequest: boolean
  readonly hasResponse: boolean
  readonly hasTurn: boolean
  readonly flags: number
  readonly status: number
  readonly model: string | null
}

/** Reads lines of ours. */
export class LineScanner {
  readonly #ignore: IgnoreRules
  readonly #canonical = new CanonicalWriter()
  readonly #heads = new Map<string, Head>()
  readonly #fields = {
    model: new TextField('{"model":'),
    session: new TextField(',"session":'),
    protocol: new TextField(',"protocol":'),
    method: new TextField(',"method":'),
    path: new TextField(',"path":'),
    outcome: new TextField(',"outcome":'),
    segment: new TextField('},"tape":{"segment":'),
  }
  readonly #opening = new Piece(() => this.#readOpening())
  readonly #call = new Piece(() => this.#readCall())
  readonly #closing = new Piece(() => this.#readClosing())
  readonly #tail = new LinePart(TAIL)
  readonly #digestPart = new LinePart(DIGEST)
  readonly #digest: [number, number, number, number] = [0, 0, 0, 0]
  #kind: Kind | undefined
  readonly #line = new LineCursor()

  constructor(ignore: IgnoreRules) {
    this.#ignore = ignore
  }

  /**
   * Packs the line that begins at `from` and returns where it ends (at its line break); -1 when it
   * does not look like a whole one of ours.
   */
  scan(packer: Packer, json: JsonBytes, from: number, offset: number): number {
    const line = this.#line
    line.begin(json, from)
    try {
      this.#pack(packer, { offset, length: line.end - from })
    } catch (error) {
      if (error !== ODD) throw error
      return -1
    }
    return line.end
  }

  #pack(packer: Packer, place: LinePlace): void {
    const line = this.#line
    const fields = this.#fields
    const opening = line.piece(this.#opening)
    line.skipDigits()
    line.skipNumber(BEFORE.startTime)
    line.skipNumber(BEFORE.endTime)
    line.expect(BEFORE.request)
    const request = line.at
    const hasRequest = line.isThere
    line.find(this.#tail)
    line.skipText(BEFORE.id)
    const seq = line.whole(BEFORE.seq)
    const session = line.text(fields.session)
    const turn = line.wholeOrNull(BEFORE.turn)
    const call = line.piece(this.#call)
    line.find(this.#digestPart)
    const digest = line.at
    this.#readDigest()
    const segment = line.text(fields.segment)
    const offset = line.whole(BEFORE.tapeEnd)
    line.piece(this.#closing)
    if (line.at !== line.end) odd()
    const canonicalKey = this.#key(request, call.head)
    line.expect(BEFORE.response)
    const hasResponse = line.isThere
    if (SECOND_HEAD.indexIn(line.bytes, line.at, digest) >= 0) odd()
    const has = { hasRequest, hasResponse, hasTurn: turn !== null }
    const { flags, status, model } = this.#kindOf(opening, call, has)
    packer.add({
      rawKey: rawKeyOf(call.head.text, this.#digest),
      canonicalKey,
      session,
      turn: turn ?? 0,
      seq,
      segment,
      offset,
      lineOffset: place.offset,
      lineBytes: place.length,
      flags,
      status,
      model,
    })
  }

  #readOpening(): Opening {
    const line = this.#line
    const model = line.textOrNull(this.#fields.model)
    const stream = line.truth(BEFORE.stream)
    line.skipText(BEFORE.status)
    line.expect(BEFORE.responseTime)
    return { model, stream }
  }

  #readCall(): Call {
    const line = this.#line
    const fields = this.#fields
    line.skipText(BEFORE.run)
    const protocol = line.text(fields.protocol) as Protocol
    const method = line.text(fields.method)
    const path = line.text(fields.path)
    const http_status = line.wholeOrNull(BEFORE.httpStatus)
    const outcome = line.text(fields.outcome) as Outcome
    const partial = line.truth(BEFORE.partial)
    line.expect(BEFORE.flags)
    return { protocol, method, path, http_status, outcome, partial, head: this.#head(method, path) }
  }

  /** Goes over what stands behind the tape. */
  #readClosing(): undefined {
    const line = this.#line
    line.expect(BEFORE.tags)
    line.skip()
    if (line.bytes[line.at] === COMMA) {
      line.expect(BEFORE.verify)
      line.skip()
    }
    if (line.bytes[line.at++] !== BRACE_END) odd()
  }

  /** What is read out of a line by its kind, as it would be out of the record itself. */
  #kindOf(
    opening: Opening,
    call: Call,
    has: Pick<Kind, 'hasRequest' | 'hasResponse' | 'hasTurn'>,
  ): Kind {
    const { hasRequest, hasResponse, hasTurn } = has
    const known = this.#kind
    if (
      known?.opening === opening &&
      known.call === call &&
      known.hasRequest === hasRequest &&
      known.hasResponse === hasResponse &&
      known.hasTurn === hasTurn
    ) {
      return known
    }
    const line = readSourceLine({
      ...opening,
      ...call,
      request: hasRequest ? {} : null,
      response: hasResponse ? {} : null,
      schema: RECORD_SCHEMA,
      turn: hasTurn ? 1 : null,
    } as unknown as StoredRecord)
    if (typeof line === 'string') return odd()
    const { model, status } = line
    this.#kind = { opening, call, ...has, flags: flagsOf(line), status: status ?? 0, model }
    return this.#kind
  }

  /** Reads the first 16 bytes of the request's digest, and goes over that of the response. */
  #readDigest(): void {
    const line = this.#line
    const { bytes } = line
    const at = line.at + BEFORE.digest.byteLength
    for (let word = 0; word < 4; word++) {
      let value = 0
      for (let i = 0; i < 8; i++) {
        const byte = bytes[at + word * 8 + i] as number
        value = (value << 4) | ((byte & 0xf) + (byte > 0x39 ? 9 : 0))
      }
      this.#digest[word] = value
    }
    line.at = at + DIGEST_DIGITS
    line.expect(BEFORE.responseDigest)
    if (line.isThere) line.skipQuoted()
    else line.skipNull()
  }

  #head(method: string, target: string): Head {
    const both = `${method} ${target}`
    const known = this.#heads.get(both)
    if (known !== undefined) return known
    if (this.#heads.size >= NAMES_CACHED_MAX) this.#heads.clear()
    const text = keyHead(method, target)
    const start = Buffer.from(canonicalStart(text))
    const head = { text, start, rules: keyRules(text, this.#ignore) }
    this.#heads.set(both, head)
    return head
  }

  /** The canonical key of the request that begins there; goes to its end. */
  #key(start: number, head: Head): Key {
    const line = this.#line
    line.at = start
    if (!line.isThere) {
      line.skipNull()
      return NO_KEY
    }
    const canonical = this.#canonical
    canonical.begin(head.start)
    const end = canonical.write(line.json, start, head.rules)
    if (end >= 0) {
      line.at = end
      return toKey(canonical.bytes.subarray(0, canonical.length))
    }
    line.skip()
    const value = JSON.parse(line.bytes.toString('utf8', start, line.at)) as Json
    return canonicalKeyOf(head.text, value, this.#ignore)
  }
}
