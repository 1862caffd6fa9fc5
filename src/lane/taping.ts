/**
 * One exchange's frames on their way to the lane's tape writer.
 *
 * Answer bytes gather in one pooled 16 KiB block, chunk after chunk with length and time, and go on
 * as one frame when it is full, when somebody waits for them, at the end, or after a second. What
 * the writer refuses (the disk is far behind or broken) is counted and noted in a GAP frame as soon
 * as one can be written.
 */
import { BLOCK_BYTES, BLOCKS_FREE_MAX } from '../limits.ts'
import type { AttemptFrame, EndFrame, MatchFrame, SentFrame } from '../tape/exchange.ts'
import {
  CHUNK_HEADER_BYTES,
  CHUNKS_HEADER_BYTES,
  FLAG_AT_END,
  FLAG_AT_HEAD,
  FLAG_REQUIRES_TOKENS,
  FLAG_SAME_BODY,
  KIND,
  formatBegin,
  formatEnd,
  formatHead,
  formatJson,
  formatSent,
  formatTrailers,
} from '../tape/format.ts'
import type { BeginFields, Kind } from '../tape/format.ts'
import type { CommitWaiter } from '../tape/commit-queue.ts'
import type { FrameTail, TapeWriter } from '../tape/writer.ts'
import type { Redaction } from './redaction.ts'

const DELTA_US_MAX = 0xffff_ffff

/** Blocks of one lane, reused. */
export class BlockPool {
  readonly #free: Buffer[] = []

  /** A block of 16 KiB with any content. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES)
  }

  /** Gives a block back; nobody may hold a view of it any more. */
  give(block: Buffer): void {
    if (this.#free.length < BLOCKS_FREE_MAX) this.#free.push(block)
  }
}

/** Writes one exchange's frames. */
export class Taping {
  /** Where the last frame stands. */
  readonly tail: FrameTail
  /** True when not even BEGIN could be taken: nothing of this exchange is on the tape. */
  lost = false
  /** True once a frame has been refused: the tape lacks a part of this exchange. */
  gapped = false
  /** Bytes that were refused and stand in no GAP frame yet. */
  #untapedBytes = 0
  readonly #writer: TapeWriter
  readonly #blocks: BlockPool
  readonly #redaction: Redaction
  #block: Buffer | undefined
  #blockTo = 0
  #lastUs = 0
  #policyVersion = ''

  constructor(writer: TapeWriter, blocks: BlockPool, seq: number, redaction: Redaction) {
    this.#writer = writer
    this.#redaction = redaction
    this.#blocks = blocks
    this.tail = { seq, segment: 0, offset: 0 }
  }

  /** True while answer bytes wait in the block. */
  get gathering(): boolean {
    return this.#block !== undefined
  }

  /** True when so much waits for the disk that the upstream should be paused. */
  get congested(): boolean {
    return this.#writer.congested
  }

  /** `requiresTokens`: a record that lacks some is to say so. */
  begin(fields: BeginFields, requiresTokens = false): void {
    this.#policyVersion = fields.policyVersion
    const flags = requiresTokens ? FLAG_REQUIRES_TOKENS : 0
    this.lost = !this.#writer.append(this.tail, KIND.begin, flags, formatBegin(fields))
  }

  request(bytes: Buffer): void {
    if (bytes.length > 0) this.#put(KIND.request, 0, bytes)
  }

  sent(frame: SentFrame): void {
    this.#put(KIND.sent, frame.body === undefined ? FLAG_SAME_BODY : 0, formatSent(frame))
  }

  /** The version at the answer's head, or its end; told where it is another than at dispatch. */
  policy(version: string, at: 'head' | 'end'): void {
    if (version === this.#policyVersion) return
    this.flush()
    this.#put(KIND.policy, at === 'head' ? FLAG_AT_HEAD : FLAG_AT_END, Buffer.from(version))
  }

  attempt(frame: AttemptFrame): void {
    this.#put(KIND.attempt, 0, formatJson(frame))
  }

  match(frame: MatchFrame): void {
    this.#put(KIND.match, 0, formatJson(frame))
  }

  /** Credentials among the headers stay off the tape. */
  head(atUs: number, status: number, reason: string, flat: readonly string[], flags: number): void {
    this.#put(KIND.head, flags, formatHead(atUs, status, reason, this.#redaction.headers(flat)))
  }

  /** Takes answer bytes; small ones are copied into the block, large ones kept by reference. */
  chunk(bytes: Buffer, atUs: number): void {
    const size = CHUNK_HEADER_BYTES + bytes.length
    if (size > BLOCK_BYTES / 2) return this.#longChunk(bytes, atUs)
    if (this.#block !== undefined && this.#blockTo + size > BLOCK_BYTES) this.flush()
    let block = this.#block
    if (block === undefined) {
      block = this.#blocks.take()
      block.writeDoubleLE(atUs, 0)
      this.#block = block
      this.#blockTo = CHUNKS_HEADER_BYTES
      this.#lastUs = atUs
    }
    const at = this.#blockTo
    block.writeUInt32LE(bytes.length, at)
    block.writeUInt32LE(Math.min(Math.max(0, atUs - this.#lastUs), DELTA_US_MAX), at + 4)
    bytes.copy(block, at + CHUNK_HEADER_BYTES)
    this.#lastUs = atUs
    this.#blockTo = at + size
  }

  /** Hands the block's content to the writer. */
  flush(): void {
    const block = this.#block
    if (block === undefined) return
    this.#block = undefined
    this.#put(KIND.chunks, 0, block.subarray(0, this.#blockTo))
    this.#blocks.give(block)
  }

  trailers(flat: readonly string[]): void {
    this.flush()
    if (flat.length === 0) return
    this.#put(KIND.trailers, 0, formatTrailers(this.#redaction.headers(flat)))
  }

  end(frame: EndFrame): void {
    this.flush()
    this.#put(KIND.end, 0, formatEnd(frame))
  }

  /** Starts a write of what has been handed over so far. */
  submit(): void {
    this.#writer.submit()
  }

  /** Tells the waiter when everything handed over so far is as durable as asked for. */
  commit(waiter: CommitWaiter): void {
    this.flush()
    this.#writer.commit(waiter)
  }

  /** Calls back when the writer is not congested any more. */
  onRelief(callback: () => void): void {
    this.#writer.onRelief(callback)
  }

  #longChunk(bytes: Buffer, atUs: number): void {
    this.flush()
    const prefix = Buffer.allocUnsafe(CHUNKS_HEADER_BYTES + CHUNK_HEADER_BYTES)
    prefix.writeDoubleLE(atUs, 0)
    prefix.writeUInt32LE(bytes.length, 8)
    prefix.writeUInt32LE(0, 12)
    this.#put(KIND.chunks, 0, bytes, prefix)
  }

  #put(kind: Kind, flags: number, payload: Buffer, prefix?: Buffer<ArrayBuffer>): void {
    if (this.lost) return
    if (this.#untapedBytes > 0) this.#gap()
    if (this.#untapedBytes > 0 || !this.#writer.append(this.tail, kind, flags, payload, prefix)) {
      this.#untapedBytes += payload.length
      this.gapped = true
    }
  }

  #gap(): void {
    const gap = { bytes: this.#untapedBytes, reason: 'the disk did not keep up' }
    if (this.#writer.append(this.tail, KIND.gap, 0, formatJson(gap))) this.#untapedBytes = 0
  }
}
