/**
 * A lane's tickets (L24): an exchange runs with one, from before its body is read until its answer is
 * with the kernel. While none is free requests wait in line, for so long; then they get 429. As far
 * as there is room the first of them are read all the same: a client whose bytes nobody reads is not
 * seen to leave, and would keep its place in the line. The places themselves are shared by all
 * lanes, see `supervisor/ticket-table.ts`.
 *
 * Who waits stands in `#line` by arrival; the first one's number is shown to the other lanes. A
 * ticket is given back once, whatever became of its exchange: waiting, running, never begun.
 */
import { RolltapeError, toRolltapeError } from '../errors.ts'
import { EXCHANGE_BYTES, WAITING_BYTES_MAX } from '../limits.ts'
import type { CapacityConfig } from '../options/capacity.ts'
import type { TicketBounds, TicketTable } from '../supervisor/ticket-table.ts'
import { Line } from './line.ts'
import type { Queued } from './line.ts'
import { WheelEntry } from './wheel.ts'
import type { Wheel } from './wheel.ts'

/** Who waits for a ticket. */
export interface TicketOwner {
  /** True once nobody waits for it any more. */
  readonly isOver: boolean
  /** Bytes that it must read to see its client leave while it waits; 0 when it sees that anyway. */
  readonly aheadBytes: number
  /** There is room for them. */
  readAhead(): void
  /** It may go on; not called for a ticket that was free at once. */
  onTicket(): void
  /** It has waited in vain. */
  onNoTicket(error: RolltapeError): void
}

/** One exchange's place. */
export interface Ticket extends Queued {
  readonly owner: TicketOwner
  /** What it counts for. */
  kib: number
  /** Of that, what it was taken for. */
  readonly ownKib: number
  state: 'waiting' | 'running' | 'given'
  /** Its number in line; 0 when it never waited. */
  number: number
  /** `performance.now()` until which it waits. */
  untilMs: number
  /** What it may have read while it waits; undefined before it is known. */
  aheadBytes: number | undefined
}

const KIB = 1024
/** How often who waits looks for a place by itself; who leaves one tells the first in line at once. */
const QUEUE_LOOK_MS = 20
const RETRY = { hint: 'try again in a moment' }

/** Gives tickets to the exchanges of one lane. */
export class Tickets extends WheelEntry {
  readonly #table: TicketTable
  readonly #lane: number
  readonly #wheel: Wheel
  readonly #config: () => CapacityConfig
  readonly #line = new Line<Ticket>()
  /** What those who wait may have read. */
  #aheadBytes = 0
  /** Nobody in line waits for less long. */
  #untilMs = Infinity
  #isListening = false
  #isServing = false

  /** `config` is that of requests that arrive now. */
  constructor(table: TicketTable, lane: number, wheel: Wheel, config: () => CapacityConfig) {
    super()
    this.#table = table
    this.#lane = lane
    this.#wheel = wheel
    this.#config = config
  }

  /** Requests of this lane that wait. */
  get waiting(): number {
    return this.#line.size
  }

