/**
 * The one writer of a recording's `.jsonl`. Lines come from derive workers in batches; each batch
 * is one write, and a line whose exchange is in the file already is dropped, so that deriving
 * something twice changes nothing.
 *
 * Invariant between calls: the file ends with a line break, `bytes` is its length, and `derived`
 * holds the number of every exchange that has a line in it (or will never have one). The two are
 * written down together as a checkpoint, so that a restart looks only at what came after.
 */
import { basename } from 'node:path'
import { errorText } from '../errors.ts'
import type { PackedRecords } from '../replay/packed.ts'
import { SidecarWriter } from '../replay/sidecar-file.ts'
import { sidecarOf } from '../replay/sidecar.ts'
import type { Disk } from '../tape/disk.ts'
import { realDisk, replaceFile } from '../tape/disk.ts'
import { SeqSet } from './seq-set.ts'
import { SessionSums } from './session-sums.ts'
import type { SessionCount } from './session-sums.ts'
import type { SeqRange } from './seq-set.ts'

/** What a checkpoint file holds. */
export interface Checkpoint {
  readonly jsonlBytes: number
  /** Lines in those bytes; missing in checkpoints of before rotation. */
  readonly lines?: number
  readonly derived: readonly SeqRange[]
  /** The file is just being given this name in its folder, and another one begun. */
  readonly rotatingTo?: string
}

/** A part that was closed. */
export interface ClosedPart {
  readonly file: string
  readonly lines: number
}

/** Lines on their way to the file. */
export interface LineBatch {
  /** Exchange number of each line. */
  readonly seqs: readonly number[]
  /** The lines one after the other, each with its line break. */
  readonly bytes: Uint8Array
  /** Length of each line, line break included. */
  readonly lengths: readonly number[]
  /** Numbers of exchanges that will never be on the tape. */
  readonly voids: readonly number[]
  /** How each line counts for its session. */
  readonly counts?: readonly SessionCount[]
  /** What the index knows of each line; undefined when that could not be told. */
  readonly index?: PackedRecords | undefined
}

/** Where the appender writes. */
export interface AppenderFiles {
  readonly jsonl: string
  readonly checkpoint: string
  /** Whether to write the sidecar of the replay index as well. */
  readonly sidecar?: boolean
}

/** Appends lines. Synchronous: it has a thread of its own. */
export class Appender {
  /** Lines written since this appender began. */
  lines = 0
  /** What sessions come to by the lines written since this began, or since they were taken. */
  readonly sessions = new SessionSums()
  readonly #files: AppenderFiles
  readonly #disk: Disk
  readonly #derived: SeqSet
  #fd: number
  /** Lines of the file. */
  #partLines: number
  #sidecar: SidecarWriter | undefined
  #bytes: number
  /** A piece of a line stands behind `#bytes` and could not be cut off yet. */
  #torn = false
  #checkpointed = false

