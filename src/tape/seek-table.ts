/**
 * A sealed segment's outer form: the segment's bytes as zstd frames of their own, one behind the
 * other, then a seek table in zstd's seekable format (contrib/seekable_format of facebook/zstd), in
 * a frame that decoders skip:
 *
 *   sealed segment = zstd frame* seek table
 *   seek table     = 5E 2A 4D 18 | bytes that follow u32
 *                    | per frame: compressed bytes u32, plain bytes u32
 *                    | frames u32 | 00 | B1 EA 92 8F
 *
 * Every frame but the last holds exactly 8 MiB of plain bytes, has its content's size in its header
 * (RFC 8878), and its checksum at its end. So the table can be made again from the frames alone.
 */
import { constants, zstdCompressSync } from 'node:zlib'
import { SEALED_FRAME_BYTES } from '../limits.ts'

const SKIPPABLE_MAGIC = 0x184d2a5e
const SEEKABLE_MAGIC = 0x8f92eab1
const FRAME_MAGIC = 0xfd2fb528
/** Magic and length. */
const HEAD_BYTES = 8
const ENTRY_BYTES = 8
const FOOTER_BYTES = 9
/** What the header of a frame of ours takes at most: magic, descriptor, window, content size. */
const FRAME_HEADER_BYTES_MAX = 4 + 1 + 1 + 8
const BLOCK_HEADER_BYTES = 3
/** Of a block that repeats one byte only that byte is there. */
const REPEATED_BLOCK = 1
/** 2^23 is a frame: matches are found in all of it. */
const WINDOW_LOG = 23

/** One zstd frame of a sealed segment. */
export interface SealedFrame {
  /** Where it stands in the file. */
  readonly at: number
  /** Its bytes there. */
  readonly bytes: number
  /** Plain bytes in it. */
  readonly plainBytes: number
}

/** Reads bytes of a file: fewer than asked for at its end. */
export type ReadAt = (at: number, bytes: number) => Buffer

/** One stretch of a segment as a frame that stands by itself. `level` is zstd's. */
export function packFrame(plain: Buffer, level: number): Buffer {
  return zstdCompressSync(plain, {
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_windowLog]: WINDOW_LOG,
      [constants.ZSTD_c_enableLongDistanceMatching]: 1,
      [constants.ZSTD_c_checksumFlag]: 1,
    },
    pledgedSrcSize: plain.length,
    chunkSize: SEALED_FRAME_BYTES,
  })
}

/** The seek table of these frames. */
export function formatSeekTable(frames: readonly SealedFrame[]): Buffer {
  const out = Buffer.alloc(HEAD_BYTES + frames.length * ENTRY_BYTES + FOOTER_BYTES)
  out.writeUInt32LE(SKIPPABLE_MAGIC, 0)
  out.writeUInt32LE(out.length - HEAD_BYTES, 4)
  for (const [i, { bytes, plainBytes }] of frames.entries()) {
    out.writeUInt32LE(bytes, HEAD_BYTES + i * ENTRY_BYTES)
    out.writeUInt32LE(plainBytes, HEAD_BYTES + i * ENTRY_BYTES + 4)
  }
  const footer = out.length - FOOTER_BYTES
  out.writeUInt32LE(frames.length, footer)
  out.writeUInt32LE(SEEKABLE_MAGIC, footer + 5)
  return out
}

