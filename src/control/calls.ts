/** How calls run: their answer or error is sent once, and a caller that left is noticed. */
import type { EventEmitter } from 'node:events'
import type {
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
  StatusObject,
  handleBidiStreamingCall,
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

/** What serves one stream in both directions; as {@link Serve}. */
export type Converse<Q, A> = (call: ServerDuplexStream<Q, A>, signal: AbortSignal) => Promise<void>

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
    return (call) => void this.#run(call, (signal) => serve(call, signal))
  }

  /** A method with a stream each way. */
  duplex<Q, A>(converse: Converse<Q, A>): handleBidiStreamingCall<Q, A> {
    return (call) => void this.#run(call, (signal) => converse(call, signal))
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

  async #run(call: Streamed, serve: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await serve(leavingSignal(call))
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

type Streamed = EventEmitter & { readonly cancelled: boolean; end(): void }

function leavingSignal(call: EventEmitter & { readonly cancelled: boolean }): AbortSignal {
  const left = new AbortController()
  if (call.cancelled) left.abort()
  call.once('cancelled', () => left.abort())
  return left.signal
}
