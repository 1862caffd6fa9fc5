/**
 * One responder's stream: what it says goes to queue and bridge, what it is told waits here while it
 * does not read. Whatever ends the stream, the responder is gone then.
 */
import type { ServerDuplexStream } from '@grpc/grpc-js'
import { bad } from '../control/arguments.ts'
import type {
  Answer,
  AnswerChunk,
  AnswerHead,
  Failure,
  Hello,
  ServeRequest,
  ServeResponse,
} from '../control/gen/rolltape/responder/v1/responder.ts'
import { RolltapeError, toRolltapeError } from '../errors.ts'
import {
  RESPONDER_ANSWER_BYTES_MAX,
  RESPONDER_CREDITS_MAX,
  RESPONDER_OUTBOX_MAX,
} from '../limits.ts'
import { DEFAULT_QUEUE } from './address.ts'
import type { Asked } from './bridge.ts'
import { flatOf, requestMessages, sessionEndedMessage } from './messages.ts'
import type { SessionEnd } from './refusals.ts'
import type { Connected, Responders } from './responders.ts'

/** A call of Serve. */
export type ServeCall = ServerDuplexStream<ServeRequest, ServeResponse>

type Told = NonNullable<ServeResponse['message']>

/** Characters of a failure's message that a client is told. */
const MESSAGE_CHARS_MAX = 4_096

/** A connected responder. */
export class Link implements Connected {
  readonly #call: ServeCall
  readonly #responders: Responders
  readonly #done = Promise.withResolvers<void>()
  #id: number | undefined
  /** Waits until the stream takes more. */
  readonly #outbox: Told[] = []
  /** Answers that wait for slow clients; as long as there is one, nothing is read. */
  readonly #full = new Set<number>()
  #over = false

  constructor(call: ServeCall, responders: Responders, signal: AbortSignal) {
    this.#call = call
    this.#responders = responders
    call.on('data', (said: ServeRequest) => this.#onMessage(said))
    call.on('end', () => this.#leave())
    call.on('drain', () => this.#flush())
    signal.addEventListener('abort', () => this.#leave())
    if (signal.aborted) this.#leave()
  }

  /** Resolves when the responder is gone; rejects when it has to go. */
  get done(): Promise<void> {
    return this.#done.promise
  }

  onRequest(asked: Asked, delivery: number): void {
    this.#tell(...requestMessages(asked, delivery))
  }

  onCancelled(id: number): void {
    this.#tell({ $case: 'cancelled', value: { id } })
    this.#readOn(id)
  }

  onSessionEnded(session: string, why: SessionEnd): void {
    this.#tell({ $case: 'sessionEnded', value: sessionEndedMessage(session, why) })
  }

  onAccepted(id: number): void {
    this.#tell({ $case: 'accepted', value: { id } })
    this.#readOn(id)
  }

  onHold(id: number, hold: boolean): void {
    this.#tell({ $case: 'hold', value: { id, hold } })
    if (!hold) this.#readOn(id)
  }

  onClose(): void {
    this.#leave()
  }

  #onMessage({ message }: ServeRequest): void {
    if (this.#over) return
    try {
      if (message === undefined) throw bad('message is empty; say something')
      if (this.#id === undefined) this.#greet(message)
      else this.#take(this.#id, message)
    } catch (error) {
      this.#leave(toRolltapeError(error))
    }
  }

  #greet(message: NonNullable<ServeRequest['message']>): void {
    if (message.$case !== 'hello') throw bad(`message is ${message.$case}, and hello comes first`)
    const { queue: named, credits }: Hello = message.value
    const queue = named || DEFAULT_QUEUE
    checkCredits('hello.credits', credits)
    // It is told that it serves before it is given anything.
    this.#id = this.#responders.join(this, queue, 0)
    const waiting = this.#responders.queue.waiting(queue)
    this.#tell({ $case: 'welcome', value: { queue, waiting } })
    this.#responders.queue.setCredits(this.#id, credits)
  }

  #take(me: number, message: NonNullable<ServeRequest['message']>): void {
    const { queue, bridge } = this.#responders
    switch (message.$case) {
      case 'hello':
        throw bad('hello came already, and it comes once')
      case 'credits':
        checkCredits('credits.credits', message.value.credits)
        return queue.setCredits(me, message.value.credits)
      case 'answer':
        return this.#answer(me, message.value)
      case 'head':
        return void this.#begin(me, message.value)
      case 'chunk':
        return this.#chunk(me, message.value)
      case 'end': {
        const { id } = message.value
        const reason = queue.end(id, me)
        if (reason === undefined) bridge.end(id)
        else this.#reject(id, reason)
        return
      }
      case 'failure':
        return this.#fail(me, message.value)
    }
  }

  #answer(me: number, { id, body, ...head }: Answer): void {
    if (!this.#begin(me, { id, ...head }, body.length)) return
    this.#responders.queue.end(id, me)
    this.#responders.bridge.end(id, body)
  }

  /** False when the answer does not count, or cannot be passed on. */
  #begin(me: number, { id, status, headers }: AnswerHead, bodyBytes?: number): boolean {
    const { queue, bridge } = this.#responders
    const reason = queue.mayBegin(id, me)
    if (reason !== undefined) return this.#reject(id, reason)
    try {
      bridge.head(id, status || 200, flatOf(headers), bodyBytes)
    } catch (error) {
      const failure = toRolltapeError(error)
      queue.fail(id, me, failure)
      return this.#reject(id, failure.message)
    }
    queue.begin(id, me)
    return true
  }

  #chunk(me: number, { id, data }: AnswerChunk): void {
    const { queue, bridge } = this.#responders
    const reason = queue.goOn(id, me)
    if (reason !== undefined) return void this.#reject(id, reason)
    bridge.data(id, data)
    if (bridge.waitingBytes(id) < RESPONDER_ANSWER_BYTES_MAX) return
    this.#full.add(id)
    this.#call.pause()
  }

  #fail(me: number, { id, message }: Failure): void {
    const text = message.slice(0, MESSAGE_CHARS_MAX) || 'it does not say why'
    const error = new RolltapeError('responder_failed', `the responder gives no answer: ${text}`)
    const reason = this.#responders.queue.fail(id, me, error)
    if (reason !== undefined) this.#reject(id, reason)
  }

