/**
 * The sidecar of a file of records: `runs/a.jsonl.index`, what the index knows of its lines, so that
 * a replay need not read them. A cache: whatever is wrong with it, the lines are read instead.
 *
 *   header  "rtindex\n"  version u32  CRC32 of these 12 bytes
 *   block   header of 80 bytes, payload; again and again, in the order of the file's bytes
 *
 * A block of records stands for the lines between two offsets, knows the CRC32 of those bytes, and
 * has names of its own: it means something whatever became of the others. What no block stands for
 * is read from the lines. A seal, when it is the last block, vouches for those before it (from an
 * offset on), as long as the file has this size, this time of change, this head and this tail;
 * without one the bytes of each block are compared with its CRC32. All little-endian.
 */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { IgnoreRules } from './canonical.ts'
import { PACKED_WORDS } from './packed.ts'
import type { PackedNames, PackedRecords } from './packed.ts'

/** Where the sidecar of a file of records is. */
export function sidecarOf(file: string): string {
  return `${file}.index`
}

/** Bytes of the header. */
export const HEADER_BYTES = 16
const VERSION = 1
const MAGIC = Buffer.from('rtindex\n')

/** Bytes of a block's header. */
export const BLOCK_HEADER_BYTES = 80
const BLOCK_MAGIC = 0x42495452
const KIND_RECORDS = 1
const KIND_SEAL = 2

/** Where the fields of a block's header stand. */
const AT = {
  magic: 0,
  kind: 4,
  payloadBytes: 8,
  count: 12,
  lines: 16,
  contentCrc: 20,
  from: 24,
  to: 32,
  rules: 40,
  payloadCrc: 56,
  headerCrc: 76,
} as const

/** The lines that a block stands for. */
export interface BlockRange {
  /** Offset of the first line, and behind the last line's break. */
  readonly from: number
  readonly to: number
  /** Lines, blank ones too. */
  readonly lines: number
  /** CRC32 of the bytes between. */
  readonly contentCrc: number
}

/** A block of records. */
export interface RecordsBlock extends BlockRange {
  readonly records: PackedRecords
}

/** What the file was like when nothing more was written. */
export interface Seal {
  readonly size: number
  /** ns since the epoch, in digits. */
  readonly mtimeNs: string
  /** CRC32 of its first and last {@link EDGE_BYTES}. */
  readonly headCrc: number
  readonly tailCrc: number
  /** Blocks from this offset on need no other proof. */
  readonly vouchedFrom: number
}

/** Bytes of a file's head and tail that a seal knows. */
export const EDGE_BYTES = 4096

/** What a sidecar comes to. */
export interface ReadSidecar {
  readonly blocks: readonly RecordsBlock[]
  /** Undefined unless it is the last block. */
  readonly seal: Seal | undefined
  /** Behind the last block that is whole; what comes after is worth nothing. */
  readonly end: number
}

/** Says in 16 bytes which ignore rules canonical keys were made with. */
export function rulesDigest({ pointers, texts }: IgnoreRules): Buffer {
  const rules = [pointers, texts.map(({ source, flags }) => [source, flags])]
  return createHash('sha256').update(JSON.stringify(rules)).digest().subarray(0, 16)
}

/** The first bytes of a sidecar. */
export function sidecarHeader(): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt32LE(VERSION, 8)
  header.writeUInt32LE(crc32(header.subarray(0, 12)), 12)
  return header
}

/** A block of records, as it is written. */
export function recordsBlock(range: BlockRange, records: PackedRecords, rules: Buffer): Buffer {
  const { words, names } = records
  const entries = Buffer.from(words.buffer, words.byteOffset, words.byteLength)
  const text = Buffer.from(JSON.stringify(names))
  const padding = Buffer.alloc(-text.length & 3, 0x20)
  return block(KIND_RECORDS, [entries, text, padding], (header) => {
    header.writeUInt32LE(words.length / PACKED_WORDS, AT.count)
    header.writeUInt32LE(range.lines, AT.lines)
    header.writeUInt32LE(range.contentCrc, AT.contentCrc)
    header.writeDoubleLE(range.from, AT.from)
    header.writeDoubleLE(range.to, AT.to)
    rules.copy(header, AT.rules)
  })
}

