/**
 * What a lane can be asked, and the side of it that asks: each question goes out under a number
 * and is answered once, by the lane or by its end. The lane's side is `workers/lane.ts`.
 */
import { RolltapeError } from '../errors.ts'
import type { ErrorCode } from '../errors.ts'
import type { AdmissionRule } from '../lane/admission.ts'
import type { AdmissionOrder, PartOrder } from '../lane/lane.ts'
import type { AskingQuestion } from '../lane/player.ts'
import type { SessionSum } from '../trajectory/session-sums.ts'
import type { ServingOrder } from '../lane/parts.ts'
import type { LaneState } from '../lane/state.ts'

/** Every question by name: what goes with it, and what the answer is. */
export interface LaneQuestions {
  /** How the lane is. */
  readonly state: { readonly asked: null; readonly answered: LaneState }
  /** To serve by another order; answered once every request that arrives is served by it. */
  readonly serve: { readonly asked: ServingOrder; readonly answered: void }
  /** To admit requests by other rules; how many exchanges were aborted. */
  readonly admit: { readonly asked: AdmissionOrder; readonly answered: number }
  /** How many are in flight under this rule. */
  readonly under: { readonly asked: AdmissionRule; readonly answered: number }
  /** Answered once what is in flight under this rule has ended. */
  readonly quiet: { readonly asked: AdmissionRule; readonly answered: void }
  /** How many exchanges of this session are not closed. */
  readonly ofSession: { readonly asked: string; readonly answered: number }
  /** Answered once the exchanges of this session that had arrived are closed. */
  readonly sessionQuiet: { readonly asked: string; readonly answered: void }
  /** To end a part of a recording; answered once what had ended has its record. */
  readonly endPart: { readonly asked: PartOrder; readonly answered: void }
  /** The next part of the recording in this folder has begun. */
  readonly beginPart: { readonly asked: string; readonly answered: void }
  /** Who is bound to these recorded sessions, as far as the lane knows. */
  readonly askingNames: {
    readonly asked: AskingQuestion
    readonly answered: readonly (string | null)[]
  }
  /** What sessions come to by exchanges that are not recorded, since this was asked last. */
  readonly sessionSums: { readonly asked: null; readonly answered: readonly SessionSum[] }
  /** Answered once the lane writes nothing to the recording in this folder any more. */
  readonly retired: { readonly asked: string; readonly answered: void }
  /** That everything which was over has its record. */
  readonly flush: { readonly asked: null; readonly answered: void }
}

/** Name of a question. */
export type LaneQuestion = keyof LaneQuestions

/** A question on its way to the lane. */
export interface LaneAsk {
  readonly type: 'ask'
  readonly id: number
  readonly question: LaneQuestion
  readonly asked: LaneQuestions[LaneQuestion]['asked']
}

/** What an answer that failed says. */
export interface LaneFailure {
  readonly code: ErrorCode
  readonly text: string
  readonly hint?: string
}

/** An answer on its way back. */
export interface LaneReply {
  readonly type: 'reply'
  readonly id: number
  readonly answered?: LaneQuestions[LaneQuestion]['answered']
  readonly failed?: LaneFailure
}

/** What answers each question; for the lane's side. */
export type LaneAnswers = {
  readonly [Q in LaneQuestion]: (
    asked: LaneQuestions[Q]['asked'],
  ) => Promise<LaneQuestions[Q]['answered']> | LaneQuestions[Q]['answered']
}

interface Waiting {
  resolve(answered: unknown): void
  reject(error: RolltapeError): void
}

/** Questions to one lane that are not answered yet. */
export class Questions {
  readonly #send: (ask: LaneAsk) => void
  readonly #waiting = new Map<number, Waiting>()
  #lastId = 0
  #over: RolltapeError | undefined

  constructor(send: (ask: LaneAsk) => void) {
    this.#send = send
  }

  /**
   * Asks the lane.
   * @throws RolltapeError `lane_lost` when it ends, or has ended, without an answer; or what the
   *   lane says.
   */
  ask<Q extends LaneQuestion>(
    question: Q,
    asked: LaneQuestions[Q]['asked'],
  ): Promise<LaneQuestions[Q]['answered']> {
    if (this.#over !== undefined) return Promise.reject(this.#over)
    const id = ++this.#lastId
    const { promise, resolve, reject } = Promise.withResolvers<LaneQuestions[Q]['answered']>()
    this.#waiting.set(id, { resolve: resolve as (answered: unknown) => void, reject })
    this.#send({ type: 'ask', id, question, asked })
    return promise
  }

  /** The lane has answered. */
  onReply({ id, answered, failed }: LaneReply): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (failed === undefined) waiting?.resolve(answered)
    else waiting?.reject(failure(failed))
  }

  /** The lane has ended: whoever waits is told, and whoever asks from now on. */
  onEnd(reason: string): void {
    this.#over ??= new RolltapeError('lane_lost', `the lane ended before it answered: ${reason}`)
    for (const waiting of this.#waiting.values()) waiting.reject(this.#over)
    this.#waiting.clear()
  }
}

/** The error that a lane told of. */
export function failure({ code, text, hint }: LaneFailure): RolltapeError {
  return new RolltapeError(code, text, hint === undefined ? {} : { hint })
}
