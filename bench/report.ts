/** Medians, ranges and ratios of a bench's samples, as a table for people. */
import type { Case } from './cases.ts'
import type { LoadResult } from './native.ts'

/** One run of one arm. */
export interface Sample {
  readonly case: string
  readonly arm: string
  /** CPU per operation, in µs: of the threads that serve, and of all the process's threads. */
  readonly laneUs: number
  readonly allUs: number
  readonly perSecond: number
  /** The most memory that was resident at once. */
  readonly rssBytes: number
  /** From the end of the load to the last record; only where records are made. */
  readonly drainMs?: number
  readonly result: LoadResult
}

/** All runs of one arm in one case. */
export interface Summary {
  readonly arm: string
  readonly laneUs: Spread
  readonly allUs: Spread
  readonly perSecond: Spread
  readonly p50Us: Spread
  readonly p99Us: Spread
  readonly ttfbUs: Spread
  readonly addedUs: Spread
  readonly gapUs: Spread
  readonly drainMs: number | undefined
  readonly rssMiB: number
  /** Answers that failed, and events lost, merged or doubled. */
  readonly bad: number
}

/** Median and range. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** Summaries by arm, in the order of the arms' first samples by name. */
export function summarize(samples: readonly Sample[], name: string): Summary[] {
  const mine = samples.filter((sample) => sample.case === name)
  const arms = [...new Set(mine.map((sample) => sample.arm))].sort()
  const drains = (runs: readonly Sample[]): number[] =>
    runs.flatMap(({ drainMs }) => (drainMs === undefined ? [] : [drainMs]))
  return arms.map((arm) => {
    const runs = mine.filter((sample) => sample.arm === arm)
    return {
      arm,
      laneUs: spread(runs.map((run) => run.laneUs)),
      allUs: spread(runs.map((run) => run.allUs)),
      perSecond: spread(runs.map((run) => run.perSecond)),
      p50Us: spread(runs.map((run) => run.result.latency.p50_us)),
      p99Us: spread(runs.map((run) => run.result.latency.p99_us)),
      ttfbUs: spread(runs.map((run) => run.result.ttfb.p50_us)),
      addedUs: spread(runs.map((run) => run.result.added.p50_us)),
      gapUs: spread(runs.map((run) => run.result.gap.p50_us)),
      drainMs: drains(runs).length === 0 ? undefined : spread(drains(runs)).median,
      rssMiB: Math.max(...runs.map((run) => run.rssBytes)) / 1048576,
      bad: runs.reduce((sum, { result }) => sum + result.failed + result.events_bad, 0),
    }
  })
}

/** Median, least and most of some numbers; one that is none (nothing came) is left out. */
export function spread(numbers: readonly number[]): Spread {
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b)
  return {
    median: sorted[sorted.length >> 1] ?? 0,
    min: sorted[0] ?? 0,
    max: sorted.at(-1) ?? 0,
  }
}

/** A Markdown table; ratios are to the median of the case's base arm. */
export function formatTable(one: Case, summaries: readonly Summary[]): string {
  const base = summaries.find((summary) => summary.arm === one.base)
  const isStream = one.unit === 'chunk'
  const order = one.arms.map(({ name }) => name)
  const sorted = [...summaries].sort((a, b) => order.indexOf(a.arm) - order.indexOf(b.arm))
  const rows = sorted.map((summary) => {
    const ratio = base && summary.arm !== 'direct' ? summary.laneUs.median / base.laneUs.median : 0
    const latency = isStream ? summary.addedUs : summary.p50Us
    return [
      summary.bad === 0 ? summary.arm : `${summary.arm} (${summary.bad} bad)`,
      `${summary.laneUs.median.toFixed(1)} (${summary.laneUs.min.toFixed(1)}–${summary.laneUs.max.toFixed(1)})`,
      ratio === 0 ? '' : `${ratio.toFixed(2)}×`,
      summary.allUs.median.toFixed(1),
      whole(summary.perSecond.median),
      whole(latency.median),
      isStream ? whole(summary.gapUs.median) : whole(summary.p99Us.median),
      whole(summary.ttfbUs.median),
      summary.drainMs === undefined ? '' : whole(summary.drainMs),
      summary.rssMiB === 0 ? '' : summary.rssMiB.toFixed(0),
    ].join(' | ')
  })
  const [first, second] = isStream ? ['added p50 µs', 'gap p50 µs'] : ['p50 µs', 'p99 µs']
  return [
    `### ${one.name}: ${one.title}`,
    '',
    `| arm | lane µs/${one.unit} | to ${one.base} | all threads | ${one.unit}s/s | ${first} | ${second} | TTFB p50 µs | records after ms | RSS MiB |`,
    '|---|---|---|---|---|---|---|---|---|---|',
    ...rows.map((row) => `| ${row} |`),
    '',
  ].join('\n')
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en')
}
