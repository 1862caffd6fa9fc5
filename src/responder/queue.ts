/**
 * Who gets which request, and who may answer it: a state machine without I/O and without a clock.
 *
 *   arriving ──▶ waiting ──▶ given ──▶ answering ──▶ ending ──▶ gone
 *                   ▲──────────┘ its responder died
 *
 * Invariants: a request is with one responder at most, and only that one may answer it. It leaves
 * once: done, refused, cut or cancelled. A responder has no more than its credits. Of a queue, those
 * that were given before come first, then those that came first.
 */
import { RolltapeError } from '../errors.ts'
import { makeLine, pick } from './line.ts'
import type { Entry, Line, Worker } from './line.ts'
import { full, late, lost, sessionEnded } from './refusals.ts'
import type { SessionEnd } from './refusals.ts'
import {
  RESPONDERS_MAX,
  RESPONDER_DELIVERIES_MAX,
  RESPONDER_HELD_BYTES_MAX,
  RESPONDER_SESSIONS_MAX,
} from '../limits.ts'

/** What becomes of requests; each call is about one that the owner has named by its number. */
export interface QueueOwner {
  /** It goes to this responder, for the how many-th time. */
  onGive(id: number, responder: number, delivery: number): void
  /** It gets no answer but this error. */
  onRefuse(id: number, error: RolltapeError): void
  /** Its answer has begun and cannot go on. */
  onCut(id: number): void
  /** Its responder need not go on: nobody waits any more. */
  onCancelled(id: number, responder: number): void
  /** A session is over of which requests have come. */
  onSessionEnded(session: string, why: SessionEnd): void
}

/** What a queue is told of a request. */
export interface Arriving {
  readonly queue: string
  readonly session: string
}

/** Rules that the configuration gives. */
export interface QueueRules {
  /** Requests that may wait in one queue. */
  readonly waitingMax: number
  /** Time a request waits to be taken; 0 is no bound. */
  readonly waitMs: number
  /** What is said when that has passed. */
  readonly onNoResponder: 503 | 504
}

/** All queues. */
export class Queue {
  readonly #owner: QueueOwner
  readonly #rules: () => QueueRules
  readonly #lines = new Map<string, Line>()
  readonly #entries = new Map<number, Entry>()
  readonly #workers = new Map<number, Worker>()
  readonly #sessions = new Set<string>()
  #lastId = 0
  #heldBytes = 0

  constructor(owner: QueueOwner, rules: () => QueueRules) {
    this.#owner = owner
    this.#rules = rules
  }

  /** Requests that are not gone. */
  get size(): number {
    return this.#entries.size
  }

  /** Responders that are there. */
  get responders(): number {
    return this.#workers.size
  }

  /** Bytes of bodies that are kept. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Requests that wait in a queue. */
  waiting(queue: string): number {
    const line = this.#lines.get(queue)
    return line === undefined ? 0 : line.again.size + line.waiting.size
  }

  /** A request has come, its body not yet; its number from now on. */
  arrive({ queue, session }: Arriving): number {
    const id = ++this.#lastId
    const entry: Entry = {
      id,
      line: this.#line(queue),
      session,
      state: 'arriving',
      bytes: 0,
      deliveries: 0,
      worker: undefined,
      untilMs: Infinity,
    }
    this.#entries.set(id, entry)
    this.#see(session)
    return id
  }

  /** More of its body has come; it may be refused over that. */
  grow(id: number, bytes: number): void {
    const entry = this.#entries.get(id)
    if (entry?.state !== 'arriving') return
    entry.bytes += bytes
    this.#heldBytes += bytes
    if (this.#heldBytes <= RESPONDER_HELD_BYTES_MAX) return
    this.#refuse(
      entry,
      full(`requests of ${this.#heldBytes} bytes wait for responders`, RESPONDER_HELD_BYTES_MAX),
    )
  }

