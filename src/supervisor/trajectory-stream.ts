/**
 * One consumer's stream: what has finished behind its place, in order, and then whatever finishes.
 * It holds a place and a piece; what waits for it is in the files.
 */
import { RolltapeError } from '../errors.ts'
import { FINISHES_AT_ONCE } from '../limits.ts'
import type { FinishedSession } from '../trajectory/annotation-catalog.ts'
import type { ReadingEnd } from '../trajectory/trajectory-reading.ts'
import type { RecordedTrajectories } from './recorded-trajectories.ts'

/** What a stream gives, in the order: a beginning; then head, pieces, end for each trajectory. */
export type StreamStep =
  | { readonly kind: 'started'; readonly token: string }
  | { readonly kind: 'head'; readonly finished: FinishedSession }
  | { readonly kind: 'records'; readonly bytes: Uint8Array }
  | {
      readonly kind: 'end'
      readonly end: ReadingEnd
      readonly finished: FinishedSession
      readonly token: string
    }

/** What a stream is made of. */
export interface StreamOptions {
  readonly trajectories: RecordedTrajectories
  /** Place to begin behind. */
  readonly after: number
  readonly once: boolean
  /** Fires when nobody listens any more. */
  readonly signal: AbortSignal
  /** Resolves once what was over when something finished has its record. */
  readonly settle: (place: number) => Promise<void>
}

/** Gives trajectories as they finish. */
export class TrajectoryStream {
  /** Fires when it has ended for the consumer: it has left, or has opened another one. */
  readonly signal: AbortSignal
  onClose: () => void = () => undefined
  readonly #options: StreamOptions
  readonly #replaced = new AbortController()

  constructor(options: StreamOptions) {
    this.#options = options
    this.signal = AbortSignal.any([options.signal, this.#replaced.signal])
  }

  /** The consumer has opened another one. */
  replace(): void {
    this.#replaced.abort()
  }

  /**
   * What there is to give. Ends when the recording is closed, the consumer has left, or all that has
   * finished has been given and no more is wanted.
   * @throws RolltapeError `stream_replaced`, or what reading throws.
   */
  async *steps(): AsyncGenerator<StreamStep, void, undefined> {
    const { trajectories, once, after } = this.#options
    try {
      yield { kind: 'started', token: trajectories.token(after) }
      let place = after
      while (!this.#isOver) {
        const { finished } = await trajectories.finished(place, FINISHES_AT_ONCE)
        for (const one of finished) {
          yield* this.#trajectory(one)
          if (this.#isOver) break
          place = one.place
        }
        if (finished.length > 0 || place < trajectories.lastPlace) continue
        if (once) break
        await trajectories.more(this.signal)
      }
    } catch (error) {
      if (!trajectories.isClosed) throw error
    } finally {
      this.onClose()
    }
    if (!this.#replaced.signal.aborted) return
    throw new RolltapeError('stream_replaced', 'the consumer has opened another stream')
  }

  async *#trajectory(finished: FinishedSession): AsyncGenerator<StreamStep, void, undefined> {
    const { trajectories, settle } = this.#options
    await settle(finished.place)
    const seqMax = finished.frozen === null ? finished.last_seq : Infinity
    const reading = await trajectories.read(finished.session, seqMax)
    // Nothing of it was recorded after all.
    if (reading === undefined) return
    try {
      yield { kind: 'head', finished }
      while (!this.#isOver) {
        const step = await reading.next()
        if ('end' in step) {
          const token = trajectories.token(finished.place)
          return yield { kind: 'end', end: step.end, finished, token }
        }
        yield { kind: 'records', bytes: step.bytes }
      }
    } finally {
      reading.close()
    }
  }

  get #isOver(): boolean {
    return this.signal.aborted || this.#options.trajectories.isClosed
  }
}