/** Reads the seek table at the end of a file; undefined when what stands there is not a sound one. */
export function readSeekTable(read: ReadAt, fileBytes: number): SealedFrame[] | undefined {
  if (fileBytes < HEAD_BYTES + FOOTER_BYTES) return undefined
  const footer = Buffer.from(read(fileBytes - FOOTER_BYTES, FOOTER_BYTES))
  if (footer.length < FOOTER_BYTES || footer.readUInt32LE(5) !== SEEKABLE_MAGIC) return undefined
  const count = footer.readUInt32LE(0)
  const tableBytes = HEAD_BYTES + count * ENTRY_BYTES + FOOTER_BYTES
  if (footer[4] !== 0 || tableBytes > fileBytes) return undefined
  const table = Buffer.from(read(fileBytes - tableBytes, tableBytes))
  if (table.readUInt32LE(0) !== SKIPPABLE_MAGIC) return undefined
  if (table.readUInt32LE(4) !== tableBytes - HEAD_BYTES) return undefined
  const frames: SealedFrame[] = []
  let at = 0
  for (let i = 0; i < count; i++) {
    const bytes = table.readUInt32LE(HEAD_BYTES + i * ENTRY_BYTES)
    const plainBytes = table.readUInt32LE(HEAD_BYTES + i * ENTRY_BYTES + 4)
    frames.push({ at, bytes, plainBytes })
    at += bytes
  }
  return at === fileBytes - tableBytes && isRegular(frames, read) ? frames : undefined
}

/** True where every frame is as long as it must be; of the last one its own header tells that. */
function isRegular(frames: readonly SealedFrame[], read: ReadAt): boolean {
  const last = frames.at(-1)
  if (last === undefined) return false
  const told = headerOf(read(last.at, FRAME_HEADER_BYTES_MAX))?.plainBytes
  return (
    (told === undefined || told === last.plainBytes) &&
    frames.slice(0, -1).every(({ plainBytes }) => plainBytes === SEALED_FRAME_BYTES)
  )
}

/**
 * Finds the frames without a table, from the first one on as far as their block headers lead. For a
 * file whose end is cut or damaged.
 */
export function findFrames(read: ReadAt, fileBytes: number): SealedFrame[] {
  const frames: SealedFrame[] = []
  for (let at = 0; at < fileBytes;) {
    const header = headerOf(read(at, FRAME_HEADER_BYTES_MAX))
    const end = header && endOf(read, at + header.bytes, header.hasChecksum)
    if (header === undefined || end === undefined || end > fileBytes) break
    frames.push({ at, bytes: end - at, plainBytes: header.plainBytes })
    at = end
  }
  return frames
}

/** A frame's header (RFC 8878, 3.1.1.1); undefined when it is not like those that we write. */
function headerOf(
  bytes: Buffer,
): { bytes: number; plainBytes: number; hasChecksum: boolean } | undefined {
  if (bytes.length < FRAME_HEADER_BYTES_MAX || bytes.readUInt32LE(0) !== FRAME_MAGIC) {
    return undefined
  }
  const descriptor = bytes[4] ?? 0
  const isSingle = (descriptor & 0x20) !== 0
  const sizeOf = descriptor >> 6
  const at = isSingle ? 5 : 6
  if ((descriptor & 0x03) !== 0 || (sizeOf === 0 && !isSingle)) return undefined
  const plainBytes = [
    () => bytes.readUInt8(at),
    () => bytes.readUInt16LE(at) + 256,
    () => bytes.readUInt32LE(at),
    () => Number(bytes.readBigUInt64LE(at)),
  ][sizeOf]?.()
  if (plainBytes === undefined || plainBytes > SEALED_FRAME_BYTES) return undefined
  return { bytes: at + (1 << sizeOf), plainBytes, hasChecksum: (descriptor & 0x04) !== 0 }
}

/** Where the frame ends whose blocks begin at `at`. */
function endOf(read: ReadAt, at: number, hasChecksum: boolean): number | undefined {
  for (let next = at; ;) {
    const header = read(next, BLOCK_HEADER_BYTES)
    if (header.length < BLOCK_HEADER_BYTES) return undefined
    const word = header.readUIntLE(0, BLOCK_HEADER_BYTES)
    const bytes = ((word >> 1) & 3) === REPEATED_BLOCK ? 1 : word >> 3
    next += BLOCK_HEADER_BYTES + bytes
    if ((word & 1) === 1) return next + (hasChecksum ? 4 : 0)
  }
}
