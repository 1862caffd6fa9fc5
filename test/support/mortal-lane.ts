/**
 * A lane that dies when it is told to over a BroadcastChannel: by an exit, or by falling silent,
 * which it says there before. `exit 1` is for lane 1 alone.
 */
import { BroadcastChannel, workerData } from 'node:worker_threads'

const { lane } = workerData as { lane: number }

const channel = new BroadcastChannel('mortal-lane')
channel.unref()
channel.onmessage = (event: unknown) => {
  const { data } = event as { data: string }
  const [how, whose] = data.split(' ')
  if (whose !== undefined && Number(whose) !== lane) return
  if (how === 'exit') process.exit(7)
  if (how !== 'hang') return
  channel.postMessage('hangs')
  const forever = new Int32Array(new SharedArrayBuffer(4))
  Atomics.wait(forever, 0, 0, 60_000)
}

await import('../../workers/lane.ts')
