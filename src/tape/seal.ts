/**
 * Seals a segment that nobody writes any more: packs it, makes that durable, reads it back, and only
 * then takes the plain file away. Synchronous; for a thread of its own.
 *
 * A crash at any step leaves the plain segment, or the sealed one, or both; both are whole, since
 * either is durable before the other may go. Where a power cut left a piece of the plain one all the
 * same (it was not durable), the sealed one is never replaced by it. What is half done has a name
 * that no reader looks at:
 *
 *   0-000001.tape.zst.new   being written
 *   0-000001.tape.zst       whole, on the disk, compared with the plain one
 */
import { createHash } from 'node:crypto'
import { SEALED_FRAME_BYTES } from '../limits.ts'
import type { Disk } from './disk.ts'
import { realDisk, writeWhole } from './disk.ts'
import { SEALED_SUFFIX } from './format.ts'
import { formatSeekTable, packFrame } from './seek-table.ts'
import type { SealedFrame } from './seek-table.ts'
import { FrameCache, openSealedFile, openSegmentBytes } from './segment-bytes.ts'
import type { SegmentBytes } from './segment-bytes.ts'

/** zstd's own default: higher ones cost several times the CPU and gain a few percent here. */
const LEVEL = 3

/** What sealing came to. */
export interface Sealed {
  readonly plainBytes: number
  readonly sealedBytes: number
  /** Bytes that a plain file lacked which stood beside its whole sealed form. */
  readonly lackedBytes: number
}

/**
 * Seals a segment, e.g. `0-000001.tape`.
 * @throws when the disk does, what was packed is not what is read back, or what was sealed before
 *   holds more and is damaged; then both forms are as they were.
 */
export function sealSegment(folder: string, name: string, disk: Disk = realDisk): Sealed {
  const plain = `${folder}/${name}`
  const sealed = `${plain}${SEALED_SUFFIX}`
  const beside = `${sealed}.new`
  const source = openSegmentBytes(folder, name, disk, new FrameCache(1))
  try {
    disk.removeSync(beside)
    if (source.isSealed) return removePlain(source, folder, name, disk)
    const packed = pack(source, beside, disk)
    const found = readBack(beside, disk)
    if (found !== packed.digest) {
      throw new Error(`${beside} is not what ${plain} is: the disk or the memory is at fault`)
    }
    syncPlain(plain, disk)
    disk.renameSync(beside, sealed)
    disk.syncFolderSync(folder)
    disk.removeSync(plain)
    disk.syncFolderSync(folder)
    return { plainBytes: source.size, sealedBytes: packed.bytes, lackedBytes: 0 }
  } catch (error) {
    disk.removeSync(beside)
    throw error
  } finally {
    source.close()
  }
}

/** The sealed form is what counts: nothing but the plain file is in its way. */
function removePlain(sealed: SegmentBytes, folder: string, name: string, disk: Disk): Sealed {
  const plain = `${folder}/${name}`
  if (!sealed.isSound()) {
    throw new Error(`${plain} holds less than ${name}${SEALED_SUFFIX}, which is damaged`)
  }
  const lackedBytes = sealed.size - disk.sizeSync(plain)
  disk.removeSync(plain)
  disk.syncFolderSync(folder)
  const sealedBytes = disk.sizeSync(`${plain}${SEALED_SUFFIX}`)
  return { plainBytes: sealed.size, sealedBytes, lackedBytes }
}

/** Where its removal is not durable the plain file comes back as it is on the disk itself. */
function syncPlain(plain: string, disk: Disk): void {
  const fd = disk.openSync(plain, 'r')
  try {
    disk.fdatasyncSync(fd)
  } finally {
    disk.closeSync(fd)
  }
}

/** Writes the packed form and makes it durable; tells the digest of what was packed. */
function pack(source: SegmentBytes, path: string, disk: Disk): { digest: string; bytes: number } {
  const digest = createHash('sha256')
  const frames: SealedFrame[] = []
  const fd = disk.openSync(path, 'wx')
  try {
    let at = 0
    const write = (bytes: Buffer): void => {
      writeWhole(disk, fd, bytes, at)
      at += bytes.length
    }
    for (const plain of stretches(source)) {
      digest.update(plain)
      const frame = packFrame(plain, LEVEL)
      frames.push({ at, bytes: frame.length, plainBytes: plain.length })
      write(frame)
    }
    write(formatSeekTable(frames))
    // How old what is in it is, not the file: for tape_retain.
    disk.setWrittenSync(fd, source.writtenMs)
    disk.fdatasyncSync(fd)
    return { digest: digest.digest('hex'), bytes: at }
  } finally {
    disk.closeSync(fd)
  }
}

function readBack(path: string, disk: Disk): string {
  const digest = createHash('sha256')
  const packed = openSealedFile(path, disk)
  try {
    for (const plain of stretches(packed)) digest.update(plain)
  } finally {
    packed.close()
  }
  return digest.digest('hex')
}

/** The bytes of a segment in pieces of a frame's length; each is good until the next. */
function* stretches(bytes: SegmentBytes): Generator<Buffer> {
  const memory = Buffer.allocUnsafeSlow(SEALED_FRAME_BYTES)
  for (let position = 0; ;) {
    let got = 0
    while (got < memory.length) {
      const n = bytes.read(memory, got, memory.length - got, position + got)
      if (n === 0) break
      got += n
    }
    if (got === 0) return
    yield memory.subarray(0, got)
    position += got
  }
}
