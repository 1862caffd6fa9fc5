/**
 * A lane's stock of recorded answers: finds the record for a request, reads its answer through a
 * worker, keeps what was asked for lately, and moves claims on.
 */
import { resolve } from 'node:path'
import { Piscina } from 'piscina'
import {
  ANSWERS_CACHED_BYTES_MAX,
  CANONICAL_INLINE_BYTES_MAX,
  EXPLAINED_AT_ONCE_MAX,
  EXPLAIN_CANDIDATES_MAX,
} from '../limits.ts'
import type { RolltapeConfig } from '../options.ts'
import type { AskedForm, PlayTask, PlayedAnswer } from '../replay/answer.ts'
import type { IgnoreRules } from '../replay/canonical.ts'
import { Claims } from '../replay/claims.ts'
import type { ClaimsMemory, RunClaims } from '../replay/claims.ts'
import { LIST, ReplayIndex } from '../replay/index-table.ts'
import type { IndexMemory } from '../replay/index-table.ts'
import type { RequestPlace } from '../replay/explain-task.ts'
import { IS_SHAPED, IS_STREAM, IS_TRUNCATED, IS_UNUSABLE } from '../replay/packed.ts'
import { bodyDigest, canonicalKey, keyHead, rawKey } from '../replay/key.ts'
import type { Key } from '../replay/key.ts'
import { select } from '../replay/select.ts'
import type { Choice, SelectOptions } from '../replay/select.ts'
import type { RecordedPlace } from '../tape/exchange.ts'
import { workerUrl } from '../workers.ts'
import type { LaneCounters } from '../supervisor/shared.ts'
import { topLevelString, topLevelTrue, topLevelValue } from './body-scan.ts'

/** The recording a lane replays. */
export interface LaneReplay {
  /** The files of records; none when the source is a tape alone. */
  readonly files: readonly string[]
  /** The tape; undefined when there are just records. */
  readonly folder: string | undefined
  readonly index: IndexMemory
  /** What does not count in bodies; the index was built with the same. */
  readonly ignore: IgnoreRules
  readonly claims: ClaimsMemory
}

/** Asks who is bound to recorded sessions. */
export interface AskingQuestion {
  readonly run: string
  readonly recorded: readonly string[]
}

/** A request as the player sees it. */
export interface PlayRequest {
  readonly method: string
  readonly target: string
  readonly session: string
  readonly run: string
  readonly body: Buffer
  readonly isGeneration: boolean
  readonly isRetry: boolean
  /** Generation records of later turns are as if they were not there. */
  readonly turnMax: number
  /** A recorded stream is to come in one chunk. */
  readonly single: boolean
}

/** A record that was chosen for somebody, until it is used or given back. */
export interface Taken {
  readonly record: number
  readonly claims: RunClaims
  /** False where the record was not claimed: nothing is to be given back. */
  readonly claimed: boolean
  readonly choice: Choice & { readonly kind: 'record' }
  /** In `sequence`, the two models when the request names another than was recorded. */
  readonly mismatch: { readonly asked: string; readonly recorded: string } | undefined
}

/** An answer without a stream. */
const WHOLE: AskedForm = { isStream: false, includeUsage: false, single: false }

/** Finds and reads recorded answers. */
export class Player {
  readonly #index: ReplayIndex
  readonly #claims: Claims
  readonly #options: Omit<SelectOptions, 'turnMax'>
  readonly #ignore: IgnoreRules
  readonly #onAbort: 'rewind' | 'consume'
  readonly #pool: Piscina<PlayTask, PlayedAnswer | string | Key | undefined>
  readonly #counters: LaneCounters
  readonly #source: LaneReplay
  /** By record and form. */
  readonly #cache = new Map<number, PlayedAnswer>()
  #cachedBytes = 0
  #explaining = 0
  /** Who holds a claimed record here: an SDK's retry takes it over while the old socket lingers. */
  readonly #holders = new WeakMap<RunClaims, Map<number, Taken>>()

