// Where cores are short, traffic goes first: threads that make records take what is left.
import { readFileSync, readdirSync } from 'node:fs'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { rawRequest, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

/** Niceness of this process's threads, by name; one that ends meanwhile is left out. */
function niceness(): [name: string, nice: number][] {
  return readdirSync('/proc/self/task').flatMap((task) => {
    const stat = statOf(task)
    if (stat === undefined) return []
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'))
    // Field 19 of stat; the first two are cut off.
    return [[name, Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])]]
  })
}

function statOf(task: string): string | undefined {
  try {
    return readFileSync(`/proc/self/task/${task}/stat`, 'utf8')
  } catch {
    return undefined
  }
}

t.test(
  'derive workers are niced, the lane and the appender are not',
  { skip: process.platform === 'linux' ? false : 'only Linux has priorities by thread' },
  async (t) => {
    const before = niceness().filter(([, nice]) => nice === 10).length
    const server = await startInferenceServer()
    const recorder = await startRecorder(t, `${server.url}/v1`, { recordWorkers: 1 })
    const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'hi' }] })
    await rawRequest(recorder.url, post('/v1/chat/completions', body))
    // Answers once the record is made.
    await recorder.rolltape.rotate()
    const threads = niceness()
    t.equal(threads.filter(([, nice]) => nice === 10).length - before, 1)
    t.ok(threads.some(([name]) => name === 'lane-0'))
    const others = threads.filter(([name]) => name === 'lane-0' || name === 'append')
    t.ok(others.every(([, nice]) => nice === 0))
    await server.close()
  },
)
