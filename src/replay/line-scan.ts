/**
 * A line of ours, read for the index without parsing it: values are jumped over, the few that count
 * are looked at, and the canonical key is made from the request's own text. What does not look just
 * like a line of ours is left to `JSON.parse` (the scan says so, and has done nothing).
 *
 * A line break must stand behind the line, and the line must be UTF-8; the caller has seen to both.
 */
import { CanonicalWriter } from './canonical-text.ts'
import type { IgnoreRules } from './canonical.ts'
import { skipSpace, skipString, skipValue } from './json-bytes.ts'
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
import type { Json } from './canonical.ts'
import type { Key } from './key.ts'
import { packLine } from './pack-record.ts'
import type { LinePlace } from './pack-record.ts'
import type { Packer } from './packed.ts'
import { readSourceLine } from './source-line.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { NAMES_CACHED_MAX } from '../limits.ts'

/** The keys of a line of ours in the order in which derive writes them. */
const KEYS = [
  'model',
  'stream',
  'status',
  'response_time',
  'start_time',
  'end_time',
  'request',
  'response',
  'error',
  'schema',
  'id',
  'seq',
  'session',
  'turn',
  'run',
  'protocol',
  'method',
  'path',
  'http_status',
  'outcome',
  'partial',
  'flags',
  'finish_reasons',
  'tokens',
  'usage',
  'timings',
  'attempts',
  'policy',
  'upstream',
  'sha256',
  'tape',
  'tags',
] as const

type LineKey = (typeof KEYS)[number]

const NUMBERS = Object.fromEntries(KEYS.map((name, i) => [name, i])) as Record<LineKey, number>
/** Each key as it stands in a line of ours, colon included. */
const NAMES = KEYS.map((name) => Buffer.from(`"${name}":`))

const DIGEST_START = Buffer.from('{"request":"')
const SEGMENT_START = Buffer.from('{"segment":')
const END_START = Buffer.from(',"end":')

/** What is known of a head: its canonical keys' first bytes, and the rules that hold for it. */
interface Head {
  readonly method: string
  readonly target: string
  readonly text: string
  readonly start: Buffer
  readonly rules: IgnoreRules
}

/** Reads lines of ours. */
export class LineScanner {
  readonly #ignore: IgnoreRules
  readonly #canonical = new CanonicalWriter()
  readonly #heads = new Map<string, Head>()
  readonly #texts = new ByteTexts()
  /** What each key had in the line before. */
  readonly #last: (ByteText | undefined)[] = KEYS.map(() => undefined)
  readonly #digest: [number, number, number, number] = [0, 0, 0, 0]
  #lastHead: Head | undefined
  /** Start and end of each key's value; -1 where it is missing. */
  readonly #spans = new Int32Array(KEYS.length * 2)

  constructor(ignore: IgnoreRules) {
    this.#ignore = ignore
  }

