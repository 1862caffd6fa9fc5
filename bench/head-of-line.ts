/** Does one body of 8 MB at a time disturb a hundred small streams on the same thread? */
import type { RunningArm } from './arms/arm.ts'
import { ROLLTAPE } from './arms/rolltape.ts'
import { nginx } from './arms/servers.ts'
import { runLoad, startMock } from './native.ts'
import type { Load, LoadResult } from './native.ts'
import { spread } from './report.ts'
import { MOCK_PORT, MOCK_PORTS } from './results.ts'

const CHAT = '/v1/chat/completions'
const STREAMS: Load = {
  connections: 100,
  seconds: 3,
  requestBytes: 1024,
  target: `${CHAT}?bytes=300&events=64&interval_us=50000`,
}
const BODIES: Load = {
  connections: 1,
  seconds: 3.4,
  requestBytes: 8 << 20,
  target: `${CHAT}?bytes=1024`,
  rate: 5,
}

/** What is added to an event of the streams, alone and beside five such bodies a second. */
export async function benchHeadOfLine(rounds: number, quick: boolean): Promise<string> {
  const mock = await startMock(MOCK_PORT, MOCK_PORTS)
  const rows: string[] = []
  try {
    for (const arm of [nginx, ...ROLLTAPE.slice(0, 2)]) {
      if (arm.missing() !== undefined) continue
      const running = await arm.start({ port: MOCK_PORT, ports: MOCK_PORTS })
      const alone: LoadResult[] = []
      const beside: LoadResult[] = []
      try {
        await streams(running)
        for (let round = 0; round < (quick ? 1 : rounds); round++) {
          alone.push(await streams(running))
          const [small] = await Promise.all([
            streams(running),
            runLoad(running.port, running.ports, BODIES),
          ])
          beside.push(small)
        }
      } finally {
        await running.stop()
      }
      rows.push(`| ${arm.name} | ${shown(alone)} | ${shown(beside)} |`)
    }
  } finally {
    mock.kill()
  }
  return [
    '### head-of-line: 100 streams × 20/s, beside five bodies of 8 MB a second',
    '',
    '| arm | alone p50 / p99 / max µs | beside p50 / p99 / max µs |',
    '|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

async function streams({ port, ports }: RunningArm): Promise<LoadResult> {
  const result = await runLoad(port, ports, STREAMS)
  if (result.failed + result.events_bad > 0) throw new Error('streams were cut or changed')
  return result
}

function shown(results: readonly LoadResult[]): string {
  const of = (pick: (result: LoadResult) => number): string =>
    Math.round(spread(results.map(pick)).median).toLocaleString('en')
  return [
    of(({ added }) => added.p50_us),
    of(({ added }) => added.p99_us),
    of(({ added }) => added.max_us),
  ].join(' / ')
}
