// Where cores are short, traffic goes first: threads that make records take what is left.
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { rawRequest, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'
import { kernelThreads } from '../support/threads.ts'

t.test(
  'derive workers are niced, the lane and the appender are not',
  { skip: process.platform === 'linux' ? false : 'only Linux has priorities by thread' },
  async (t) => {
    const before = kernelThreads().filter(({ nice }) => nice === 10).length
    const server = await startInferenceServer()
    const recorder = await startRecorder(t, `${server.url}/v1`, { recordWorkers: 1 })
    const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'hi' }] })
    await rawRequest(recorder.url, post('/v1/chat/completions', body))
    // Answers once the record is made.
    await recorder.rolltape.rotate()
    const threads = kernelThreads()
    t.equal(threads.filter(({ nice }) => nice === 10).length - before, 1)
    t.ok(threads.some(({ name }) => name === 'lane-0'))
    const others = threads.filter(({ name }) => name === 'lane-0' || name === 'append')
    t.ok(others.every(({ nice }) => nice === 0))
    await server.close()
  },
)