  constructor(files: AppenderFiles, from: Checkpoint, disk: Disk = realDisk) {
    this.#files = files
    this.#disk = disk
    this.#derived = SeqSet.from(from.derived)
    this.#partLines = from.lines ?? 0
    this.#fd = disk.openSync(files.jsonl, 'a')
    try {
      this.#bytes = disk.sizeSync(files.jsonl)
    } catch (error) {
      disk.closeSync(this.#fd)
      throw error
    }
    if (files.sidecar === true) this.#sidecar = new SidecarWriter(files.jsonl)
  }

  /** Which exchanges have their line, or will never have one. */
  get derived(): readonly SeqRange[] {
    return this.#derived.toJSON()
  }

  /** True when this exchange has its line already. */
  has(seq: number): boolean {
    return this.#derived.has(seq)
  }

  /** Lines of the file. */
  get partLines(): number {
    return this.#partLines
  }

  /** Bytes of the file. */
  get bytes(): number {
    return this.#bytes
  }

  /**
   * Writes a batch; returns those of its lines that were not in the file yet.
   * @throws when the disk does; the file is then as it was before, or is cut back by the next batch.
   */
  append(batch: LineBatch): readonly Buffer[] {
    const fresh = freshLines(batch, this.#derived)
    if (fresh.bytes.length > 0) {
      const from = this.#bytes
      this.#write(fresh.bytes)
      if (batch.index) this.#sidecar?.add(from, fresh.bytes, { records: batch.index, ...fresh })
      for (const seq of fresh.seqs) this.#derived.add(seq)
      this.#count(batch.counts ?? [], fresh.numbers)
      this.lines += fresh.seqs.length
      this.#partLines += fresh.seqs.length
    }
    for (const seq of batch.voids) this.#derived.add(seq)
    this.#checkpointed = false
    return fresh.lines
  }

  #count(counts: readonly SessionCount[], numbers: readonly number[]): void {
    for (const number of numbers) {
      const count = counts[number]
      if (count !== undefined) this.sessions.add(count)
    }
  }

  /**
   * Makes all lines durable.
   * @throws when the disk does.
   */
  sync(): void {
    this.#disk.fdatasyncSync(this.#fd)
  }

  /** Every number up to this has its line, or will never have one (a crash took it). */
  settle(seq: number): void {
    this.#derived.fill(seq)
    this.#checkpointed = false
  }

  /** Writes down how far this is, unless nothing has changed since the last time. */
  checkpoint(): void {
    this.#sidecar?.flush()
    if (this.#checkpointed) return
    this.#writeCheckpoint({})
    this.#checkpointed = true
  }

  /**
   * Closes the part: the file takes the name `to`, and an empty one takes its place. A crash at any
   * point is mended by the checkpoint, which says what is being done.
   * @throws when the disk does; the file is then as it was.
   */
  rotate(to: string): ClosedPart {
    if (this.#torn) this.#cutBack()
    this.#disk.fdatasyncSync(this.#fd)
    this.#writeCheckpoint({ rotatingTo: basename(to) })
    this.#checkpointed = false
    this.#sidecar?.close()
    try {
      this.#exchange(to)
    } finally {
      if (this.#files.sidecar === true) this.#sidecar = new SidecarWriter(this.#files.jsonl)
    }
    const closed = { file: to, lines: this.#partLines }
    this.#bytes = 0
    this.#partLines = 0
    // The one before says that a rotation is under way, which reads as well; the next one follows.
    attempt(() => this.checkpoint())
    return closed
  }

  /** The file takes its new name, its sidecar too, and an empty one takes its place. */
  #exchange(to: string): void {
    const { jsonl } = this.#files
    this.#disk.renameSync(jsonl, to)
    try {
      const closed = this.#fd
      this.#fd = this.#disk.openSync(jsonl, 'ax')
      attempt(() => this.#disk.closeSync(closed))
    } catch (error) {
      this.#disk.renameSync(to, jsonl)
      throw error
    }
    // Without one the lines are read.
    attempt(() => this.#disk.renameSync(sidecarOf(jsonl), sidecarOf(to)))
  }

  #writeCheckpoint(more: Pick<Checkpoint, 'rotatingTo'>): void {
    const checkpoint: Checkpoint = {
      jsonlBytes: this.#bytes,
      lines: this.#partLines,
      derived: this.#derived.toJSON(),
      ...more,
    }
    replaceFile(this.#disk, this.#files.checkpoint, JSON.stringify(checkpoint))
  }

  /**
   * Makes the lines durable, closes the file, writes a last checkpoint.
   * @throws when the disk does; the file is closed all the same.
   */
  close(): void {
    try {
      this.#disk.fdatasyncSync(this.#fd)
    } finally {
      this.#disk.closeSync(this.#fd)
      this.#sidecar?.close()
    }
    try {
      this.checkpoint()
    } catch (error) {
      throw new Error(`cannot write ${this.#files.checkpoint}: ${errorText(error)}`, {
        cause: error,
      })
    }
  }

  #write(bytes: Buffer): void {
    if (this.#torn) this.#cutBack()
    let done = 0
    try {
      while (done < bytes.length) {
        const wrote = this.#disk.writeSync(this.#fd, bytes.subarray(done), null)
        if (wrote === 0) throw new Error(`the disk took ${done} of ${bytes.length} bytes`)
        done += wrote
        this.#torn = true
      }
    } catch (error) {
      if (this.#torn) this.#cutBack()
      throw error
    }
    this.#torn = false
    this.#bytes += bytes.length
  }

  #cutBack(): void {
    this.#disk.truncateSync(this.#fd, this.#bytes)
    this.#torn = false
  }
}

/** Does what nothing hangs on. */
function attempt(what: () => void): void {
  try {
    what()
  } catch {
    // All that counts is on the disk itself before this.
  }
}

/** Lines of a batch that are not in the file. */
interface FreshLines {
  readonly bytes: Buffer
  readonly seqs: number[]
  /** Which of the batch's lines each one is, and its length. */
  readonly numbers: number[]
  readonly lengths: number[]
  readonly lines: readonly Buffer[]
}

function freshLines(batch: LineBatch, derived: SeqSet): FreshLines {
  const bytes = Buffer.from(batch.bytes.buffer, batch.bytes.byteOffset, batch.bytes.byteLength)
  const taken = new Set<number>()
  const seqs: number[] = []
  const kept: Buffer[] = []
  const numbers: number[] = []
  const lengths: number[] = []
  let at = 0
  for (const [i, seq] of batch.seqs.entries()) {
    const length = batch.lengths[i] ?? 0
    if (!derived.has(seq) && !taken.has(seq)) {
      taken.add(seq)
      seqs.push(seq)
      numbers.push(i)
      lengths.push(length)
      kept.push(bytes.subarray(at, at + length))
    }
    at += length
  }
  const all = seqs.length === batch.seqs.length
  return { bytes: all ? bytes : Buffer.concat(kept), seqs, numbers, lengths, lines: kept }
}
