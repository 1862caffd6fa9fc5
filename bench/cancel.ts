/** How soon an upstream hears that its client has left, in the middle of a stream. */
import { RawClient, post } from '../test/support/raw-client.ts'
import { chunkOf, responseHead, startScriptedUpstream } from '../src/inference/raw.ts'
import type { Arm } from './arms/arm.ts'
import { ROLLTAPE } from './arms/rolltape.ts'
import { nginx } from './arms/servers.ts'

const STREAM = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const ARMS = [nginx, ...ROLLTAPE.slice(0, 2)]
const TRIES = 200

/** Abandons 200 streams an arm and round; a table of the delays in ms. */
export async function benchCancel(rounds: number, quick: boolean): Promise<string> {
  const delays = new Map<string, number[]>()
  for (let round = 0; round < (quick ? 1 : rounds); round++) {
    for (const arm of ARMS.filter(({ missing }) => missing() === undefined)) {
      delays.set(arm.name, [...(delays.get(arm.name) ?? []), ...(await abandon(arm))])
    }
  }
  const rows = [...delays].map(([name, ms]) => {
    const sorted = ms.sort((a, b) => a - b)
    const at = (q: number): string => (sorted[Math.floor(sorted.length * q)] ?? 0).toFixed(2)
    return `| ${name} | ${sorted.length} | ${at(0.5)} | ${at(0.99)} | ${at(1 - 1e-9)} |`
  })
  return [
    '### cancel: from the client’s close to the upstream’s, in the middle of a stream',
    '',
    '| arm | streams | p50 ms | p99 ms | max ms |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

async function abandon(arm: Arm): Promise<number[]> {
  const upstream = await startScriptedUpstream((x) => x.send(STREAM, chunkOf('data: {}\n\n')))
  const running = await arm.start({ port: Number(new URL(upstream.url).port), ports: 1 })
  const delays: number[] = []
  try {
    for (let i = 0; i < TRIES; i++) {
      const client = await RawClient.open(`http://127.0.0.1:${running.port}`)
      client.send(post('/v1/chat/completions', '{}'))
      const { connection } = await upstream.exchange(i)
      await client.until((bytes) => bytes.includes('data:'))
      const leftMs = performance.now()
      client.close(i % 2 === 0 ? 'end' : 'reset')
      delays.push((await connection.closed).atMs - leftMs)
    }
  } finally {
    await running.stop()
    await upstream.close()
  }
  return delays
}