  /** All of it is there: it goes to a responder, waits for one, or is refused. */
  submit(id: number, nowMs: number): void {
    const entry = this.#entries.get(id)
    if (entry?.state !== 'arriving') return
    const { line } = entry
    const { waitingMax } = this.#rules()
    const waiting = this.waiting(line.name)
    if (waiting >= waitingMax && pick(line) === undefined) {
      return this.#refuse(entry, full(`${waiting} requests wait in queue ${line.name}`, waitingMax))
    }
    this.#wait(entry, line.waiting, nowMs)
    this.#give(line)
  }

  /** Those that have waited too long are refused. */
  expire(nowMs: number): void {
    for (const line of this.#lines.values()) {
      for (const entry of [...line.again, ...line.waiting]) {
        if (entry.untilMs <= nowMs)
          this.#refuse(entry, late(line.name, line.workers.size, this.#rules()))
      }
    }
  }

  /** Its client has left. */
  cancel(id: number): void {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    const { worker } = entry
    this.#drop(entry)
    if (worker === undefined) return
    this.#owner.onCancelled(id, worker.id)
    this.#give(worker.line)
  }

  /**
   * A responder is there.
   * @throws RolltapeError `over_capacity`.
   */
  join(id: number, queue: string, credits: number): void {
    if (this.#workers.size >= RESPONDERS_MAX) {
      const message = `${RESPONDERS_MAX} responders are there already, which is the most`
      throw new RolltapeError('over_capacity', message)
    }
    const line = this.#line(queue)
    const worker: Worker = { id, line, credits, ready: true, entries: new Set() }
    this.#workers.set(id, worker)
    line.workers.add(worker)
    this.#give(line)
  }

  /** A responder takes so many at once from now on. */
  setCredits(id: number, credits: number): void {
    const worker = this.#workers.get(id)
    if (worker === undefined) return
    worker.credits = credits
    this.#give(worker.line)
  }

  /** A responder reads what it is told, or does not keep up. */
  setReady(id: number, ready: boolean): void {
    const worker = this.#workers.get(id)
    if (worker === undefined) return
    worker.ready = ready
    if (ready) this.#give(worker.line)
  }

  /** A responder is gone: what it has not begun to answer is given to another one. */
  leave(id: number, nowMs: number): void {
    const worker = this.#workers.get(id)
    if (worker === undefined) return
    const { line } = worker
    this.#workers.delete(id)
    line.workers.delete(worker)
    for (const entry of [...worker.entries].sort((a, b) => a.id - b.id)) {
      entry.worker = undefined
      if (entry.state === 'answering') {
        this.#drop(entry)
        this.#owner.onCut(entry.id)
      } else if (entry.state === 'given') {
        if (entry.deliveries < RESPONDER_DELIVERIES_MAX) this.#wait(entry, line.again, nowMs)
        else this.#refuse(entry, lost(entry.deliveries))
      }
    }
    this.#give(line)
  }

  /** Who has a request now. */
  holderOf(id: number): number | undefined {
    return this.#entries.get(id)?.worker?.id
  }

  /** Why a responder's answer may not begin, in words; undefined when it may. */
  mayBegin(id: number, responder: number): string | undefined {
    const entry = this.#of(id, responder)
    if (entry === undefined) return GONE
    return entry.state === 'given' ? undefined : 'its answer has begun already, and it gets one'
  }

  /** A responder's answer begins. As {@link mayBegin}. */
  begin(id: number, responder: number): string | undefined {
    const reason = this.mayBegin(id, responder)
    const entry = this.#entries.get(id)
    if (reason !== undefined || entry === undefined) return reason
    entry.state = 'answering'
    this.#free(entry)
    return undefined
  }

  /** Why more of an answer may not come, in words; undefined when it may. */
  goOn(id: number, responder: number): string | undefined {
    const entry = this.#of(id, responder)
    if (entry === undefined) return GONE
    if (entry.state === 'answering') return undefined
    return entry.state === 'given' ? 'its answer has no head yet' : 'its answer has ended'
  }

  /** An answer is whole, but not with the client yet. As {@link goOn}. */
  end(id: number, responder: number): string | undefined {
    const reason = this.goOn(id, responder)
    const entry = this.#entries.get(id)
    if (reason === undefined && entry !== undefined) entry.state = 'ending'
    return reason
  }

