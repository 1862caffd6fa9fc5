/** GetStatus and `ctl status` tell what runs, what may, and who waits; a reload changes the bounds. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { ask, askUntil, startControlled, testWithBuf } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'

testWithBuf('L24: the status tells of places, a reload lets those who wait go', async (t) => {
  const gate = Promise.withResolvers<void>()
  const upstream = await startScriptedUpstream(async (x) => {
    await gate.promise
    await x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
  })
  t.teardown(() => upstream.close())
  const configFile = join(makeFolder(t), 'a.yaml')
  const configure = (most: number): void => {
    writeFileSync(configFile, `proxy_base_url: ${upstream.url}\nmax_in_flight: ${most}\n`)
  }
  configure(2)
  const { address, url } = await startControlled(t, { configFile, lanes: 1 })
  const asked = Array.from({ length: 5 }, () => rawRequest(url, post('/v1/x', '{}')))
  await upstream.exchange(1)
  const status = await askUntil(address, 'GetStatus', ({ capacity, lanes }) => {
    const waiting = [capacity, ...(lanes as object[])] as { queued?: string }[]
    return waiting.every(({ queued }) => queued === '3')
  })
  t.match(status, {
    capacity: {
      inFlight: '2',
      inFlightMax: '2',
      inFlightBytes: `${2 * 65 * 1024}`,
      inFlightBytesMax: `${1 << 30}`,
      queued: '3',
      queuedMax: '1024',
    },
    lanes: [{ inFlight: '5', queued: '3' }],
  })
  configure(4)
  await ask(address, 'ReloadConfig')
  await upstream.exchange(3)
  gate.resolve()
  const answers = await Promise.all(asked)
  t.ok(answers.every(({ status: told }) => told === 200))
})
