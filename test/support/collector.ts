/** Preloaded into the real program: at SIGUSR2 all of its threads collect their garbage. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { BroadcastChannel, isMainThread } from 'node:worker_threads'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void
const channel = new BroadcastChannel('collector')
channel.unref()
channel.onmessage = () => gc()
if (isMainThread) {
  process.on('SIGUSR2', () => {
    channel.postMessage('collect')
    gc()
  })
}
