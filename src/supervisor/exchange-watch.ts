/**
 * Exchanges as they begin and end, for whoever watches: the last few thousand events in one ring,
 * and for each watcher its place in it. A watcher that is slow costs nothing but that place; what
 * has left the ring before it came by is told to it as a gap.
 *
 * Events are numbered from 1 in the order in which they came here. A resume token is such a number
 * and this instance's name.
 */
import { randomBytes } from 'node:crypto'
import { RolltapeError } from '../errors.ts'
import { WATCHERS_MAX, WATCH_EVENTS_KEPT_MAX, WATCH_LINGER_MS } from '../limits.ts'
import type { WatchBatch, WatchedEvent } from './watched.ts'

/** What a watcher gets. */
export type WatchItem = WatchedEvent | WatchedGap

/** Events that were lost; 0 when nobody knows how many. */
export interface WatchedGap {
  readonly kind: 'gap'
  readonly lost: number
}

/** An item, and what to resume behind it with. */
export interface Watched {
  readonly item: WatchItem
  readonly token: string
}

/** Settings that a test may change. */
export interface WatchRules {
  readonly eventsKeptMax?: number
  readonly watchersMax?: number
  readonly lingerMs?: number
}

/** All watchers and what they are told. */
export class ExchangeWatch {
  readonly #onWatched: (watched: boolean) => void
  readonly #keptMax: number
  readonly #watchersMax: number
  readonly #lingerMs: number
  readonly #instance = randomBytes(6).toString('base64url')
  readonly #ring: WatchItem[] = []
  readonly #watchers = new Set<Watcher>()
  #last = 0
  #watched = false
  #linger: NodeJS.Timeout | undefined
  #over = false

  /** `onWatched` is told when events are wanted, and when they are not any more. */
  constructor(onWatched: (watched: boolean) => void, rules: WatchRules = {}) {
    this.#onWatched = onWatched
    this.#keptMax = rules.eventsKeptMax ?? WATCH_EVENTS_KEPT_MAX
    this.#watchersMax = rules.watchersMax ?? WATCHERS_MAX
    this.#lingerMs = rules.lingerMs ?? WATCH_LINGER_MS
  }

  /** True while events are wanted. */
  get watched(): boolean {
    return this.#watched
  }

  /** Watchers there are. */
  get watchers(): number {
    return this.#watchers.size
  }

  /** Takes what a thread has told. */
  take({ events, lost }: WatchBatch): void {
    if (lost > 0) this.#push({ kind: 'gap', lost })
    for (const event of events) this.#push(event)
    for (const watcher of this.#watchers) watcher.onMore()
  }

  /**
   * Begins to watch: from now on, or behind the item that had this token.
   * @throws RolltapeError `bad_argument` for what is no token, `over_capacity` when too many watch.
   */
  open(resumeToken = ''): Watcher {
    const from = this.#resume(resumeToken)
    if (this.#watchers.size >= this.#watchersMax) {
      const message = `${this.#watchersMax} callers watch exchanges already, which is the most`
      throw new RolltapeError('over_capacity', message)
    }
    const watcher = new Watcher(this, from.after, from.gap)
    this.#watchers.add(watcher)
    clearTimeout(this.#linger)
    if (!this.#watched) {
      this.#watched = true
      this.#onWatched(true)
    }
    if (this.#over) watcher.end()
    return watcher
  }

  /** Rolltape has stopped: no watcher gets anything more. */
  close(): void {
    this.#over = true
    clearTimeout(this.#linger)
    for (const watcher of this.#watchers) watcher.end()
  }

  /** For watchers: the item behind `after`, or the gap that is there instead. */
  read(after: number): { readonly item: WatchItem; readonly at: number } | undefined {
    if (after >= this.#last) return undefined
    const oldest = Math.max(1, this.#last - this.#keptMax + 1)
    if (after + 1 < oldest) {
      return { item: { kind: 'gap', lost: oldest - after - 1 }, at: oldest - 1 }
    }
    const item = this.#ring[(after + 1) % this.#keptMax]
    return item && { item, at: after + 1 }
  }

  /** For watchers: the token of a place. */
  token(at: number): string {
    return `${this.#instance}.${at}`
  }

  /** For watchers: one has left. */
  leave(watcher: Watcher): void {
    if (!this.#watchers.delete(watcher) || this.#watchers.size > 0) return
    clearTimeout(this.#linger)
    // One that was cut off may come back with its token, and should have missed nothing.
    this.#linger = setTimeout(() => this.#unwatch(), this.#lingerMs)
    this.#linger.unref()
  }

  #unwatch(): void {
    this.#watched = false
    this.#onWatched(false)
    // What comes between now and the next watcher is not among the events.
    if (this.#last > 0) this.#push({ kind: 'gap', lost: 0 })
  }

  #push(item: WatchItem): void {
    this.#last++
    this.#ring[this.#last % this.#keptMax] = item
  }

  #resume(token: string): { after: number; gap: WatchedGap | undefined } {
    if (token === '') return { after: this.#last, gap: undefined }
    const [, instance, number] = /^([\w-]{8})\.(\d{1,15})$/.exec(token) ?? []
    if (instance === undefined) {
      throw new RolltapeError(
        'bad_argument',
        'resume_token is none that WatchExchanges has given',
        {
          hint: 'give the resume_token of the last message as it came, or none',
        },
      )
    }
    const after = Number(number)
    if (instance === this.#instance && after <= this.#last) return { after, gap: undefined }
    // Of an instance before this one: what came since is not known here.
    return { after: this.#last, gap: { kind: 'gap', lost: 0 } }
  }
}

/** One watcher's place. */
export class Watcher {
  /** Called when there is more, or the end has come. */
  onMore: () => void = () => undefined
  /** True once nothing more will come. */
  ended = false
  readonly #watch: ExchangeWatch
  #after: number
  #gap: WatchedGap | undefined

  constructor(watch: ExchangeWatch, after: number, gap: WatchedGap | undefined) {
    this.#watch = watch
    this.#after = after
    this.#gap = gap
  }

  /** To resume from where this watcher is. */
  get token(): string {
    return this.#watch.token(this.#after)
  }

  /** What comes next; undefined when nothing is there now. */
  next(): Watched | undefined {
    const gap = this.#gap
    if (gap !== undefined) {
      this.#gap = undefined
      return { item: gap, token: this.token }
    }
    const read = this.#watch.read(this.#after)
    if (read === undefined) return undefined
    this.#after = read.at
    return { item: read.item, token: this.token }
  }

  /** No more will come. */
  end(): void {
    this.ended = true
    this.onMore()
  }

  /** Leaves. */
  close(): void {
    this.onMore = () => undefined
    this.#watch.leave(this)
  }
}
