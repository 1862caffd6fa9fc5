/**
 * The client's side of one exchange: writes the answer to the client and lays it on the tape, and
 * holds back the last bytes until what holds them is committed.
 *
 * What the last bytes are is decided before they go: the final bytes of a Content-Length; the
 * closing chunk of a body without one; the head itself where there is no body; for an SSE stream in
 * clear the chunk that completes the terminal mark and all after it; for an SSE stream whose mark
 * cannot be seen, every chunk. Between calls `held` has, in order, what waits for a commit: chunks,
 * then perhaps the end.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { FLAG_INTERIM, FLAG_OWN } from '../tape/format.ts'
import type { EndFrame } from '../tape/exchange.ts'
import type { CommitWaiter } from '../tape/commit-queue.ts'
import type { AnswerStrip } from '../transforms/strip-answer.ts'
import { endsEvent, framed, lastBytes, pairs, withoutTrailer, writeLong } from './framing.ts'
import { headerValue } from './headers.ts'
import { MarkScanner, markSetOf } from './mark.ts'
import type { Taping } from './taping.ts'
import { reset } from '../reset.ts'

/** What a relay asks of the exchange it belongs to. */
export interface RelayOwner {
  /** Stop reading from the upstream: the client or the disk is slower. */
  pauseUpstream(): void
  resumeUpstream(): void
  /** The answer is complete and on its way to the client (or the client is gone). */
  onAnswered(): void
  /** END is committed, or could not be (policy `passthrough`). */
  onTaped(error: Error | undefined): void
  /** What the client waits for could not be committed (policy `refuse`); its answer is to be cut. */
  onCommitFailed(error: Error): void
}

/** What is known with an answer's head. */
export interface HeadOptions {
  /** rolltape made the answer itself. */
  readonly own: boolean
  /** The request's path. */
  readonly path: string
  /** Given when the client gets less than comes. */
  readonly strip?: AnswerStrip | undefined
}

const FINISH = Symbol('the end of the answer')
const CUT = Symbol('the place where the answer broke off')
/**
 * Writing no bytes puts the head on the wire, in Latin-1 as all heads are. `flushHeaders` would write
 * it as UTF-8, which changes every byte beyond ASCII.
 */
const NOTHING = Buffer.alloc(0)
const HEARTBEAT = Buffer.from(': heartbeat\n\n')
/** Above this a chunk is written as it is, between its framing, instead of being copied. */
const COPY_BYTES_MAX = 16_384

/** Relays one answer. */
export class Relay implements CommitWaiter {
  /** Body bytes that came from the upstream. */
  receivedBytes = 0
  /** Body bytes handed to the client's socket, those held included once they are let go. */
  forwardedBytes = 0
  /** True once the final head was taken from the upstream (or made by rolltape). */
  hasHead = false
  /** A terminal mark has been seen. */
  marked = false
  /** `performance.now()` when the oldest commit still waited for was asked; 0 when none is. */
  waitingSinceMs = 0

  readonly #owner: RelayOwner
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  /** What happens to held bytes when they cannot be committed. */
  readonly #onTapeFailure: 'refuse' | 'passthrough'
  #taping: Taping | undefined
  /** False while nothing is held: without a tape, and with durability `memory`. */
  #holds = false
  #gone = false
  #headFlushed = false
  #bodyless = false
  #chunked = false
  #lengthLeft = -1
  #eachHeld = false
  #scanner: MarkScanner | undefined
  #sse = false
  #viaRes = false
  #tail: Buffer | undefined
  #held: (Buffer | typeof FINISH | typeof CUT)[] = []
  #heldEver = 0
  #released = 0
  #commits: number[] = []
  #ended = false
  #draining = false
  #strip: AnswerStrip | undefined
  /** Writes the head that waits for its body to be stripped. */
  #openLater: (() => void) | undefined

  constructor(
    owner: RelayOwner,
    req: IncomingMessage,
    res: ServerResponse,
    onTapeFailure: 'refuse' | 'passthrough',
  ) {
    this.#owner = owner
    this.#req = req
    this.#res = res
    this.#onTapeFailure = onTapeFailure
  }

  /**
   * Lays the answer on the tape too; to be said before its head. `holds`: the last bytes wait until
   * they are committed.
   */
  record(taping: Taping, holds: boolean): void {
    this.#taping = taping
    this.#holds = holds
  }

