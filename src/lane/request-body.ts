/**
 * A request's body on its way in: gathered when it is small or when somebody must see it whole,
 * streamed to the upstream otherwise. Either way every byte is counted against the bound.
 */
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { REQUEST_GATHER_BYTES_MAX } from '../limits.ts'

/** A longer body does not come in one piece with its head. */
export const WITH_HEAD_BYTES_MAX = 65_536

/** The tape, while so much waits for the disk that nothing more should be read. */
export interface Relief {
  /** Calls back once that is over. */
  onRelief(callback: () => void): void
}

/** What a body tells its exchange. */
export interface BodyOwner {
  /** All of it, in one piece. */
  onBody(body: Buffer): void
  /** It is long: this much has come, the rest comes by {@link onBodyPart} as it is read. */
  onLongBody(first: Buffer, stream: BodyStream): void
  onBodyPart(part: Buffer): Relief | undefined
  /**
   * One of unknown length is gathered beyond what was to be expected, by so many bytes in all. False,
   * and the owner is done with it, when there is no room for them.
   */
  onGathered(bytes: number): boolean
  onBodyTooLong(bytes: number): void
}

/** How the reading of a body goes. */
export interface BodyReading {
  /**
   * `performance.now()` since when the client is waited for: that of the call while it is not read,
   * Infinity once all has come.
   */
  readonly waitsSinceMs: number
}

/** How much is gathered, and how much is allowed at all. */
export interface BodyBounds {
  readonly gatherBytesMax: number
  readonly bytesMax: number
}

/** A long body as undici reads it; the client is read only as fast as upstream and disk take it. */
export class BodyStream extends Readable {
  /** `performance.now()` when it was last read on. */
  readMs = performance.now()
  #isHeld = false
  readonly #req: IncomingMessage

  constructor(req: IncomingMessage) {
    super()
    this.#req = req
  }

  override _read(): void {
    if (!this.#isHeld) this.#readOn()
  }

  /** Reads no more until the disk has caught up. */
  hold(relief: Relief): void {
    if (this.#isHeld) return
    this.#isHeld = true
    this.#req.pause()
    relief.onRelief(() => {
      this.#isHeld = false
      this.#readOn()
    })
  }

  #readOn(): void {
    this.readMs = performance.now()
    this.#req.resume()
  }
}

/**
 * Reads a body of known length before anybody wants it: once all has come, its client is seen to
 * leave.
 */
export class AheadReading {
  readonly #req: IncomingMessage
  #parts: Buffer[] = []
  #left: number
  readonly #onData = (part: Buffer): void => {
    this.#parts.push(part)
    this.#left -= part.length
    // Put back at once, or the request would tell its end to nobody.
    if (this.#left <= 0) this.putBack()
  }

  constructor(req: IncomingMessage, bodyBytes: number) {
    this.#req = req
    this.#left = bodyBytes
    req.on('data', this.#onData)
  }

  /** Puts back what was read: the body may be read as if it never was, once it is resumed. */
  putBack(): void {
    const parts = this.#parts
    this.drop()
    this.#req.pause()
    if (parts.length > 0) this.#req.unshift(Buffer.concat(parts))
  }

  /** Nobody wants it. */
  drop(): void {
    this.#parts = []
    this.#req.off('data', this.#onData)
  }
}

/** Reads the body of `req`. `bodyBytes` is what Content-Length says, or -1. */
export function readBody(
  req: IncomingMessage,
  bodyBytes: number,
  bounds: BodyBounds,
  owner: BodyOwner,
): BodyReading {
  let parts: Buffer[] = []
  let bytes = 0
  const expected = bodyBytes < 0 ? REQUEST_GATHER_BYTES_MAX : Infinity
  let lastMs = performance.now()
  let isOver = false
  let stream: BodyStream | undefined

  const leave = (): void => {
    isOver = true
    parts = []
    req.removeAllListeners('data')
    req.resume()
  }
  const startStream = (): void => {
    stream = new BodyStream(req)
    const first = Buffer.concat(parts)
    parts = []
    if (first.length > 0) stream.push(first)
    owner.onLongBody(first, stream)
  }

  const listen = (): void => {
    req.on('data', (part: Buffer) => {
      bytes += part.length
      lastMs = performance.now()
      if (bytes > bounds.bytesMax) {
        leave()
        return owner.onBodyTooLong(bytes)
      }
      if (stream !== undefined) {
        // Its reader is done (an early answer): what still comes is read and left, or the client,
        // which may write all before it reads, would never get that answer.
        if (stream.destroyed) return
        const behind = owner.onBodyPart(part)
        if (behind !== undefined) stream.hold(behind)
        if (!stream.push(part)) req.pause()
        return
      }
      if (bytes > expected && !owner.onGathered(bytes - expected)) return leave()
      parts.push(part)
      if (bytes > bounds.gatherBytesMax) startStream()
    })
    req.once('end', () => {
      if (isOver) return
      isOver = true
      if (stream !== undefined) stream.push(null)
      else owner.onBody(parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts))
    })
  }
  const takeWhole = (): void => {
    const whole = req.complete && req.readableLength === bodyBytes ? req.read() : null
    if (whole === null) return listen()
    isOver = true
    owner.onBody(whole as Buffer)
  }

  if (bodyBytes > bounds.gatherBytesMax) {
    listen()
    startStream()
  } else if (bodyBytes > 0 && bodyBytes <= Math.min(WITH_HEAD_BYTES_MAX, bounds.bytesMax)) {
    // What came along with the head has been parsed by then: no event need tell of it.
    process.nextTick(takeWhole)
  } else {
    listen()
  }
  return {
    get waitsSinceMs() {
      if (isOver) return Infinity
      if (req.isPaused()) return performance.now()
      return stream === undefined ? lastMs : Math.max(lastMs, stream.readMs)
    },
  }
}

/**
 * Reads on, and leaves, what a client still sends after its answer: it may write all before it
 * reads. Over `bytesMax` its connection is closed.
 */
export function leaveRest(req: IncomingMessage, bytesMax: number): void {
  if (req.complete) return
  let bytes = 0
  req.on('data', (part: Buffer) => {
    bytes += part.length
    if (bytes > bytesMax) req.destroy()
  })
  req.resume()
}
