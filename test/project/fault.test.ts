/**
 * A fault of rolltape's own, planted in a lane: its client is told, it has a record, and the lane
 * goes on.
 */
import t from 'tap'

import { startInferenceServer } from '../../src/inference/server.ts'
import { HeldDisk, startLane } from '../support/lane.ts'
import { recordsOf } from '../support/recorder.ts'

t.test(
  'R37: a fault inside is 500 internal_error with a record, and only that exchange’s',
  async (t) => {
    const upstream = await startInferenceServer()
    t.teardown(() => upstream.close())
    const { lane, url, file, finish } = await startLane(t, upstream.url, new HeldDisk())
    const ask = () =>
      fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'Hi' }] }),
      })
    const { tables } = lane.serving.recorder!
    const { nextTurn } = tables
    tables.nextTurn = () => {
      throw new TypeError('planted')
    }
    const response = await ask()
    tables.nextTurn = nextTurn
    t.equal(response.status, 500)
    const message = 'rolltape failed: planted'
    t.strictSame(await response.json(), {
      error: { message, type: 'server_error', code: 'internal_error', param: null },
      detail: message,
    })
    t.equal((await ask()).status, 200)
    await finish()
    t.match(await recordsOf(file), [
      { seq: 1, outcome: 'refused', http_status: 500, error: `internal_error: ${message}` },
      { seq: 2, outcome: 'complete', http_status: 200 },
    ])
    t.equal(upstream.requests.length, 1, 'the upstream saw the sound one alone')
  },
)