  /** Bytes that are held for a commit and would count as forwarded once let go. */
  get heldBytes(): number {
    if (this.#gone) return 0
    let bytes = 0
    for (const item of this.#held) if (typeof item !== 'symbol') bytes += item.length
    return bytes
  }

  /** Passes a 1xx answer on; HTTP/1.0 clients know none, so they get none. */
  interim(atUs: number, status: number, reason: string, flat: readonly string[]): void {
    this.#taping?.head(atUs, status, reason, flat, FLAG_INTERIM)
    const socket = this.#res.socket
    if (this.#gone || this.#req.httpVersionMinor < 1 || socket === null) return
    let text = `HTTP/1.1 ${status} ${reason}\r\n`
    for (let i = 0; i + 1 < flat.length; i += 2) text += `${flat[i]}: ${flat[i + 1]}\r\n`
    socket.write(`${text}\r\n`, 'latin1')
  }

  /**
   * Takes the final head. `flat` is without hop-by-hop fields; `strip` makes what comes after it into
   * what the client gets, and may hold the head back until it knows how long that is.
   * @throws when node refuses the head (control characters in it).
   */
  head(atUs: number, status: number, reason: string, flat: string[], options: HeadOptions): void {
    this.#strip = options.strip
    const open = (): void =>
      this.#open(status, reason, options.strip?.headers(flat) ?? flat, options)
    if (options.strip?.holdsHead === true) this.#openLater = open
    else open()
    this.hasHead = true
    const flags = options.own ? FLAG_OWN : 0
    this.#taping?.head(atUs, status, reason, flat, flags)
    if (!this.#bodyless && !options.own) process.nextTick(flushHead, this)
  }

  /** Takes answer bytes. The upstream is paused through the owner when they cannot go on. */
  data(chunk: Buffer, atUs: number): void {
    this.receivedBytes += chunk.length
    const taping = this.#taping
    taping?.chunk(chunk, atUs)
    this.#pass(this.#strip === undefined ? chunk : this.#strip.push(chunk))
    if (taping?.gapped === true && this.#onTapeFailure === 'refuse') {
      return this.#owner.onCommitFailed(new Error('the tape takes no more of it'))
    }
    if (taping?.congested) this.#waitForDisk(taping)
  }

  /**
   * The upstream has ended: what was held back to be stripped goes on. To be said before the end.
   * @throws as {@link head}, where it was held.
   */
  complete(): void {
    const strip = this.#strip
    if (strip === undefined) return
    const rest = strip.end()
    this.#openHeld()
    this.#pass(rest)
  }

  /** Writes an SSE comment, when the stream stands between two events. */
  heartbeat(): void {
    if (!this.#sse || !this.#chunked || this.#gone || this.#held.length > 0) return
    if (this.#tail !== undefined && !endsEvent(this.#tail)) return
    this.#write(HEARTBEAT)
  }

  /** The answer came whole: trailers and END go to the tape, and the client gets its end. */
  end(trailers: readonly string[], frame: EndFrame): void {
    this.#taping?.trailers(trailers)
    this.#taping?.end(frame)
    if (trailers.length > 0 && this.#chunked && !this.#gone) {
      this.#res.addTrailers(pairs(trailers))
    }
    if (this.#taping === undefined) return this.#finish()
    if (this.#holds && !this.#gone) this.#hold(FINISH)
    else this.#finish()
    this.#ended = true
    this.#commit()
  }

  /**
   * The answer broke off: END goes to the tape and the client's socket is destroyed, once what is
   * held has gone out. A head that still waits for its body never goes.
   */
  cut(frame: EndFrame): void {
    this.#taping?.end(frame)
    if (this.#held.length > 0 && !this.#gone) this.#hold(CUT)
    else this.#finishCut()
    this.#ended = true
    if (this.#taping !== undefined) this.#commit()
  }

  /** Destroys the client's connection so that no client can take the answer for whole. */
  abandonClient(): void {
    if (this.#gone) return
    const closeDelimited = this.hasHead && !this.#chunked && this.#lengthLeft < 0
    const socket = this.#res.socket
    if (closeDelimited && socket !== null) reset(socket)
    else this.#res.destroy()
    // A pipelined answer that is not its socket's turn yet has no other way to break off.
    if (socket === null) this.#req.socket.destroy()
    this.clientGone()
  }

  /** The client has left: nothing is written any more, the tape goes on. */
  clientGone(): void {
    this.#gone = true
    this.#draining = false
  }

  onCommitted(error: Error | undefined): void {
    const upTo = this.#commits.shift() ?? this.#heldEver
    this.waitingSinceMs = this.#commits.length === 0 ? 0 : performance.now()
    if (error !== undefined && this.#onTapeFailure === 'refuse') {
      return this.#owner.onCommitFailed(error)
    }
    this.#release(upTo)
    if (this.#commits.length === 0 && this.#ended) this.#owner.onTaped(error)
  }

  /** Lets everything held go without a commit (policy `passthrough`, the disk hangs). */
  releaseAll(): void {
    this.waitingSinceMs = 0
    this.#release(this.#heldEver)
  }

  /** Puts the head on the wire, unless it will go with a held body. */
  flushHead(): void {
    if (this.#headFlushed || this.#gone || this.#held.length > 0 || this.#openLater) return
    this.#headFlushed = true
    this.#res.write(NOTHING)
  }

  #open(status: number, reason: string, flat: string[], { path }: HeadOptions): void {
    const length = headerValue(flat, 'content-length')
    this.#bodyless = this.#req.method === 'HEAD' || status === 204 || status === 304
    if (!this.#bodyless && length !== undefined) this.#lengthLeft = Number(length)
    if (this.#lengthLeft === 0) this.#bodyless = true
    this.#chunked = !this.#bodyless && length === undefined && this.#req.httpVersionMinor >= 1
    this.#chooseHold(flat, path)
    this.#res.sendDate = false
    this.#res.writeHead(status, reason, this.#chunked ? flat : withoutTrailer(flat))
  }

  #openHeld(): void {
    const open = this.#openLater
    this.#openLater = undefined
    if (!this.#gone) open?.()
  }

  /** Sends what the client gets, or holds it. */
  #pass(chunk: Buffer): void {
    if (chunk.length === 0) return
    if (this.#openLater !== undefined) this.#openHeld()
    if (this.#needsHold(chunk)) {
      this.#hold(chunk)
      // The last bytes of a Content-Length are followed by the end in the same turn.
      if (this.#lengthLeft !== 0) this.#commit()
    } else {
      this.#send(chunk)
    }
  }

  #chooseHold(flat: readonly string[], path: string): void {
    const type = headerValue(flat, 'content-type') ?? ''
    this.#sse = /^text\/event-stream\b/i.test(type)
    if (!this.#holds || !this.#sse || this.#bodyless) return
    const encoding = headerValue(flat, 'content-encoding')
    const clear = encoding === undefined || encoding.toLowerCase() === 'identity'
    const marks = clear ? markSetOf(path) : undefined
    if (marks === undefined) this.#eachHeld = true
    else this.#scanner = new MarkScanner(marks)
  }

  #needsHold(chunk: Buffer): boolean {
    if (this.#lengthLeft >= 0) this.#lengthLeft = Math.max(0, this.#lengthLeft - chunk.length)
    if (this.#scanner !== undefined && !this.marked) this.marked = this.#scanner.scan(chunk)
    if (!this.#holds || this.#gone) return false
    return this.marked || this.#eachHeld || this.#lengthLeft === 0 || this.#held.length > 0
  }

  #hold(item: Buffer | typeof FINISH | typeof CUT): void {
    this.#held.push(item)
    this.#heldEver++
  }

  #commit(): void {
    if (this.waitingSinceMs === 0) this.waitingSinceMs = performance.now()
    this.#commits.push(this.#heldEver)
    this.#taping?.commit(this)
  }

  #release(upTo: number): void {
    while (this.#released < upTo) {
      const item = this.#held.shift()
      this.#released++
      if (item === undefined) return
      if (item === FINISH) this.#finish()
      else if (item === CUT) this.#finishCut()
      else this.#send(item)
    }
  }

  /** What this turn has written goes out first: node keeps it together until the turn's end. */
  #finishCut(): void {
    const pending = this.#gone ? 0 : (this.#res.socket?.writableLength ?? 0)
    if (pending > 0) setImmediate(() => this.#breakOff())
    else this.#breakOff()
  }

  #breakOff(): void {
    this.abandonClient()
    this.#owner.onAnswered()
  }

  #finish(): void {
    if (!this.#gone) this.#res.end()
    this.#owner.onAnswered()
  }

  #send(chunk: Buffer): void {
    if (this.#gone) return
    this.forwardedBytes += chunk.length
    if (this.#sse) this.#tail = lastBytes(this.#tail, chunk)
    this.#write(chunk)
  }

  #write(chunk: Buffer): void {
    const socket = this.#viaRes || !this.#chunked ? null : this.#res.socket
    if (socket === null) {
      this.#viaRes = true
      this.#headFlushed = true
      if (!this.#res.write(chunk)) this.#waitForDrain(this.#res)
      return
    }
    const alone = this.#headFlushed && chunk.length <= COPY_BYTES_MAX
    if (!alone) socket.cork()
    if (!this.#headFlushed) {
      this.#headFlushed = true
      this.#res.write(NOTHING)
    }
    const flowing =
      chunk.length <= COPY_BYTES_MAX ? socket.write(framed(chunk)) : writeLong(socket, chunk)
    if (!alone) socket.uncork()
    if (!flowing && socket.writableNeedDrain) this.#waitForDrain(socket)
  }

  #waitForDrain(stream: Socket | ServerResponse): void {
    if (this.#draining) return
    this.#draining = true
    this.#owner.pauseUpstream()
    // A socket that closes instead of draining ends the exchange, which resumes or aborts.
    stream.once('drain', () => {
      if (!this.#draining) return
      this.#draining = false
      this.#owner.resumeUpstream()
    })
  }

  #waitForDisk(taping: Taping): void {
    this.#owner.pauseUpstream()
    taping.onRelief(() => {
      if (!this.#draining) this.#owner.resumeUpstream()
    })
  }
}

function flushHead(relay: Relay): void {
  relay.flushHead()
}