/** A seal, as it is written. */
export function sealBlock(seal: Seal): Buffer {
  const text = Buffer.from(JSON.stringify(seal))
  return block(KIND_SEAL, [text, Buffer.alloc(-text.length & 3, 0x20)], () => {})
}

function block(kind: number, parts: readonly Buffer[], fill: (header: Buffer) => void): Buffer {
  const header = Buffer.alloc(BLOCK_HEADER_BYTES)
  header.writeUInt32LE(BLOCK_MAGIC, AT.magic)
  header.writeUInt32LE(kind, AT.kind)
  const payloadBytes = parts.reduce((sum, { length }) => sum + length, 0)
  header.writeUInt32LE(payloadBytes, AT.payloadBytes)
  fill(header)
  const payloadCrc = parts.reduce((crc, part) => crc32(part, crc), 0)
  header.writeUInt32LE(payloadCrc, AT.payloadCrc)
  header.writeUInt32LE(crc32(header.subarray(0, AT.headerCrc)), AT.headerCrc)
  return Buffer.concat([header, ...parts])
}

/**
 * Reads a sidecar of a file that has `size` bytes now. Blocks that are damaged, made with other
 * rules, or stand for what is not there are left out; behind a damaged header nothing is found.
 * Records are views of `bytes`, which must begin at a whole word.
 */
export function readSidecar(bytes: Buffer, rules: Buffer, size: number): ReadSidecar {
  const blocks: RecordsBlock[] = []
  if (!bytes.subarray(0, HEADER_BYTES).equals(sidecarHeader())) {
    return { blocks, seal: undefined, end: 0 }
  }
  let end = HEADER_BYTES
  let covered = 0
  let seal: Seal | undefined
  for (;;) {
    const header = bytes.subarray(end, end + BLOCK_HEADER_BYTES)
    if (!isHeader(header)) break
    const start = end + BLOCK_HEADER_BYTES
    const payload = bytes.subarray(start, start + header.readUInt32LE(AT.payloadBytes))
    if (payload.length < header.readUInt32LE(AT.payloadBytes)) break
    const isWhole = crc32(payload) === header.readUInt32LE(AT.payloadCrc)
    seal = undefined
    if (header.readUInt32LE(AT.kind) === KIND_SEAL) {
      if (isWhole) seal = JSON.parse(payload.toString()) as Seal
    } else {
      const one = rangeOf(header)
      if (one.from < covered || one.to > size) break
      covered = one.to
      const isOurs = header.subarray(AT.rules, AT.rules + 16).equals(rules)
      if (isWhole && isOurs) blocks.push({ ...one, records: recordsOf(header, payload) })
    }
    end = start + payload.length
  }
  return { blocks, seal, end }
}

function isHeader(header: Buffer): boolean {
  return (
    header.length === BLOCK_HEADER_BYTES &&
    header.readUInt32LE(AT.magic) === BLOCK_MAGIC &&
    header.readUInt32LE(AT.headerCrc) === crc32(header.subarray(0, AT.headerCrc))
  )
}

function rangeOf(header: Buffer): BlockRange {
  return {
    from: header.readDoubleLE(AT.from),
    to: header.readDoubleLE(AT.to),
    lines: header.readUInt32LE(AT.lines),
    contentCrc: header.readUInt32LE(AT.contentCrc),
  }
}

function recordsOf(header: Buffer, payload: Buffer): PackedRecords {
  const count = header.readUInt32LE(AT.count) * PACKED_WORDS
  return {
    words: new Int32Array(payload.buffer, payload.byteOffset, count),
    names: JSON.parse(payload.toString('utf8', count * 4)) as PackedNames,
  }
}
