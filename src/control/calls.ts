/** How calls run: their answer or error is sent once, and a caller that left is noticed. */
import type { EventEmitter } from 'node:events'
import type {
  ServerUnaryCall,
  ServerWritableStream,
  StatusObject,
  handleServerStreamingCall,
  handleUnaryCall,
  sendUnaryData,
} from '@grpc/grpc-js'
import { toRolltapeError } from '../errors.ts'
import { failureOf } from './failure.ts'

/** Told of faults of rolltape's own: callers get `INTERNAL`, the log says more. */
export type OnFault = (error: Error) => void

/** Who waits for an answer. */
export interface Caller {
  /** Fires when nobody waits any more. */
  readonly signal: AbortSignal
  /** Until when somebody waits, in epoch ms; Infinity where there is no deadline. */
  readonly deadlineMs: number
}

/** What answers one unary call. */
export type Answer<Q, A> = (request: Q, caller: Caller) => Promise<A> | A

/** What serves one stream; it is over when this resolves. */
export type Serve<Q, A> = (call: ServerWritableStream<Q, A>, signal: AbortSignal) => Promise<void>

/** Makes methods of what answers them. */
export class Calls {
  readonly #onFault: OnFault

  constructor(onFault: OnFault) {
    this.#onFault = onFault
  }

  /** A method with one answer. */
  unary<Q, A>(answer: Answer<Q, A>): handleUnaryCall<Q, A> {
    return (call, callback) => void this.#answer(call, answer, callback)
  }

  /** A method with a stream of them. */
  streaming<Q, A>(serve: Serve<Q, A>): handleServerStreamingCall<Q, A> {
    return (call) => void this.#serve(call, serve)
  }

  async #answer<Q, A>(
    call: ServerUnaryCall<Q, A>,
    answer: Answer<Q, A>,
    send: sendUnaryData<A>,
  ): Promise<void> {
    let message: A
    try {
      const deadlineMs = Number(call.getDeadline())
      message = await answer(call.request, { signal: leavingSignal(call), deadlineMs })
    } catch (error) {
      return send(this.#failure(error))
    }
    send(null, message)
  }

  async #serve<Q, A>(call: ServerWritableStream<Q, A>, serve: Serve<Q, A>): Promise<void> {
    try {
      await serve(call, leavingSignal(call))
      call.end()
    } catch (error) {
      call.emit('error', this.#failure(error))
    }
  }

  #failure(error: unknown): StatusObject {
    const own = toRolltapeError(error)
    if (own.code === 'internal_error') this.#onFault(own)
    return failureOf(own)
  }
}

function leavingSignal(call: EventEmitter & { readonly cancelled: boolean }): AbortSignal {
  const left = new AbortController()
  if (call.cancelled) left.abort()
  call.once('cancelled', () => left.abort())
  return left.signal
}
