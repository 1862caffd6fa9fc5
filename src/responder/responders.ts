/**
 * All that stands between lanes and responders, composed: requests come from the bridge, wait in
 * the queue and go to connected responders; answers take the same way back.
 */
import { RolltapeError } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import { redactionOf } from '../lane/redaction.ts'
import { RESPONDER_TICK_MS } from '../limits.ts'
import type { RolltapeConfig } from '../options.ts'
import { queuesOf } from './address.ts'
import { Bridge } from './bridge.ts'
import type { Asked, BridgeOwner } from './bridge.ts'
import { Processes } from './processes.ts'
import { Queue } from './queue.ts'
import type { QueueOwner } from './queue.ts'
import type { SessionEnd } from './refusals.ts'

/** A responder that is connected, as it is told things. */
export interface Connected {
  onRequest(asked: Asked, delivery: number): void
  onCancelled(id: number): void
  onSessionEnded(session: string, why: SessionEnd): void
  onAccepted(id: number): void
  /** The client of this answer is slow, or no longer. */
  onHold(id: number, hold: boolean): void
  /** Nothing is asked of it any more. */
  onClose(): void
}

/** What responders need of their supervisor. */
export interface RespondersOptions {
  /** The configuration in force. */
  readonly config: () => RolltapeConfig
  readonly log: LaneLog
}

/** The queues of one process. */
export class Responders implements QueueOwner, BridgeOwner {
  readonly queue: Queue
  readonly bridge: Bridge
  readonly #options: RespondersOptions
  readonly #processes: Processes
  readonly #connected = new Map<number, Connected>()
  #lastId = 0
  #socket: Promise<string> | undefined
  #tick: NodeJS.Timeout | undefined

  constructor(options: RespondersOptions) {
    this.#options = options
    this.queue = new Queue(this, () => {
      const { responderQueue, responderWaitMs, onNoResponder } = options.config()
      return { waitingMax: responderQueue, waitMs: responderWaitMs, onNoResponder }
    })
    this.bridge = new Bridge(this, this.queue, () => redactionOf(options.config()))
    this.#processes = new Processes((session) => this.endSession(session, 'process_gone'))
  }

  /**
   * The socket that lanes forward to; undefined when no upstream of this configuration is a responder
   * and none was.
   * @throws RolltapeError `listen_failed`.
   */
  async socketFor(config: RolltapeConfig): Promise<string | undefined> {
    if (this.#socket === undefined && queuesOf(config).size > 0) {
      this.#socket = this.bridge.start()
      this.#tick = setInterval(() => this.queue.expire(performance.now()), RESPONDER_TICK_MS)
    }
    return this.#socket
  }

  /**
   * Somebody serves a queue; the number it goes by.
   * @throws RolltapeError `not_found`, `over_capacity`.
   */
  join(connected: Connected, queue: string, credits: number): number {
    const known = [...queuesOf(this.#options.config())]
    if (!known.includes(queue)) {
      const message = `no upstream is queue ${JSON.stringify(queue.slice(0, 80))}`
      throw new RolltapeError('not_found', message, {
        hint:
          known.length === 0
            ? 'start rolltape with --proxy-base-url responder:'
            : `those are ${known.join(', ')}`,
      })
    }
    const id = ++this.#lastId
    this.#connected.set(id, connected)
    try {
      this.queue.join(id, queue, credits)
    } catch (error) {
      this.#connected.delete(id)
      throw error
    }
    this.#options.log.debug({ queue, responder: id, credits }, 'a responder is there')
    return id
  }

  /** It serves no longer. */
  leave(id: number): void {
    if (!this.#connected.delete(id)) return
    this.queue.leave(id, performance.now())
    this.#options.log.debug({ responder: id }, 'a responder is gone')
  }

  /** Ends a session: what waits for an answer gets an error; how many requests that were. */
  endSession(session: string, why: SessionEnd): number {
    this.#processes.forget(session)
    return this.queue.endSession(session, why)
  }

  /** Ends all sessions. */
  endSessions(why: SessionEnd): void {
    this.queue.endSessions(why)
  }

  /**
   * Ends a session once a process is gone; how many are watched now.
   * @throws RolltapeError `wrong_state`, `not_found`, `over_capacity`.
   */
  watchProcess(session: string, pid: number): number {
    if (this.#socket === undefined) {
      const message = 'no upstream is a responder, so no session of theirs can end'
      throw new RolltapeError('wrong_state', message, {
        hint: 'start rolltape with --proxy-base-url responder:',
      })
    }
    return this.#processes.watch(session, pid)
  }

  /** Lets all responders go, and the socket. */
  async close(): Promise<void> {
    clearInterval(this.#tick)
    this.#processes.close()
    for (const connected of this.#connected.values()) connected.onClose()
    await this.#socket?.catch(() => undefined)
    await this.bridge.close()
  }

  onGive(id: number, responder: number, delivery: number): void {
    this.#connected.get(responder)?.onRequest(this.bridge.asked(id), delivery)
  }

  onRefuse(id: number, error: RolltapeError): void {
    this.bridge.refuse(id, error)
  }

  onCut(id: number): void {
    this.bridge.cut(id)
  }

  onCancelled(id: number, responder: number): void {
    this.#connected.get(responder)?.onCancelled(id)
  }

  onSessionEnded(session: string, why: SessionEnd): void {
    for (const connected of this.#connected.values()) connected.onSessionEnded(session, why)
  }

  onSent(id: number): void {
    const responder = this.queue.done(id)
    if (responder !== undefined) this.#connected.get(responder)?.onAccepted(id)
  }

  onSlow(id: number, isSlow: boolean): void {
    const responder = this.queue.holderOf(id)
    if (responder !== undefined) this.#connected.get(responder)?.onHold(id, isSlow)
  }
}
