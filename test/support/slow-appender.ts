/** An appender that takes its time with each batch: as long as shared memory says, in ms. */
import { workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

const { slowness } = workerData as { slowness: Int32Array }
const never = new Int32Array(new SharedArrayBuffer(4))

// Registered first, so it is called before the appender's own listener.
process.on('workerMessage', ({ port }: { port: MessagePort }) => {
  port.on('message', () => void Atomics.wait(never, 0, 0, Atomics.load(slowness, 0)))
})

await import('../../workers/append.ts')
