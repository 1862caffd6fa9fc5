// What sealing gains on the traffic it is made for. `node test/tape/ratio.test.ts` prints the figures
// that the documentation has.
import t from 'tap'
import { TapeFolder } from '../../src/tape/reader.ts'
import { sealSegment } from '../../src/tape/seal.ts'
import { layAgentTraffic } from '../support/agent-traffic.ts'
import { close, makeWriter } from './tapes.ts'

for (const [sessions, turns, least] of [
  [8, 20, 12],
  [64, 20, 5],
] as const) {
  t.test(`${sessions} agents at once, ${turns} turns each: the tape packs`, async (t) => {
    const { writer, folder } = makeWriter(t, { segmentBytesMax: 32 << 20 })
    await layAgentTraffic(writer, { seed: 1, sessions, turns })
    await close(writer)
    let plain = 0
    let sealed = 0
    for (const { name } of new TapeFolder(folder).segments()) {
      const { plainBytes, sealedBytes } = sealSegment(folder, name)
      plain += plainBytes
      sealed += sealedBytes
    }
    const ratio = plain / sealed
    const perTurn = (bytes: number): string => `${(bytes / 1024 / sessions / turns).toFixed(1)} KiB`
    t.comment(`${perTurn(plain)} a turn, sealed ${perTurn(sealed)}: ${ratio.toFixed(1)} to 1`)
    t.ok(ratio > least, `${ratio.toFixed(1)} to 1`)
  })
}
