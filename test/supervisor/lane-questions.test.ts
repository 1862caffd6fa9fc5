/** A lane that is asked answers once; one that dies, hangs or ends meanwhile settles what waits. */
import { BroadcastChannel } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { packConfig, resolveOptions } from '../../src/options.ts'
import { LaneThread } from '../../src/supervisor/lane-thread.ts'
import { makeCounters } from '../../src/supervisor/shared.ts'

const ENTRY = new URL('../support/mortal-lane.ts', import.meta.url)
/** Says that it serves, and is gone. */
const STILLBORN = new URL(`data:text/javascript,
  import { parentPort } from 'node:worker_threads';
  parentPort.postMessage({ type: 'ready', port: 1 });
  process.exit(7);
`)
const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined }

async function startLane(
  t: Test,
  onDeath: (reason: string) => void,
  entry = ENTRY,
): Promise<LaneThread> {
  const config = resolveOptions({ options: { port: 0, proxyBaseUrl: 'http://127.0.0.1:9' } })
  const data = {
    lane: 0,
    config: packConfig(config),
    counters: makeCounters(),
    admission: [],
    order: {
      generation: 1,
      mode: 'passthrough' as const,
      onMiss: 'error' as const,
      endsLive: false,
      overrides: new Map(),
      policyVersion: '',
      recording: undefined,
      replay: undefined,
    },
    port: 0,
    reusePort: false,
  }
  const lane = await LaneThread.start(data, SILENT, onDeath, undefined, entry)
  t.teardown(() => lane.terminate())
  return lane
}

/** Tells the lane of this process to exit or to hang. */
function tell(how: 'exit' | 'hang'): void {
  const channel = new BroadcastChannel('mortal-lane')
  channel.postMessage(how)
  channel.close()
}

t.test('many questions at once get an answer each', async (t) => {
  const lane = await startLane(t, () => t.fail('the lane died'))
  const answers = await Promise.all(Array.from({ length: 50 }, () => lane.ask('state', null)))
  t.strictSame(new Set(answers.map((answer) => JSON.stringify(answer))).size, 1)
  t.match(answers[0], { inFlight: 0, draining: false, upstreams: [], tape: undefined })
})

t.test('a question that the lane cannot answer comes back as an error with its code', async (t) => {
  const lane = await startLane(t, () => t.fail('the lane died'))
  await t.rejects(lane.ask('no such question' as 'state', null), { code: 'internal_error' })
  t.match(await lane.ask('state', null), { inFlight: 0 })
})

t.test('a lane that dies settles what waits for it, and what is asked later', async (t) => {
  const died = Promise.withResolvers<string>()
  const lane = await startLane(t, died.resolve)
  tell('hang')
  // Ordered behind the hang: nobody will answer it.
  const waiting = Array.from({ length: 3 }, () => lane.ask('state', null).catch((e: unknown) => e))
  await lane.terminate()
  for (const settled of await Promise.all(waiting)) {
    // A question may have been faster than the order to hang.
    if (settled instanceof Error) t.match(settled, { code: 'lane_lost', message: /ended/ })
    else t.match(settled, { inFlight: 0 })
  }
  await t.rejects(lane.ask('state', null), { code: 'lane_lost' })
})

t.test('a lane that exits by itself settles them too', async (t) => {
  const died = Promise.withResolvers<string>()
  const lane = await startLane(t, died.resolve)
  tell('exit')
  t.match(await died.promise, 'code 7')
  await t.rejects(lane.ask('state', null), { code: 'lane_lost', message: /code 7/ })
})

// The word that it serves and the news of its end came in one turn of the loop, and the end was lost.
t.test('a lane that dies right after its start is told of as dead', async (t) => {
  for (let i = 0; i < 20; i++) {
    const died = Promise.withResolvers<string>()
    const lane = await startLane(t, died.resolve, STILLBORN)
    t.match(await died.promise, 'code 7')
    await t.rejects(lane.ask('state', null), { code: 'lane_lost', message: /code 7/ })
  }
})