  /**
   * Packs the line that begins at `from` and returns where it ends (at its line break); -1 when it
   * is none that is surely a whole one of ours.
   */
  scan(packer: Packer, json: JsonBytes, from: number, offset: number): number {
    const { bytes } = json
    const end = this.#find(json, from)
    if (end < 0) return -1
    const record = this.#record(json)
    if (record === undefined) return -1
    const line = readSourceLine(record)
    if (typeof line === 'string') return -1
    const head = this.#head(line.method, line.target)
    const place: LinePlace = { offset, length: end - from }
    const canonical = bytes[this.#start('request')] === 0x6e ? NO_KEY : this.#key(json, head)
    const raw = rawKeyOf(head.text, this.#digest)
    packLine(packer, { line, raw, canonical, tape: record.tape, place })
    return end
  }

  /** Notes where the values stand; the line's end, or -1. */
  #find(json: JsonBytes, from: number): number {
    const { bytes } = json
    const spans = this.#spans.fill(-1)
    if (bytes[from] !== 0x7b) return -1
    let at = skipSpace(bytes, from + 1)
    for (let likely = 0; ;) {
      let name = likely
      let start = at + (NAMES[likely]?.length ?? 0)
      if (!isAt(bytes, at, NAMES[likely])) {
        const nameEnd = bytes[at] === 0x22 ? skipString(json, at) : -1
        start = nameEnd < 0 ? -1 : skipSpace(bytes, nameEnd) + 1
        if (start < 0 || bytes[start - 1] !== 0x3a) return -1
        name = nameAt(bytes, at, nameEnd)
        if (name === MISSPELT) return -1
      }
      start = skipSpace(bytes, start)
      const end = skipValue(json, start)
      if (end < 0) return -1
      if (name >= 0) {
        spans[name * 2] = start
        spans[name * 2 + 1] = end
        likely = name + 1
      }
      at = skipSpace(bytes, end)
      if (bytes[at] === 0x7d) break
      if (bytes[at] !== 0x2c) return -1
      at = skipSpace(bytes, at + 1)
    }
    at = skipSpace(bytes, at + 1)
    return bytes[at] === 0x0a ? at : -1
  }

  /** The record without its bodies: enough for all that the index asks of it. */
  #record(json: JsonBytes): StoredRecord | undefined {
    const { bytes } = json
    const tape = this.#tape(json)
    const seq = this.#number(bytes, 'seq')
    const turn = this.#number(bytes, 'turn')
    const status = this.#number(bytes, 'http_status')
    const model = this.#text(bytes, 'model')
    const schema = this.#text(bytes, 'schema')
    const session = this.#text(bytes, 'session')
    const protocol = this.#text(bytes, 'protocol')
    const method = this.#text(bytes, 'method')
    const path = this.#text(bytes, 'path')
    const outcome = this.#text(bytes, 'outcome')
    if (tape === undefined || typeof seq !== 'number' || typeof schema !== 'string')
      return undefined
    if (turn === undefined || status === undefined || model === undefined) return undefined
    if (typeof session !== 'string' || typeof protocol !== 'string') return undefined
    if (typeof method !== 'string' || typeof path !== 'string') return undefined
    if (typeof outcome !== 'string' || !this.#readDigest(bytes)) return undefined
    const [request, response] = [this.#start('request'), this.#start('response')]
    if (request < 0 || response < 0) return undefined
    return {
      model,
      stream: bytes[this.#start('stream')] === 0x74,
      status: 'success',
      response_time: 0,
      start_time: 0,
      end_time: 0,
      request: bytes[request] === 0x6e ? null : PLACEHOLDER,
      response: bytes[response] === 0x6e ? null : PLACEHOLDER,
      error: null,
      schema,
      seq,
      session,
      turn,
      protocol,
      method,
      path,
      http_status: status,
      outcome,
      partial: bytes[this.#start('partial')] === 0x74,
      tape,
    } as unknown as StoredRecord
  }

  #start(name: LineKey): number {
    return this.#spans[NUMBERS[name] * 2] ?? -1
  }

  #end(name: LineKey): number {
    return this.#spans[NUMBERS[name] * 2 + 1] ?? -1
  }

  /** Null as JSON has it; undefined when it is no string. */
  #text(bytes: Buffer, name: LineKey): string | null | undefined {
    const start = this.#start(name)
    if (start < 0) return undefined
    if (bytes[start] === 0x6e) return null
    if (bytes[start] !== 0x22) return undefined
    const last = this.#last[NUMBERS[name]]
    const end = this.#end(name)
    if (last !== undefined && isAt(bytes, start, last.quoted, end)) return last.value
    const text = this.#texts.at(bytes, start, end)
    this.#last[NUMBERS[name]] = text
    return text.value
  }

  /** Null as JSON has it; undefined when it is no whole number. */
  #number(bytes: Buffer, name: LineKey): number | null | undefined {
    const start = this.#start(name)
    if (start < 0) return undefined
    return bytes[start] === 0x6e ? null : wholeNumber(bytes, start, this.#end(name))
  }

  /** Reads the first 16 bytes of the request's digest; false when there is none. */
  #readDigest(bytes: Buffer): boolean {
    const start = this.#start('sha256')
    if (start < 0 || !isAt(bytes, start, DIGEST_START)) return false
    const at = start + DIGEST_START.length
    if (bytes[at + 64] !== 0x22) return false
    for (let word = 0; word < 4; word++) {
      let value = 0
      for (let i = 0; i < 8; i++) {
        const byte = bytes[at + word * 8 + i] as number
        value = (value << 4) | ((byte & 0xf) + (byte > 0x39 ? 9 : 0))
      }
      this.#digest[word] = value
    }
    return true
  }

