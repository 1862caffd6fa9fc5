/**
 * The bytes of a segment, whichever form it has on disk: plain, or sealed as zstd frames with a seek
 * table. Offsets are always those of the plain segment, so whoever holds a place on the tape need
 * not know. A reader that has a segment open keeps reading it when it is sealed or let go meanwhile:
 * what it has is the file, not its name.
 *
 * Of a sealed segment only the frames that are asked for are unpacked; a few stay at hand. A frame
 * that cannot be unpacked reads as zeros, in which no tape frame is found: so the damage is told,
 * with segment and offset, by the same walk that tells any other.
 */
import { zstdDecompressSync } from 'node:zlib'
import { RolltapeError } from '../errors.ts'
import { SEALED_FRAMES_KEPT_MAX } from '../limits.ts'
import type { Disk } from './disk.ts'
import { SEALED_SUFFIX } from './format.ts'
import { findFrames, readSeekTable } from './seek-table.ts'
import type { SealedFrame } from './seek-table.ts'

/** An open segment. */
export interface SegmentBytes {
  /** Plain bytes it has now. */
  readonly size: number
  /** True for a file that no name leads to any more. */
  readonly isGone: boolean
  /** What is wrong with its outer form; undefined when nothing is. */
  readonly trouble: string | undefined
  /** True for the sealed form. */
  readonly isSealed: boolean
  /** When it was last written, ms since the epoch. */
  readonly writtenMs: number
  /** Reads plain bytes; fewer than asked for at the end, 0 behind it. */
  read(into: Buffer, at: number, bytes: number, position: number): number
  /** True when every frame of the sealed form unpacks; of a plain one nothing says so. */
  isSound(): boolean
  close(): void
}

/** Unpacked frames that readers in one thread share; the one asked for last goes last. */
export class FrameCache {
  readonly #framesMax: number
  readonly #frames = new Map<string, Buffer>()

  constructor(framesMax = SEALED_FRAMES_KEPT_MAX) {
    this.#framesMax = framesMax
  }

  /** How many are at hand. */
  get size(): number {
    return this.#frames.size
  }

  /** The frame of this name, made if need be. */
  take(name: string, make: () => Buffer): Buffer {
    const frame = this.#frames.get(name) ?? make()
    this.#frames.delete(name)
    this.#frames.set(name, frame)
    const [oldest] = this.#frames.keys()
    if (this.#frames.size > this.#framesMax && oldest !== undefined) this.#frames.delete(oldest)
    return frame
  }
}

/**
 * Opens a segment by its name, e.g. `0-000001.tape`. Where both forms are there the longer one
 * counts: a power cut may bring back a piece of the plain one, or leave a piece of the other. Of two
 * of one length it is the sealed one, if its table is sound: it was read back when it got its name.
 * @throws RolltapeError `not_found` when neither is there.
 */
export function openSegmentBytes(
  folder: string,
  name: string,
  disk: Disk,
  cache: FrameCache,
): SegmentBytes {
  const path = `${folder}/${name}`
  const plainFd = openIfThere(path, disk)
  const plain = plainFd === undefined ? undefined : new PlainBytes(plainFd, disk)
  let sealed: SegmentBytes | undefined
  try {
    sealed = openSealedIfThere(`${path}${SEALED_SUFFIX}`, disk, cache)
    if (sealed !== undefined && plain !== undefined) {
      const more = sealed.size - plain.size
      const counts = more > 0 || (more === 0 && sealed.trouble === undefined)
      const [one, other] = counts ? [sealed, plain] : [plain, sealed]
      other.close()
      return one
    }
  } catch (error) {
    sealed?.close()
    plain?.close()
    throw error
  }
  const there = plain ?? sealed
  if (there !== undefined) return there
  throw new RolltapeError('not_found', `${path}: the segment is not there`, {
    hint: 'it was moved, or not copied with the rest',
  })
}

/** A sealed file by its path, whatever stands beside it. */
export function openSealedFile(path: string, disk: Disk): SegmentBytes {
  return sealedBytes(disk.openSync(path, 'r'), path, disk, new FrameCache(1))
}

function openSealedIfThere(path: string, disk: Disk, cache: FrameCache): SegmentBytes | undefined {
  const fd = openIfThere(path, disk)
  return fd === undefined ? undefined : sealedBytes(fd, path, disk, cache)
}

function sealedBytes(fd: number, path: string, disk: Disk, cache: FrameCache): SegmentBytes {
  try {
    return new SealedBytes(fd, path, disk, cache)
  } catch (error) {
    disk.closeSync(fd)
    throw error
  }
}

/** Opens a file for reading; undefined when there is none of this name. */
export function openIfThere(path: string, disk: Disk): number | undefined {
  try {
    return disk.openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return undefined
  }
}

class PlainBytes implements SegmentBytes {
  readonly isSealed = false
  readonly trouble = undefined
  readonly #fd: number
  readonly #disk: Disk

