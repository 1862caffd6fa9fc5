/**
 * Sidecars on disk: read against the file they belong to, written whole beside it, or continued by
 * who writes that file.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { crc32 } from 'node:zlib'
import { INDEX_BLOCK_BYTES, SIDECAR_BLOCK_RECORDS } from '../limits.ts'
import { IGNORE_NOTHING } from './canonical.ts'
import type { IgnoreRules } from './canonical.ts'
import { Packer } from './packed.ts'
import type { PackedRecords } from './packed.ts'
import {
  EDGE_BYTES,
  HEADER_BYTES,
  readSidecar,
  recordsBlock,
  rulesDigest,
  sealBlock,
  sidecarHeader,
  sidecarOf,
} from './sidecar.ts'
import type { BlockRange, ReadSidecar, RecordsBlock, Seal } from './sidecar.ts'

/** What a file was like when it was looked at. */
export interface FileState {
  readonly path: string
  readonly size: number
  /** ns since the epoch, in digits. */
  readonly mtimeNs: string
}

/** Looks at a file. Throws when it is not there. */
export function fileState(path: string): FileState {
  const { size, mtimeNs } = statSync(path, { bigint: true })
  return { path, size: Number(size), mtimeNs: String(mtimeNs) }
}

/** What a sidecar has of a file, proven; blocks in the order of the file's bytes. */
export interface LoadedSidecar {
  readonly blocks: readonly RecordsBlock[]
  /** Bytes of the file that had to be read for the proof. */
  readonly comparedBytes: number
}

/** Reads the sidecar of a file; one that is missing or unreadable has no blocks. */
export function loadSidecar(file: FileState, ignore: IgnoreRules): LoadedSidecar {
  const bytes = readWhole(sidecarOf(file.path))
  if (bytes === undefined) return { blocks: [], comparedBytes: 0 }
  const { blocks, seal } = readSidecar(bytes, rulesDigest(ignore), file.size)
  const fd = openSync(file.path, 'r')
  try {
    const vouchedFrom = seal !== undefined && holds(seal, fd, file) ? seal.vouchedFrom : Infinity
    let comparedBytes = 0
    const proven = blocks.filter((block) => {
      if (block.from >= vouchedFrom) return true
      comparedBytes += block.to - block.from
      return isContent(fd, block, file.size)
    })
    return { blocks: proven, comparedBytes }
  } finally {
    closeSync(fd)
  }
}

/** In memory that threads may share; undefined when there is none that can be read. */
function readWhole(path: string): Buffer | undefined {
  try {
    const fd = openSync(path, 'r')
    try {
      const bytes = Buffer.from(new SharedArrayBuffer(fstatSync(fd).size))
      return bytes.subarray(0, readAll(fd, bytes, 0))
    } finally {
      closeSync(fd)
    }
  } catch {
    return undefined
  }
}

function readAll(fd: number, into: Buffer, position: number): number {
  let got = 0
  while (got < into.length) {
    const n = readSync(fd, into, got, into.length - got, position + got)
    if (n === 0) break
    got += n
  }
  return got
}

function holds(seal: Seal, fd: number, { size, mtimeNs }: FileState): boolean {
  if (seal.size !== size || seal.mtimeNs !== mtimeNs) return false
  const edges = edgesOf(fd, size)
  return seal.headCrc === edges.headCrc && seal.tailCrc === edges.tailCrc
}

function edgesOf(fd: number, size: number): Pick<Seal, 'headCrc' | 'tailCrc'> {
  const edge = Buffer.alloc(Math.min(EDGE_BYTES, size))
  readAll(fd, edge, 0)
  const headCrc = crc32(edge)
  readAll(fd, edge, size - edge.length)
  return { headCrc, tailCrc: crc32(edge) }
}

/** True when these lines are just those that the block was made of, and end where they did. */
function isContent(fd: number, { from, to, contentCrc }: BlockRange, size: number): boolean {
  const window = Buffer.allocUnsafe(INDEX_BLOCK_BYTES)
  let crc = 0
  let last = 0
  for (let at = from; at < to;) {
    const piece = window.subarray(0, Math.min(window.length, to - at))
    if (readAll(fd, piece, at) < piece.length) return false
    crc = crc32(piece, crc)
    last = piece.at(-1) ?? 0
    at += piece.length
  }
  return crc === contentCrc && (last === 0x0a || to === size)
}