  #tape(json: JsonBytes): { segment: string; end: number } | undefined {
    const { bytes } = json
    const start = this.#start('tape')
    if (start < 0 || !isAt(bytes, start, SEGMENT_START)) return undefined
    const name = start + SEGMENT_START.length
    const nameEnd = bytes[name] === 0x22 ? skipString(json, name) : -1
    if (nameEnd < 0 || !isAt(bytes, nameEnd, END_START)) return undefined
    const end = wholeNumber(bytes, nameEnd + END_START.length, this.#end('tape') - 1)
    return end === undefined
      ? undefined
      : { segment: this.#texts.at(bytes, name, nameEnd).value, end }
  }

  #head(method: string, target: string): Head {
    const last = this.#lastHead
    if (last !== undefined && last.method === method && last.target === target) return last
    const both = `${method} ${target}`
    const head = this.#heads.get(both) ?? this.#makeHead(method, target)
    if (this.#heads.size >= NAMES_CACHED_MAX) this.#heads.clear()
    this.#heads.set(both, head)
    this.#lastHead = head
    return head
  }

  #makeHead(method: string, target: string): Head {
    const text = keyHead(method, target)
    const start = Buffer.from(canonicalStart(text))
    return { method, target, text, start, rules: keyRules(text, this.#ignore) }
  }

  #key(json: JsonBytes, head: Head): Key {
    const [start, end] = [this.#start('request'), this.#end('request')]
    const canonical = this.#canonical
    canonical.begin(head.start)
    if (canonical.write(json, start, end, head.rules)) {
      return toKey(canonical.bytes.subarray(0, canonical.length))
    }
    const value = JSON.parse(json.bytes.toString('utf8', start, end)) as Json
    return canonicalKeyOf(head.text, value, this.#ignore)
  }
}

/** Which key stands here; -1 for any other. */
function nameAt(bytes: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) if (bytes[at] === 0x5c) return MISSPELT
  const name = bytes.toString('latin1', from + 1, end - 1)
  return (KEYS as readonly string[]).indexOf(name)
}

/** Stands for a body that is there. */
const PLACEHOLDER = {}

/** A name with an escape may be any of them. */
const MISSPELT = -2

/** True when this stands there, and with `end` nothing behind it. */
function isAt(bytes: Buffer, from: number, what: Buffer | undefined, end?: number): boolean {
  if (what === undefined || (end !== undefined && end - from !== what.length)) return false
  // What differs, differs near its end.
  for (let i = what.length - 1; i >= 0; i--) if (bytes[from + i] !== what[i]) return false
  return true
}

/** Undefined when there is anything but up to 15 digits. */
function wholeNumber(bytes: Buffer, from: number, end: number): number | undefined {
  if (end <= from || end - from > 15) return undefined
  let number = 0
  for (let at = from; at < end; at++) {
    const digit = (bytes[at] ?? 0) - 0x30
    if (digit < 0 || digit > 9) return undefined
    number = number * 10 + digit
  }
  return number
}

/** A string as it stands in JSON, and its value. */
interface ByteText {
  readonly quoted: Buffer
  readonly value: string
}

/** The values of strings as they stand in JSON, the ones met lately kept at hand. */
class ByteTexts {
  /** By hash of its bytes. */
  readonly #slots: (ByteText | undefined)[] = Array.from({
    length: NAMES_CACHED_MAX,
  })

  at(bytes: Buffer, from: number, end: number): ByteText {
    let hash = 0x811c9dc5
    for (let at = from; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193)
    const slot = (hash ^ (hash >>> 15)) & (NAMES_CACHED_MAX - 1)
    const known = this.#slots[slot]
    if (known !== undefined && isAt(bytes, from, known.quoted, end)) return known
    const quoted = Buffer.from(bytes.subarray(from, end))
    const text = { quoted, value: JSON.parse(quoted.toString('utf8')) as string }
    this.#slots[slot] = text
    return text
  }
}