  constructor(replay: LaneReplay, config: RolltapeConfig, counters: LaneCounters, lane: number) {
    this.#index = new ReplayIndex(replay.index)
    this.#claims = new Claims(replay.claims, this.#index.count, this.#index.sessions.length, lane)
    // Copied with each request, so it holds nothing else of the configuration.
    const { match, sessionMatch, onExhausted, onUnusable, replayPartial } = config
    this.#options = { match, sessionMatch, onExhausted, onUnusable, replayPartial }
    this.#ignore = replay.ignore
    this.#onAbort = config.onAbort
    this.#counters = counters
    this.#source = replay
    this.#pool = new Piscina({
      filename: workerUrl('play').href,
      minThreads: 1,
      maxThreads: 1,
      idleTimeout: 60_000,
      recordTiming: false,
      workerData: { files: replay.files, folder: replay.folder },
    })
  }

  /** Resolves when answers can be read: the first one must not wait for its worker to start. */
  async ready(): Promise<void> {
    await this.#pool.run({ canonical: { head: '', body: '{}', ignore: this.#ignore } })
  }

  /**
   * Chooses the record for a request and claims it. The canonical key is made only when the bytes
   * themselves are not recorded, and off the loop when they are many.
   */
  async choose(request: PlayRequest): Promise<Taken | Choice> {
    const head = keyHead(request.method, request.target)
    const raw = rawKey(head, bodyDigest(request.body))
    const inSequence = this.#options.match === 'sequence' && request.isGeneration
    const known = inSequence || this.#index.hasRaw(raw)
    const canonical = known ? undefined : await this.#canonical(head, request.body)
    const isBroken = inSequence
      ? !readsAsObject(request.body)
      : !known && (canonical === undefined || !isObject(request.body))
    if (request.isGeneration && isBroken) {
      return { kind: 'invalid', why: 'the request body is not a JSON object' }
    }
    const claims = this.#claims.run(request.run)
    const { session, isGeneration, isRetry } = request
    const isStream = canonical !== undefined && topLevelTrue(request.body, 'stream')
    const asked = { session, rawKey: raw, canonicalKey: canonical, isStream, isGeneration, isRetry }
    const options = { ...this.#options, turnMax: request.turnMax }
    const choice = select(this.#index, claims, asked, options)
    if (choice.kind !== 'record') return choice
    const { record, claimed } = choice
    const mismatch = choice.how === 'sequence' ? this.#mismatch(record, request.body) : undefined
    const taken: Taken = { record, claims, claimed, choice, mismatch }
    if (choice.claimed) this.#held(claims).set(choice.record, taken)
    return taken
  }

  /**
   * Reads a record's answer in the form that the request's body asks for; a text says why there is
   * none.
   */
  async load(taken: Taken, request: PlayRequest): Promise<PlayedAnswer | string> {
    const { record } = taken
    const form = this.#formOf(taken, request, this.#index.entry(record).segment >= 0)
    const key = record * FORMS + formNumber(form)
    let answer = this.#cache.get(key)
    if (answer === undefined) {
      const read = (await this.#pool.run(this.#task(taken, request, form))) as PlayedAnswer | string
      if (typeof read === 'string') {
        this.#counters.add('unusable')
        return read
      }
      answer = read
    }
    this.#keep(key, answer)
    this.#counters.add(taken.choice.how === 'canonical' ? 'servedByRule' : 'servedExact')
    if (taken.mismatch !== undefined) this.#counters.add('modelMismatch')
    return answer
  }

  /** A record that turned out to be unusable is passed over from now on (`on_unusable: skip`). */
  passOver(taken: Taken): boolean {
    if (this.#options.onUnusable !== 'skip' || !taken.claimed) return false
    this.used(taken)
    return true
  }

  /**
   * Why a request was missed, in a few lines: the recorded request that comes nearest, and what to
   * ignore. Compared with its session's records first, and with so many at most.
   */
  async explain(request: PlayRequest): Promise<string | undefined> {
    if (this.#explaining >= EXPLAINED_AT_ONCE_MAX) return undefined
    this.#explaining++
    try {
      const task = {
        head: keyHead(request.method, request.target),
        body: request.body.toString(),
        ignore: this.#ignore,
        places: this.#placesFor(request.session),
      }
      return (await this.#pool.run({ explain: task })) as string
    } finally {
      this.#explaining--
    }
  }

  #placesFor(session: string): RequestPlace[] {
    const index = this.#index
    const own = index.sessionNumber(session)
    const near: number[] = []
    for (let record = own === undefined ? -1 : index.firstOf(own); record >= 0;) {
      if (near.push(record) >= EXPLAIN_CANDIDATES_MAX) break
      record = index.next(LIST.session, record)
    }
    const far: number[] = []
    const room = Math.min(EXPLAIN_CANDIDATES_MAX - near.length, EXPLAIN_CANDIDATES_MAX / 2)
    for (let session = 0; far.length < room && session < index.sessions.length; session++) {
      let record = session === own ? -1 : index.firstOf(session)
      for (; record >= 0 && far.length < room; record = index.next(LIST.session, record)) {
        far.push(record)
      }
    }
    return [...near, ...far].map((record) => {
      const { file, lineOffset, lineBytes, segment, offset, seq } = this.#index.entry(record)
      const name = this.#index.segments[segment]
      const line = { file, offset: lineOffset, length: lineBytes }
      if (name === undefined) return { line }
      const otherwise = lineBytes === 0 ? undefined : line
      return { position: { segment: name, offset }, seq, otherwise }
    })
  }

  /** Where a record stands, for whoever reads it later, from anywhere. */
  placeOf(record: number): RecordedPlace {
    const entry = this.#index.entry(record)
    const { lineOffset, lineBytes, segment, offset, seq } = entry
    const { files, folder } = this.#source
    const name = this.#index.segments[segment]
    // A tape stays where it is; lines move to other files when their recorder rotates them.
    if (name !== undefined) return { folder: resolve(folder ?? ''), segment: name, offset, seq }
    return { file: resolve(files[entry.file] ?? ''), offset: lineOffset, bytes: lineBytes, seq }
  }

  /** The answer's last byte has been handed to the kernel. */
  used(taken: Taken): void {
    if (!this.#drop(taken)) return
    taken.claims.use(taken.record)
  }

  /** The client left before the end, or there was nothing to give. */
  givenBack(taken: Taken, wasAborted: boolean): void {
    if (wasAborted) this.#counters.add('aborted')
    if (!this.#drop(taken)) return
    if (wasAborted && this.#onAbort === 'consume') taken.claims.use(taken.record)
    else taken.claims.release(taken.record)
  }

  /** Who is bound to each of these recorded sessions in a run, as far as this lane has learnt it. */
  askingNames({ run, recorded }: AskingQuestion): (string | null)[] {
    const bound = this.#claims.known.get(run)?.boundHere ?? new Map<string, number>()
    const names = new Map([...bound].map(([name, session]) => [session, name]))
    return recorded.map((name) => names.get(this.#index.sessionNumber(name) ?? -1) ?? null)
  }

  /** Ends the workers. */
  async close(): Promise<void> {
    await this.#pool.destroy()
  }

  /** False when a retry has taken the record over meanwhile, or it was never claimed. */
  #drop(taken: Taken): boolean {
    const held = this.#held(taken.claims)
    if (!taken.claimed || held.get(taken.record) !== taken) return false
    held.delete(taken.record)
    return true
  }

  #held(claims: RunClaims): Map<number, Taken> {
    let held = this.#holders.get(claims)
    if (held === undefined) this.#holders.set(claims, (held = new Map()))
    return held
  }

  async #canonical(head: string, body: Buffer): Promise<Key | undefined> {
    if (body.length <= CANONICAL_INLINE_BYTES_MAX) return canonicalKey(head, body, this.#ignore)
    const task = { canonical: { head, body: body.toString(), ignore: this.#ignore } }
    return (await this.#pool.run(task)) as Key | undefined
  }

  /** Undefined when the recorded bytes can be given as they are. */
  #formOf(
    { record, choice }: Taken,
    { body, single: asksSingle }: PlayRequest,
    onTape: boolean,
  ): AskedForm | undefined {
    const flags = this.#index.flags(record)
    const { status } = this.#index.entry(record)
    if ((flags & IS_SHAPED) === 0 || (flags & IS_UNUSABLE) !== 0 || status >= 400) {
      return onTape ? undefined : WHOLE
    }
    if (onTape && choice.how === 'raw' && !asksSingle) return undefined
    const isStream = topLevelTrue(body, 'stream')
    const wasStream = (flags & IS_STREAM) !== 0
    const isCut = (flags & IS_TRUNCATED) !== 0
    const single = asksSingle && isStream && !isCut
    // Of a whole answer that broke off nothing but its bytes can be given.
    const fits = isStream === wasStream || (isCut && !wasStream)
    if (onTape && fits && !single) return undefined
    const options = isStream ? topLevelValue(body, 'stream_options') : undefined
    const includeUsage = options !== undefined && topLevelTrue(options, 'include_usage')
    return { isStream, includeUsage, single: single && isStream === wasStream }
  }

  #task(taken: Taken, request: PlayRequest, form: AskedForm | undefined): PlayTask {
    const { segment, offset, seq, file, lineOffset, lineBytes } = this.#index.entry(taken.record)
    const line = { file, offset: lineOffset, length: lineBytes }
    if (segment < 0) return { line, form: form ?? WHOLE }
    const position = { segment: this.#index.segments[segment] ?? '', offset }
    if (lineBytes === 0) return { position, seq, form }
    const lineForm = this.#formOf(taken, request, false) ?? WHOLE
    return { position, seq, form, otherwise: { line, form: lineForm } }
  }

  /** Model mismatch is no miss where the order decides. */
  #mismatch(record: number, body: Buffer): Taken['mismatch'] {
    const recorded = this.#index.model(record)
    const asked = topLevelString(body, 'model')
    if (recorded === undefined || typeof asked !== 'string' || asked === recorded) return undefined
    return { asked, recorded }
  }

  /** The answer asked for last goes last, once there is so little room that the order counts. */
  #keep(key: number, answer: PlayedAnswer): void {
    const known = this.#cache.get(key)
    if (known === answer && this.#cachedBytes < ANSWERS_CACHED_BYTES_MAX / 2) return
    // Two who asked at once have both read it.
    this.#cachedBytes += answer.body.byteLength - (known?.body.byteLength ?? 0)
    if (known !== undefined) this.#cache.delete(key)
    this.#cache.set(key, answer)
    if (this.#cachedBytes <= ANSWERS_CACHED_BYTES_MAX) return
    for (const [oldest, old] of this.#cache) {
      if (this.#cachedBytes <= ANSWERS_CACHED_BYTES_MAX) break
      this.#cache.delete(oldest)
      this.#cachedBytes -= old.body.byteLength
    }
  }
}

/** True when the first byte that is no space opens an object; an empty body counts as one. */
function isObject(body: Buffer): boolean {
  const first = body.findIndex((byte) => byte > 0x20)
  return first < 0 || body[first] === 0x7b
}

/** Forms an answer can be cached in: as recorded, whole; streamed, with usage or not, in one chunk or not. */
const FORMS = 6

function formNumber(form: AskedForm | undefined): number {
  if (form === undefined) return 0
  if (!form.isStream) return 1
  return 2 + (form.includeUsage ? 1 : 0) + (form.single ? 2 : 0)
}

/** An object, as far as a scan can see where the body is long; an empty body counts as one. */
function readsAsObject(body: Buffer): boolean {
  if (!body.some((byte) => byte > 0x20)) return true
  if (topLevelString(body, '') === null) return false
  return body.length > CANONICAL_INLINE_BYTES_MAX || isJson(body.toString())
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