/** The seal for a file that is in this state; undefined when it has changed meanwhile. */
function sealFor(file: FileState, vouchedFrom: number): Seal | undefined {
  const fd = openSync(file.path, 'r')
  try {
    const { size, mtimeNs } = fstatSync(fd, { bigint: true })
    if (Number(size) !== file.size || String(mtimeNs) !== file.mtimeNs) return undefined
    return { size: file.size, mtimeNs: file.mtimeNs, vouchedFrom, ...edgesOf(fd, file.size) }
  } finally {
    closeSync(fd)
  }
}

/**
 * Writes the sidecar of a file whole, beside it, and puts it into its place. Nothing is written
 * when the file has changed meanwhile. Throws when the place cannot be written.
 */
export function writeSidecar(
  file: FileState,
  blocks: readonly RecordsBlock[],
  ignore: IgnoreRules,
): void {
  const seal = sealFor(file, 0)
  if (seal === undefined) return
  const path = sidecarOf(file.path)
  const beside = `${path}.${process.pid}.new`
  const rules = rulesDigest(ignore)
  const fd = openSync(beside, 'w', 0o600)
  try {
    writeSync(fd, sidecarHeader())
    for (const block of blocks) writeSync(fd, recordsBlock(block, block.records, rules))
    writeSync(fd, sealBlock(seal))
    renameSync(beside, path)
  } catch (error) {
    rmSync(beside, { force: true })
    throw error
  } finally {
    closeSync(fd)
  }
}

/**
 * The sidecar of a file that is being written, continued by its writer. Nothing it does can fail
 * its writer: after an error no more is written, and what is missing is read from the lines.
 */
export class SidecarWriter {
  readonly #file: string
  readonly #packer = new Packer()
  readonly #rules = rulesDigest(IGNORE_NOTHING)
  #fd: number | undefined
  #vouchedFrom = 0
  #from = 0
  #to = 0
  #crc = 0

  /** Takes up the sidecar of a file that is this long, or begins one. */
  constructor(file: string) {
    this.#file = file
    this.#attempt(() => this.#open())
  }

  /** These lines have been written from `from` on. */
  add(
    from: number,
    bytes: Buffer,
    lines: {
      readonly records: PackedRecords
      /** Which of the records each line has, and its length with its line break. */
      readonly numbers: readonly number[]
      readonly lengths: readonly number[]
    },
  ): void {
    if (this.#fd === undefined) return
    if (from !== this.#to) this.flush()
    if (this.#packer.count === 0) this.#from = from
    let at = from
    for (const [i, length] of lines.lengths.entries()) {
      const place = { offset: at, length: length - 1 }
      this.#packer.addPacked(lines.records, lines.numbers[i] ?? 0, place)
      at += length
    }
    this.#to = at
    this.#crc = crc32(bytes, this.#crc)
    if (this.#packer.count >= SIDECAR_BLOCK_RECORDS) this.flush()
  }

  /** Writes what is gathered. */
  flush(): void {
    const lines = this.#packer.count
    if (lines === 0) return
    const range = { from: this.#from, to: this.#to, lines, contentCrc: this.#crc }
    const records = this.#packer.take()
    this.#crc = 0
    this.#attempt((fd) => writeAll(fd, recordsBlock(range, records, this.#rules)))
  }

  /** The file has its last line: what was written is vouched for. */
  close(): void {
    this.flush()
    this.#attempt((fd) => {
      const seal = sealFor(fileState(this.#file), this.#vouchedFrom)
      if (seal !== undefined) writeAll(fd, sealBlock(seal))
      closeSync(fd)
    })
    this.#fd = undefined
  }

  #open(): void {
    const file = fileState(this.#file)
    const path = sidecarOf(this.#file)
    const before = readWhole(path)
    const known: ReadSidecar | undefined = before && readSidecar(before, this.#rules, file.size)
    this.#to = file.size
    this.#vouchedFrom = file.size
    if (known?.seal !== undefined) {
      const fd = openSync(this.#file, 'r')
      if (holds(known.seal, fd, file)) this.#vouchedFrom = known.seal.vouchedFrom
      closeSync(fd)
    } else if (file.size === 0) {
      this.#vouchedFrom = 0
    }
    const end = known?.end ?? 0
    this.#fd = openSync(path, 'a', 0o600)
    ftruncateSync(this.#fd, end < HEADER_BYTES ? 0 : end)
    if (end < HEADER_BYTES) writeAll(this.#fd, sidecarHeader())
  }

  #attempt(act: (fd: number) => void): void {
    try {
      act(this.#fd ?? -1)
    } catch {
      const fd = this.#fd
      this.#fd = undefined
      if (fd !== undefined && fd >= 0) closeSync(fd)
    }
  }
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length;) {
    const wrote = writeSync(fd, bytes, done, bytes.length - done)
    if (wrote === 0) throw new Error('the disk takes no more')
    done += wrote
  }
}