  constructor(fd: number, disk: Disk) {
    this.#fd = fd
    this.#disk = disk
  }

  get size(): number {
    return this.#disk.statSync(this.#fd).bytes
  }

  get isGone(): boolean {
    return !this.#disk.statSync(this.#fd).isNamed
  }

  get writtenMs(): number {
    return this.#disk.statSync(this.#fd).writtenMs
  }

  read(into: Buffer, at: number, bytes: number, position: number): number {
    return this.#disk.readSync(this.#fd, into, at, bytes, position)
  }

  isSound(): boolean {
    return false
  }

  close(): void {
    this.#disk.closeSync(this.#fd)
  }
}

/** Names frames in a cache: a file of the same name may be another one later. */
let opened = 0

class SealedBytes implements SegmentBytes {
  readonly isSealed = true
  readonly size: number
  readonly trouble: string | undefined
  readonly #fd: number
  readonly #disk: Disk
  readonly #cache: FrameCache
  readonly #id: number
  readonly #frames: readonly (SealedFrame & { readonly plainAt: number })[]

  constructor(fd: number, path: string, disk: Disk, cache: FrameCache) {
    this.#fd = fd
    this.#disk = disk
    this.#cache = cache
    this.#id = ++opened
    const { bytes } = disk.statSync(fd)
    const read = (at: number, count: number): Buffer => this.#raw(at, count)
    const table = readSeekTable(read, bytes)
    let plainAt = 0
    this.#frames = (table ?? findFrames(read, bytes)).map((frame) => {
      plainAt += frame.plainBytes
      return { ...frame, plainAt: plainAt - frame.plainBytes }
    })
    this.size = plainAt
    if (table === undefined) {
      this.trouble = `${path}: its seek table is damaged; ${this.#frames.length} frames were found without it`
    }
  }

  get isGone(): boolean {
    return !this.#disk.statSync(this.#fd).isNamed
  }

  get writtenMs(): number {
    return this.#disk.statSync(this.#fd).writtenMs
  }

  read(into: Buffer, at: number, bytes: number, position: number): number {
    const frame = this.#frameAt(position)
    if (frame === undefined) return 0
    const plain = this.#cache.take(`${this.#id} ${frame.at}`, () => {
      return this.#unpacked(frame) ?? Buffer.alloc(frame.plainBytes)
    })
    const from = position - frame.plainAt
    return plain.copy(into, at, from, Math.min(plain.length, from + bytes))
  }

  isSound(): boolean {
    return this.trouble === undefined && this.#frames.every((one) => this.#unpacked(one))
  }

  close(): void {
    this.#disk.closeSync(this.#fd)
  }

  #frameAt(position: number): (SealedFrame & { readonly plainAt: number }) | undefined {
    if (position >= this.size) return undefined
    // All but the last are of one length.
    const first = this.#frames[0]
    return first && this.#frames[Math.floor(position / Math.max(1, first.plainBytes))]
  }

  /** A frame's plain bytes; undefined when it is damaged. */
  #unpacked({ at, bytes, plainBytes }: SealedFrame): Buffer | undefined {
    try {
      const options = { maxOutputLength: plainBytes, chunkSize: Math.max(64, plainBytes) }
      const plain = zstdDecompressSync(this.#raw(at, bytes), options)
      return plain.length === plainBytes ? plain : undefined
    } catch (error) {
      // The disk's own failures are no damage.
      if ((error as { syscall?: string }).syscall !== undefined) throw error
      return undefined
    }
  }

  #raw(at: number, bytes: number): Buffer {
    const into = Buffer.allocUnsafe(bytes)
    let got = 0
    while (got < bytes) {
      const n = this.#disk.readSync(this.#fd, into, got, bytes - got, at + got)
      if (n === 0) break
      got += n
    }
    return into.subarray(0, got)
  }
}
