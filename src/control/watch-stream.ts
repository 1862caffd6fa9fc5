/**
 * Events on their way to one watcher: as fast as it reads, never faster. What waits for it is in
 * the ring of all watchers, so a slow one has nothing of its own but its place there.
 */
import { once } from 'node:events'
import type { ServerWritableStream } from '@grpc/grpc-js'
import type { WatchItem, Watcher } from '../supervisor/exchange-watch.ts'
import type { Outcome } from '../trajectory/record.ts'
import type {
  Mode,
  WatchExchangesRequest,
  WatchExchangesResponse,
} from './gen/rolltape/control/v1/control.ts'
import { eventMessage } from './messages.ts'

/** A call of WatchExchanges. */
export type WatchCall = ServerWritableStream<WatchExchangesRequest, WatchExchangesResponse>

/** What a watcher wants; what is empty does not matter. */
export interface WatchFilter {
  readonly session: string
  readonly models: ReadonlySet<string>
  readonly outcomes: ReadonlySet<Outcome>
}

/** Items passed over in a row before others get their turn. */
const PASSED_OVER_MAX = 1_000

/** Writes events until the watcher leaves or rolltape stops. */
export async function relayWatch(
  call: WatchCall,
  watcher: Watcher,
  filter: WatchFilter,
  mode: Mode,
  signal: AbortSignal,
): Promise<void> {
  const started = { $case: 'started', value: { mode } } as const
  call.write({ resumeToken: watcher.token, event: started })
  let passedOver = 0
  while (!signal.aborted) {
    const next = watcher.next()
    if (next === undefined) {
      if (watcher.ended) return
      await more(watcher, signal)
    } else if (!wants(filter, next.item)) {
      if (++passedOver % PASSED_OVER_MAX === 0) await new Promise(setImmediate)
    } else if (!call.write(eventMessage(next.item, next.token))) {
      await once(call, 'drain', { signal }).catch(() => undefined)
    }
  }
}

function more(watcher: Watcher, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const wake = (): void => resolve()
  watcher.onMore = wake
  signal.addEventListener('abort', wake)
  return promise.finally(() => {
    watcher.onMore = () => undefined
    signal.removeEventListener('abort', wake)
  })
}

/** True for what a watcher asked for; gaps are for everybody. */
export function wants({ session, models, outcomes }: WatchFilter, item: WatchItem): boolean {
  if (item.kind === 'gap') return true
  if (session !== '' && item.session !== session) return false
  if (models.size + outcomes.size === 0) return true
  if (item.kind === 'began' || item.record === undefined) return false
  if (models.size > 0 && !models.has(item.record.model)) return false
  return outcomes.size === 0 || outcomes.has(item.record.outcome)
}
