/** Shutdown of the real program with 200 open streams, half of which end in time. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { MAIN } from '../cli/harness.ts'
import { ControlClient, numberOf } from '../support/control-client.ts'
import type { Fields } from '../support/control-client.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'

const STREAMS = 200
/** The streams that end have all of it; those that do not are cut when it is over. */
const DRAIN_S = 10
const DRAINING = 3

t.test('health first, then running exchanges, then the rest is cut, exit code 0', async (t) => {
  const mayEnd = Promise.withResolvers<void>()
  const upstream = await startScriptedUpstream((x) => {
    const head = responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']])
    if (x.header('x-ends') === undefined) return x.send(head, chunkOf('part'))
    return x.send(head, chunkOf('part'), mayEnd.promise, chunkOf('end'), lastChunk())
  })
  t.teardown(() => upstream.close())
  const file = join(makeFolder(t), 'a.jsonl')
  const flags = ['--port', '0', '--control', '127.0.0.1:0', '--proxy-base-url', upstream.url]
  const argv = [MAIN, 'serve', ...flags, '--recording-file', file, '--log-level', 'warn']
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const [, url = '', address = ''] = /on (\S+) control (\S+) mode record$/.exec(line) ?? []

  const streams = await Promise.all(
    Array.from({ length: STREAMS }, async (_, i) => {
      const client = await RawClient.open(url)
      client.send(post('/v1/chat/completions', '{}', i % 2 === 0 ? ['x-ends: 1'] : []))
      await client.until((bytes) => bytes.includes('part'))
      return client
    }),
  )
  const control = new ControlClient(t, address)
  const health = control.watch({}, 'grpc.health.v1.Health/Watch')
  const told: number[] = []
  const notServing = new Promise<void>((resolve) => {
    health.on('data', (message: Fields) => {
      told.push(numberOf(message, 1))
      if (told.at(-1) === 2) resolve()
    })
  })
  health.on('error', () => undefined)
  await once(health, 'data')
  const reply = await control.call('Shutdown', { 1: Buffer.from([8, DRAIN_S]) })
  t.strictSame([numberOf(reply, 1), numberOf(reply, 2)], [DRAINING, STREAMS])
  await notServing
  t.strictSame(told, [1, 2], 'SERVING, then NOT_SERVING')
  const status = await control.call('GetStatus')
  t.equal(numberOf(status, 4), DRAINING, 'it still tells how it is')
  const again = await control.call('Shutdown', { 1: Buffer.from([8, 60]) })
  t.equal(numberOf(again, 1), DRAINING)
  mayEnd.resolve()
  await Promise.all(streams.map((stream) => stream.closed))
  t.strictSame(await exited, [0, null])

  const outcomes = Map.groupBy(await recordsOf(file), ({ outcome }) => outcome)
  t.strictSame([...outcomes].map(([outcome, records]) => [outcome, records.length]).sort(), [
    ['cancelled', STREAMS / 2],
    ['complete', STREAMS / 2],
  ])
})
