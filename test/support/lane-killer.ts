/**
 * Preloaded into the real program: on SIGUSR2 its lane ends, and from then on its clock runs fast,
 * so that what it does for half a minute is over in a moment. A lane that comes after it begins only
 * once the file is there that the variable LANE_GATE names.
 */
import { existsSync } from 'node:fs'
import { BroadcastChannel, isMainThread, workerData } from 'node:worker_threads'

const MS_A_TICK = 5_000
const LOOK_MS = 10

const channel = new BroadcastChannel('lane-killer')
channel.unref()
if (isMainThread) {
  process.on('SIGUSR2', () => {
    const real = performance.now.bind(performance)
    let aheadMs = 0
    performance.now = () => real() + aheadMs
    setInterval(() => (aheadMs += MS_A_TICK), 100).unref()
    // Threads that start from now on have it.
    process.env['LANE_WAITS'] = 'yes'
    channel.postMessage('die')
  })
} else if ((workerData as { lane?: number } | null)?.lane === 0) {
  channel.onmessage = () => process.exit(7)
  const never = new Int32Array(new SharedArrayBuffer(4))
  const gate = process.env['LANE_GATE'] ?? ''
  while (process.env['LANE_WAITS'] === 'yes' && !existsSync(gate)) {
    Atomics.wait(never, 0, 0, LOOK_MS)
  }
}