  /** An answer has gone out whole; who gave it, unless it has left since. */
  done(id: number): number | undefined {
    const entry = this.#entries.get(id)
    if (entry?.state !== 'ending') throw new TypeError(`request ${id} is not ending`)
    const { worker } = entry
    this.#drop(entry)
    if (worker !== undefined) this.#give(worker.line)
    return worker?.id
  }

  /** A responder gives no answer, or no more of it. As {@link goOn}. */
  fail(id: number, responder: number, error: RolltapeError): string | undefined {
    const entry = this.#of(id, responder)
    if (entry === undefined) return GONE
    if (entry.state === 'ending') return 'its answer has ended'
    this.#break(entry, error)
    this.#give(entry.line)
    return undefined
  }

  /** A session is over: what waits for an answer waits no longer; how many did. */
  endSession(session: string, why: SessionEnd): number {
    const concerned = [...this.#entries.values()].filter((entry) => {
      return entry.session === session && entry.state !== 'ending'
    })
    const held = concerned.map(({ id, worker }) => [id, worker?.id] as const)
    // All of them first: who is told may be given something else at once.
    for (const entry of concerned) this.#break(entry, sessionEnded(session, why))
    for (const [id, worker] of held) {
      if (worker !== undefined) this.#owner.onCancelled(id, worker)
    }
    if (this.#sessions.delete(session)) this.#owner.onSessionEnded(session, why)
    for (const line of this.#lines.values()) this.#give(line)
    return concerned.length
  }

  /** All sessions are over. */
  endSessions(why: SessionEnd): void {
    const waiting = [...this.#entries.values()].map(({ session }) => session)
    for (const session of new Set([...this.#sessions, ...waiting])) this.endSession(session, why)
  }

  #line(name: string): Line {
    let line = this.#lines.get(name)
    if (line === undefined) {
      line = makeLine(name)
      this.#lines.set(name, line)
    }
    return line
  }

  /** Of sessions that have been quiet for longest nobody will be told. */
  #see(session: string): void {
    this.#sessions.delete(session)
    this.#sessions.add(session)
    if (this.#sessions.size <= RESPONDER_SESSIONS_MAX) return
    for (const oldest of this.#sessions) {
      this.#sessions.delete(oldest)
      break
    }
  }

  #wait(entry: Entry, among: Set<Entry>, nowMs: number): void {
    const { waitMs } = this.#rules()
    entry.state = 'waiting'
    entry.untilMs = waitMs === 0 ? Infinity : nowMs + waitMs
    among.add(entry)
  }

  #give(line: Line): void {
    for (;;) {
      const [entry] = line.again.size > 0 ? line.again : line.waiting
      const worker = entry && pick(line)
      if (entry === undefined || worker === undefined) return
      line.again.delete(entry)
      line.waiting.delete(entry)
      line.workers.delete(worker)
      line.workers.add(worker)
      entry.state = 'given'
      entry.worker = worker
      entry.deliveries++
      worker.entries.add(entry)
      this.#owner.onGive(entry.id, worker.id, entry.deliveries)
    }
  }

  #of(id: number, responder: number): Entry | undefined {
    const entry = this.#entries.get(id)
    return entry?.worker?.id === responder ? entry : undefined
  }

  #break(entry: Entry, error: RolltapeError): void {
    if (entry.state !== 'answering') return this.#refuse(entry, error)
    this.#drop(entry)
    this.#owner.onCut(entry.id)
  }

  #refuse(entry: Entry, error: RolltapeError): void {
    this.#drop(entry)
    this.#owner.onRefuse(entry.id, error)
  }

  #drop(entry: Entry): void {
    this.#free(entry)
    this.#entries.delete(entry.id)
    entry.line.again.delete(entry)
    entry.line.waiting.delete(entry)
    entry.worker?.entries.delete(entry)
  }

  #free(entry: Entry): void {
    this.#heldBytes -= entry.bytes
    entry.bytes = 0
  }
}

const GONE = 'it is over, or another responder has it'
