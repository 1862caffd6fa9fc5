/**
 * How long a replay takes to know its recording: 10,000 to 1,000,000 records of 2 KB, without a
 * sidecar, with one, and beside `wc -l` on the same file. The file is in the page cache for all.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildReplaySource } from '../src/replay/build.ts'
import { IGNORE_NOTHING } from '../src/replay/canonical.ts'
import { sidecarOf } from '../src/replay/sidecar.ts'
import { writeLines } from '../test/support/record-lines.ts'
import { spread } from './report.ts'

/** Measures, and gives a table in Markdown. Needs 2.2 GB in the folder for temporary files. */
export async function benchReplayStart(rounds: number, quick: boolean): Promise<string> {
  const rows = [
    'replay start-up, records of 2 KB (ms, median and range)',
    '',
    '| records | wc -l | cold | to wc | from the sidecar |',
    '|---|---|---|---|---|',
  ]
  for (const records of quick ? [10_000, 100_000] : [10_000, 100_000, 1_000_000]) {
    const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
    try {
      rows.push(await row(join(folder, 'a.jsonl'), records, rounds))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  return rows.join('\n')
}

async function row(file: string, records: number, rounds: number): Promise<string> {
  writeLines(file, records, 'a word or two '.repeat(60))
  const arms = {
    count: () => void execFileSync('wc', ['-l', file]),
    cold: async () => {
      rmSync(sidecarOf(file), { force: true })
      await build(file, records)
    },
    sidecar: () => build(file, records),
  }
  const ms = { count: [] as number[], cold: [] as number[], sidecar: [] as number[] }
  // The first round warms up the page cache; it does not count.
  for (let round = -1; round < rounds; round++) {
    for (const arm of ['count', 'cold', 'sidecar'] as const) {
      const startMs = performance.now()
      await arms[arm]()
      if (round >= 0) ms[arm].push(performance.now() - startMs)
    }
  }
  const ratio = spread(ms.cold).median / spread(ms.count).median
  const cells = [shown(ms.count), shown(ms.cold), `${ratio.toFixed(1)}×`, shown(ms.sidecar)]
  return `| ${records} | ${cells.join(' | ')} |`
}

async function build(file: string, records: number): Promise<void> {
  const { index } = await buildReplaySource({ file, ignore: IGNORE_NOTHING })
  if (index.count !== records) throw new Error(`${index.count} of ${records} records are indexed`)
}

function shown(ms: readonly number[]): string {
  const { median, min, max } = spread(ms)
  return `${median.toFixed(0)} (${min.toFixed(0)}–${max.toFixed(0)})`
}
