/**
 * The upstream's side of an exchange that is replayed: finds the record, reads its answer, plays
 * it, and sees to the claim. In `hybrid` it may find that the exchange is to go live; in `verify`
 * it only finds what the live answer is to be compared with. Nothing here can reach a network.
 */
import { RolltapeError, errorText } from '../errors.ts'
import type { PlayedAnswer } from '../replay/answer.ts'
import type { Choice } from '../replay/select.ts'
import type { MatchFrame } from '../tape/exchange.ts'
import type { LaneContext } from './context.ts'
import type { ForwardOwner } from './forward.ts'
import { headerValue } from './headers.ts'
import type { Intake } from './intake.ts'
import { Play } from './play.ts'
import type { Player, PlayRequest, Taken } from './player.ts'

/** What a replay tells its exchange beyond what a forward does. */
export interface ReplayOwner extends ForwardOwner {
  /** A record answers; or it turned out that it cannot. */
  onFound(isFound: boolean): void
  /** The recording has no answer, and the rules say to ask an upstream. */
  onLive(body: Buffer): void
  /** There is nothing to answer with. */
  refuse(error: RolltapeError): void
}

/** Replays one answer. */
export class Replay {
  readonly deadlineMs = Infinity
  readonly lastByteMs = 0
  readonly #lane: LaneContext
  readonly #player: Player
  readonly #owner: ReplayOwner
  readonly #intake: Intake
  readonly #play: Play
  readonly #isRetry: boolean
  #taken: Taken | undefined
  #over = false

  constructor(
    lane: LaneContext,
    player: Player,
    owner: ReplayOwner,
    intake: Intake,
    rawHeaders: readonly string[],
  ) {
    this.#lane = lane
    this.#player = player
    this.#owner = owner
    this.#intake = intake
    this.#play = new Play(owner, lane.pacer, intake.rules.pace, intake.arrival.atMs)
    this.#isRetry = Number(headerValue(rawHeaders, 'x-stainless-retry-count') ?? 0) > 0
  }

  /** Answers a request with this body. */
  start(body: Buffer): void {
    this.#answer(body).catch((error: unknown) => {
      this.#giveBack()
      const message = `the recorded answer cannot be given: ${errorText(error)}`
      const failure =
        error instanceof RolltapeError
          ? error
          : new RolltapeError('tape_record_unusable', message, { cause: error })
      this.#owner.onUpstreamFailure({ cause: 'error', error: failure, retryable: false })
    })
  }

  /** Finds, and claims, the record that a live answer to this request is compared with. */
  async find(body: Buffer): Promise<MatchFrame> {
    try {
      return await this.#find(body)
    } catch (error) {
      // What cannot be compared is served all the same.
      this.#lane.log.warn({ err: errorText(error) }, 'there is nothing to compare with')
      return { how: 'invalid' }
    }
  }

  async #find(body: Buffer): Promise<MatchFrame> {
    const chosen = await this.#player.choose(this.#request(body))
    if (!('claims' in chosen)) {
      if (chosen.kind === 'missed' || chosen.kind === 'exhausted') {
        this.#lane.counters.add(chosen.kind)
      }
      return { how: chosen.kind === 'record' ? 'missed' : chosen.kind }
    }
    if (this.#over) this.#player.givenBack(chosen, true)
    else this.#taken = chosen
    return { how: chosen.choice.how, recorded: this.#player.placeOf(chosen.record) }
  }

  pause(): void {
    this.#play.pause()
  }

  resume(): void {
    this.#play.resume()
  }

  abort(): void {
    this.#over = true
    this.#play.abort()
  }

  onDeadline(): void {
    // A replay waits for nothing but its own pace.
  }

  /**
   * The client's connection has done with this answer: all of it was handed over, or not. One that
   * broke off when it was recorded was, once it has broken off again.
   */
  onClientClosed(wasWhole: boolean): void {
    const taken = this.#taken
    this.#over = true
    if (taken === undefined) return
    this.#taken = undefined
    if (wasWhole || this.#play.hasBrokenOff) this.#player.used(taken)
    else this.#player.givenBack(taken, true)
  }

  async #answer(body: Buffer): Promise<void> {
    const request = this.#request(body)
    for (;;) {
      const chosen = await this.#player.choose(request)
      if (!('claims' in chosen)) return await this.#unanswered(chosen, request)
      if (this.#over) return this.#player.givenBack(chosen, true)
      this.#taken = chosen
      this.#owner.onFound(true)
      const answer = await this.#player.load(chosen, request)
      if (this.#over) return
      if (typeof answer !== 'string') return this.#begin(answer, chosen)
      this.#owner.onFound(false)
      if (this.#player.passOver(chosen)) continue
      this.#giveBack()
      const message = `record ${chosen.record + 1} cannot be replayed: ${answer}`
      const hint = 'take it out of the recording, or pass over such records with --on-unusable skip'
      return this.#owner.refuse(new RolltapeError('tape_record_unusable', message, { hint }))
    }
  }

  #request(body: Buffer): PlayRequest {
    const { arrival } = this.#intake
    const { method, session, run, isGeneration } = arrival
    const target = arrival.redaction.target(arrival.target)
    const { turnMax, single } = this.#intake.rules
    const isRetry = this.#isRetry
    return { method, target, session, run, body, isGeneration, isRetry, turnMax, single }
  }

  async #unanswered(choice: Choice, request: PlayRequest): Promise<void> {
    if (this.#goesLive(choice)) {
      if (!this.#over) this.#owner.onLive(request.body)
      return
    }
    const { counters } = this.#lane
    if (choice.kind === 'missed' || choice.kind === 'exhausted') counters.add(choice.kind)
    const why = choice.kind === 'missed' ? await this.#player.explain(request) : undefined
    const { method, path, session } = this.#intake.arrival
    if (!this.#over) this.#owner.refuse(notFound(choice, `${method} ${path}`, session, why))
  }

  /** In `hybrid` the upstream judges what it is sent, and goes on where the recording ends. */
  #goesLive(choice: Choice): boolean {
    if (this.#intake.rules.mode !== 'hybrid') return false
    return choice.kind !== 'exhausted' || this.#intake.rules.endsLive
  }

  #begin(answer: PlayedAnswer, { record, mismatch }: Taken): void {
    if (mismatch !== undefined) {
      const { session } = this.#intake.arrival
      this.#lane.log.warn(
        { session, record: record + 1, ...mismatch },
        'another model is asked for',
      )
    }
    this.#play.begin(answer)
  }

  /** The answer was never begun: whoever asks next may have the record. */
  #giveBack(): void {
    const taken = this.#taken
    this.#taken = undefined
    if (taken !== undefined) this.#player.givenBack(taken, false)
  }
}

function notFound(
  choice: Choice,
  what: string,
  session: string,
  why: string | undefined,
): RolltapeError {
  if (choice.kind === 'invalid') return new RolltapeError('bad_request', choice.why)
  if (choice.kind === 'exhausted') {
    return new RolltapeError(
      'tape_exhausted',
      `trajectory exhausted at step ${choice.step} (total recorded steps=${choice.total})`,
    )
  }
  return new RolltapeError(
    'tape_miss',
    `no recorded answer to this ${what} of session "${session}"`,
    { hint: why ?? 'name what differs from the recording with --ignore, or record it' },
  )
}