  #reject(id: number, reason: string): false {
    this.#tell({ $case: 'rejected', value: { id, reason } })
    return false
  }

  /** One client less is slow. */
  #readOn(id: number): void {
    if (this.#full.delete(id) && this.#full.size === 0) this.#call.resume()
  }

  /** What is told in one go stays together. */
  #tell(...messages: readonly Told[]): void {
    if (this.#over) return
    if (this.#outbox.length >= RESPONDER_OUTBOX_MAX) {
      // Whoever tells this is in the middle of something.
      this.#over = true
      return queueMicrotask(() => this.#end(overrun()))
    }
    this.#outbox.push(...messages)
    this.#flush()
  }

  #flush(): void {
    while (!this.#call.writableNeedDrain) {
      const message = this.#outbox.shift()
      if (message === undefined) break
      this.#call.write({ message })
    }
    const isReady = !this.#call.writableNeedDrain
    if (this.#id !== undefined) this.#responders.queue.setReady(this.#id, isReady)
  }

  #leave(error?: RolltapeError): void {
    if (this.#over) return
    this.#over = true
    this.#end(error)
  }

  #end(error: RolltapeError | undefined): void {
    this.#outbox.length = 0
    if (this.#id !== undefined) this.#responders.leave(this.#id)
    // What it says still is read, so that its end is seen.
    this.#call.resume()
    if (error === undefined) this.#done.resolve()
    else this.#done.reject(error)
  }
}

function checkCredits(field: string, credits: number): void {
  if (credits <= RESPONDER_CREDITS_MAX) return
  throw bad(`${field} is ${credits}, and ${RESPONDER_CREDITS_MAX} is the most`)
}

function overrun(): RolltapeError {
  const message = `the responder does not read: ${RESPONDER_OUTBOX_MAX} messages wait for it`
  return new RolltapeError('over_capacity', message)
}
