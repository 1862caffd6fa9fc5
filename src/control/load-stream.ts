/** How far a load is, on its way to one caller: seldom enough that a slow one holds nothing up. */
import type { ServerWritableStream } from '@grpc/grpc-js'
import { LOAD_TOLD_MS } from '../limits.ts'
import type { LoadTapeRequest, LoadTapeResponse } from './gen/rolltape/control/v1/control.ts'

/** A call of LoadTape. */
export type LoadCall = ServerWritableStream<LoadTapeRequest, LoadTapeResponse>

/** Takes what has been read and tells some of it: the first time, the last time, now and then. */
export function progressTo(call: LoadCall): (doneBytes: number, totalBytes: number) => void {
  let toldMs = -Infinity
  return (doneBytes, totalBytes) => {
    const nowMs = performance.now()
    const isLast = doneBytes >= totalBytes
    if (call.writableNeedDrain || (!isLast && nowMs - toldMs < LOAD_TOLD_MS)) return
    toldMs = nowMs
    call.write({ event: { $case: 'progress', value: { doneBytes, totalBytes } } })
  }
}
