/**
 * Trajectories as callers ask for them: of the recording that is written, each with all records of
 * what was over, and streams of them, one for each consumer.
 */
import { RolltapeError } from '../errors.ts'
import type { Finish } from '../trajectory/annotations.ts'
import type { FinishedPage } from '../trajectory/annotation-catalog.ts'
import { barrier } from './barrier.ts'
import { noRecord } from './recorded-trajectories.ts'
import type { OpenTrajectory } from './recorded-trajectories.ts'
import type { Recording } from './recording.ts'
import { SessionFreezer } from './session-freezer.ts'
import type { Supervisor } from './supervisor.ts'
import { TrajectoryStream } from './trajectory-stream.ts'

/** A page of what has finished. */
export interface TrajectoriesPage extends FinishedPage {
  /** For the next page; empty when this was the last. */
  readonly nextToken: string
}

/** What a stream is asked for. */
export interface StreamAsked {
  readonly consumer: string
  /** Goes on behind this; empty for the consumer's place. */
  readonly token: string
  /** Ends when all that has finished has been given. */
  readonly once: boolean
}

/** Hands out trajectories. */
export class TrajectoryDesk {
  readonly #supervisor: Supervisor
  readonly #freezer: SessionFreezer
  /** The stream of each consumer. */
  readonly #streams = new Map<string, TrajectoryStream>()
  /** The last barrier, and what had finished before it. */
  #settled: { readonly of: Recording; readonly place: number; done: Promise<void> } | undefined

  constructor(supervisor: Supervisor) {
    this.#supervisor = supervisor
    this.#freezer = new SessionFreezer(supervisor)
  }

  /**
   * A session is closed; undefined when nothing is recorded, or it had finished before and nothing has
   * come since.
   * @throws RolltapeError `tape_unavailable`, `over_capacity`.
   */
  finish(session: string): Finish | undefined {
    return this.#supervisor.recording?.trajectories.finish(session)
  }

  /** Freezes a session, see {@link SessionFreezer.freeze}. */
  freeze(...asked: Parameters<SessionFreezer['freeze']>): ReturnType<SessionFreezer['freeze']> {
    return this.#freezer.freeze(...asked)
  }

  /**
   * A page of what has finished.
   * @throws RolltapeError `wrong_state`, `bad_argument` for the token.
   */
  async list(token: string, max: number): Promise<TrajectoriesPage> {
    const { trajectories } = this.#recording()
    const after = token === '' ? 0 : trajectories.place(token, 'page_token')
    const page = await trajectories.finished(after, max)
    const last = page.finished.at(-1)
    const isLast = page.isLast || last === undefined
    return { ...page, nextToken: isLast ? '' : trajectories.token(last.place) }
  }

  /**
   * Begins to read a session as it is now.
   * @throws RolltapeError `wrong_state`, `not_found`, `over_capacity`, `tape_unavailable`.
   */
  async get(session: string): Promise<OpenTrajectory> {
    const recording = this.#recording()
    await barrier(this.#supervisor, recording)
    const reading = await recording.trajectories.read(session)
    if (reading === undefined) throw noRecord(session)
    return reading
  }

  /**
   * Begins a stream, which takes the place of the consumer's last one.
   * @throws RolltapeError `wrong_state`, `bad_argument` for the token.
   */
  stream({ consumer, token, once }: StreamAsked, signal: AbortSignal): TrajectoryStream {
    const recording = this.#recording()
    const { trajectories } = recording
    const after =
      token === '' ? trajectories.placeOf(consumer) : trajectories.place(token, 'resume_token')
    const settle = (place: number): Promise<void> => this.#settle(recording, place)
    const stream = new TrajectoryStream({ trajectories, after, once, signal, settle })
    this.#streams.get(consumer)?.replace()
    this.#streams.set(consumer, stream)
    stream.onClose = () => {
      if (this.#streams.get(consumer) === stream) this.#streams.delete(consumer)
    }
    return stream
  }

  /**
   * A consumer has got all up to a token, or with none wants all from the start; the token of its
   * place then.
   * @throws RolltapeError `wrong_state`, `bad_argument`, `over_capacity`, `tape_unavailable`.
   */
  acknowledge(consumer: string, token: string): string {
    const { trajectories } = this.#recording()
    if (token === '') {
      trajectories.forget(consumer)
      return trajectories.token(0)
    }
    const place = trajectories.place(token, 'token')
    return trajectories.token(trajectories.acknowledge(consumer, place))
  }

  #recording(): Recording {
    const { recording, modes } = this.#supervisor
    if (recording !== undefined) return recording
    throw new RolltapeError('wrong_state', `mode is ${modes.mode}, and nothing is recorded`, {
      hint: 'start rolltape with --recording-file',
    })
  }

  /** What was over when this finished has its record; one barrier does for all that had by then. */
  #settle(recording: Recording, place: number): Promise<void> {
    const last = this.#settled
    if (last?.of === recording && last.place >= place) return last.done
    const done = barrier(this.#supervisor, recording)
    const settled = { of: recording, place: recording.trajectories.lastPlace, done }
    this.#settled = settled
    done.catch(() => {
      if (this.#settled === settled) this.#settled = undefined
    })
    return done
  }
}
