/**
 * A lane's exchanges as watchers are told of them. Nothing is kept and nothing told while nobody
 * watches. Ends of exchanges that are recorded are told by the appender, with their record; here
 * only those of exchanges that have none.
 */
import type { ServerResponse } from 'node:http'
import { WatchFlag } from '../supervisor/shared.ts'
import { WatchOutlet, short } from '../supervisor/watched.ts'
import type { WatchBatch, WatchedBegin } from '../supervisor/watched.ts'
import type { Exchange } from './exchange.ts'

/** Lanes number what they tell of apart from each other. */
const IDS_PER_LANE = 2 ** 40

/** What is to be known of a lane. */
export interface WatchedLane {
  /** Its number. */
  readonly lane: number
  /** Memory of all lanes' counters, the flag that is set while somebody watches among it. */
  readonly counters: SharedArrayBuffer
}

interface Begun {
  readonly begin: WatchedBegin
  readonly sinceMs: number
  readonly res: ServerResponse
}

/** Tells of a lane's exchanges. */
export class LaneWatch {
  readonly #flag: WatchFlag
  readonly #outlet: WatchOutlet
  readonly #begun = new Map<Exchange, Begun>()
  /** Numbers of exchanges that ran under watch and that the tape did not take. */
  readonly #voided = new Set<number>()
  #lastId: number

  constructor(send: ((batch: WatchBatch) => void) | undefined, lane: WatchedLane) {
    this.#flag = new WatchFlag(lane.counters)
    this.#lastId = lane.lane * IDS_PER_LANE
    this.#outlet = new WatchOutlet(send ?? (() => undefined))
  }

  /** The last batch has been taken. */
  onTaken(): void {
    this.#outlet.onTaken()
  }

  /** An exchange has just been accepted. */
  onBegin(exchange: Exchange, res: ServerResponse): void {
    if (!this.#flag.isSet) return this.#forget()
    const { seq, session, method, path } = exchange.arrival
    const begin: WatchedBegin = {
      kind: 'began',
      watchId: ++this.#lastId,
      seq,
      session,
      method,
      path: short(path),
      atMs: Date.now(),
    }
    this.#begun.set(exchange, { begin, sinceMs: performance.now(), res })
    this.#outlet.add(begin)
  }

  /** It is over. */
  onClosed(exchange: Exchange): void {
    const begun = this.#begun.get(exchange)
    if (begun === undefined) return
    this.#begun.delete(exchange)
    const { seq } = exchange.arrival
    if (seq === 0) return this.#end(begun, 0)
    // That the tape does not have it is told in the same turn, before or after this.
    queueMicrotask(() => {
      if (this.#voided.delete(seq)) this.#end(begun, seq)
    })
  }

  /** The tape does not have the exchange of this number, so no record will tell of its end. */
  onVoid(seq: number): void {
    if (this.#begun.size > 0 || this.#flag.isSet) this.#voided.add(seq)
  }

  #end({ begin, sinceMs, res }: Begun, seq: number): void {
    this.#outlet.add({
      ...begin,
      kind: 'ended',
      seq,
      atMs: Date.now(),
      httpStatus: res.headersSent ? res.statusCode : 0,
      durationMs: performance.now() - sinceMs,
      record: undefined,
    })
  }

  #forget(): void {
    if (this.#begun.size > 0) this.#begun.clear()
    if (this.#voided.size > 0) this.#voided.clear()
  }
}