  /**
   * A ticket for an exchange that keeps so much of its request in memory: running, or waiting.
   * Undefined where nothing is bounded: then none is needed.
   * @throws RolltapeError `over_capacity` when too many wait already.
   */
  take(owner: TicketOwner, bodyBytes: number): Ticket | undefined {
    const config = this.#config()
    if (config.maxInFlight === 0 && config.maxInFlightBytes === 0) return undefined
    const kib = Math.ceil((bodyBytes + EXCHANGE_BYTES) / KIB)
    const ticket = ticketOf(owner, kib)
    const waiting = this.#table.waiting
    if (waiting === 0 && this.#table.take(this.#lane, kib, boundsOf(config))) return ticket
    if (waiting >= config.maxQueue) throw this.#full(config)
    if (config.queueTimeoutMs > 0) ticket.untilMs = performance.now() + config.queueTimeoutMs
    ticket.state = 'waiting'
    ticket.number = this.#table.enqueue(this.#lane)
    this.#line.add(ticket)
    this.#untilMs = Math.min(this.#untilMs, ticket.untilMs)
    this.#show()
    this.#watch()
    // A place that was let go before this one was seen to wait is found now, once it has its ticket.
    queueMicrotask(() => this.#serve())
    return ticket
  }

  /** The exchange keeps more than was known, by so many bytes since it has its ticket: true if it may. */
  grow(ticket: Ticket, bytes: number): boolean {
    const kib = ticket.ownKib + Math.ceil(bytes / KIB) - ticket.kib
    if (kib <= 0) return ticket.state === 'running'
    const { kibMax } = boundsOf(this.#config())
    if (ticket.state !== 'running' || !this.#table.grow(this.#lane, kib, kibMax)) return false
    ticket.kib += kib
    return true
  }

  /** The exchange is over, or waits no longer. Later calls change nothing. */
  give(ticket: Ticket): void {
    const { state } = ticket
    if (state === 'given') return
    ticket.state = 'given'
    if (state === 'waiting') this.#leave(ticket)
    else this.#table.give(this.#lane, ticket.kib)
    if (this.#table.waiting > 0) this.#next()
  }

  onDeadline(nowMs: number): void {
    if (nowMs >= this.#untilMs) this.#endLate(nowMs)
    this.#serve()
    this.#readAhead()
    this.#watch()
  }

  /** A reload may have changed how long they wait: the first need not be the first to go. */
  #endLate(nowMs: number): void {
    this.#untilMs = Infinity
    // Whoever is told may be gone, and take others along.
    const waiting = Array.from(this.#line)
    for (const ticket of waiting) {
      if (ticket.state !== 'waiting') continue
      if (ticket.untilMs > nowMs) {
        this.#untilMs = Math.min(this.#untilMs, ticket.untilMs)
        continue
      }
      this.give(ticket)
      ticket.owner.onNoTicket(this.#late())
    }
  }

  /** Lets the first in line go, as far as there is room; it is another lane's turn after that. */
  #serve(): void {
    // Whoever goes may be over at once, and give its ticket back in here.
    if (this.#isServing) return
    this.#isServing = true
    for (let ticket = this.#line.first; ticket !== undefined; ticket = this.#line.first) {
      if (this.#table.turn() !== this.#lane) break
      const bounds = boundsOf(this.#config())
      if (bounds.kibMax > 0 && ticket.kib > bounds.kibMax) {
        // The budget was lowered while it waited: nobody passes it, and it would wait for ever.
        this.give(ticket)
        ticket.owner.onNoTicket(this.#large(ticket))
        continue
      }
      if (!this.#table.take(this.#lane, ticket.kib, bounds)) break
      ticket.state = 'running'
      this.#leave(ticket)
      if (ticket.owner.isOver) this.give(ticket)
      else goOn(ticket.owner)
    }
    this.#isServing = false
    const turn = this.#table.turn()
    if (turn >= 0 && turn !== this.#lane) this.#table.wake(turn)
  }

  #next(): void {
    const turn = this.#table.turn()
    if (turn === this.#lane) this.#serve()
    else if (turn >= 0) this.#table.wake(turn)
  }

  #leave(ticket: Ticket): void {
    this.#line.delete(ticket)
    this.#aheadBytes -= ticket.aheadBytes ?? 0
    this.#table.dequeue(this.#lane)
    this.#show()
  }

  /** The first in line read on while there is room for their bodies. */
  #readAhead(): void {
    const readers: Ticket[] = []
    for (const ticket of this.#line) {
      if (ticket.aheadBytes !== undefined) continue
      const { aheadBytes } = ticket.owner
      if (this.#aheadBytes + aheadBytes > WAITING_BYTES_MAX) break
      ticket.aheadBytes = aheadBytes
      this.#aheadBytes += aheadBytes
      if (aheadBytes > 0) readers.push(ticket)
    }
    for (const { state, owner } of readers) if (state === 'waiting') owner.readAhead()
  }

  #show(): void {
    this.#table.show(this.#lane, this.#line.first?.number ?? 0)
  }

  /** While some wait, other lanes may wake this one, and it looks by itself now and then. */
  #watch(): void {
    if (this.#line.size === 0) return this.#wheel.clear(this)
    this.#wheel.set(this, performance.now() + QUEUE_LOOK_MS)
    if (this.#isListening) return
    this.#isListening = true
    void this.#table.woken(this.#lane).then(() => {
      this.#isListening = false
      this.#serve()
      this.#watch()
    })
  }

  #full({ maxQueue }: CapacityConfig): RolltapeError {
    const message = `${this.#state()}; max_queue is ${maxQueue}, and ${this.#table.waiting} wait`
    return new RolltapeError('over_capacity', message, RETRY)
  }

  #late(): RolltapeError {
    const { queueTimeoutMs } = this.#config()
    const message = `${this.#state()}; no place came free within queue_timeout (${queueTimeoutMs} ms)`
    return new RolltapeError('over_capacity', message, RETRY)
  }

  #large({ kib }: Ticket): RolltapeError {
    const { maxInFlightBytes } = this.#config()
    const message = `it needs ${kib * KIB} bytes, and max_in_flight_bytes is ${maxInFlightBytes} now`
    return new RolltapeError('over_capacity', message, { hint: 'send less at once' })
  }

  #state(): string {
    const { maxInFlight, maxInFlightBytes } = this.#config()
    const { inFlight, inFlightKib } = this.#table
    const count = maxInFlight === 0 ? '' : ` of max_in_flight ${maxInFlight}`
    const bytes = maxInFlightBytes === 0 ? '' : ` of max_in_flight_bytes ${maxInFlightBytes}`
    return `${inFlight}${count} exchanges run, with ${inFlightKib * KIB}${bytes} bytes`
  }
}

function ticketOf(owner: TicketOwner, kib: number): Ticket {
  return {
    owner,
    kib,
    ownKib: kib,
    state: 'running',
    number: 0,
    untilMs: Infinity,
    aheadBytes: undefined,
    before: undefined,
    after: undefined,
    isQueued: false,
  }
}

function boundsOf({ maxInFlight, maxInFlightBytes }: CapacityConfig): TicketBounds {
  return { countMax: maxInFlight, kibMax: Math.floor(maxInFlightBytes / KIB) }
}

function goOn(owner: TicketOwner): void {
  try {
    owner.onTicket()
  } catch (error) {
    owner.onNoTicket(toRolltapeError(error))
  }
}
