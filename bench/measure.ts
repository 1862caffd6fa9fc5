/**
 * One sample: a load on one arm, and what it cost. Before an arm is timed its bytes are compared with
 * those of the mock; after each sample of an arm that records, the records are waited for, so that
 * what derive costs is in the figure, and counted.
 */
import type { RunningArm } from './arms/arm.ts'
import { operations } from './cases.ts'
import type { Case } from './cases.ts'
import { residentBytes, spent, threadTimes } from './cpu.ts'
import { requestBody, runLoad } from './native.ts'
import type { Load, LoadResult } from './native.ts'
import type { Sample } from './report.ts'

/** Records may come so much later than their answers. */
const DERIVE_MS_MAX = 120_000

/** Runs one load. */
export async function measure(
  one: Case,
  name: string,
  arm: RunningArm,
  seconds: number,
): Promise<Sample> {
  const recordedBefore = arm.records()
  let before = threadTimes(arm.pids)
  const memory = peakOf(arm.pids)
  const { headers } = arm
  // Opening thousands of connections is not what is measured.
  const onMeasuring = (): void => void (before = threadTimes(arm.pids))
  const result = await runLoad(arm.port, arm.ports, one.load(seconds), { headers, onMeasuring })
  const lane = spent(before, threadTimes(arm.pids), arm.isLane)
  const rssBytes = memory.stop()
  const drainMs = await recorded(name, arm, recordedBefore, result)
  const { allNs } = spent(before, threadTimes(arm.pids), arm.isLane)
  const counted = operations(one, result)
  return {
    case: one.name,
    arm: name,
    laneUs: lane.laneNs / counted / 1000,
    allUs: allNs / counted / 1000,
    perSecond: counted / result.seconds,
    rssBytes,
    ...(drainMs === undefined ? {} : { drainMs }),
    result,
  }
}

/** Why an arm's answers are not those of the mock; undefined when they are, byte for byte. */
export async function difference(
  load: Load,
  arm: RunningArm,
  mock: number,
): Promise<string | undefined> {
  // Short and quick, where the load is a long stream.
  const short = load.target
    .replace(/events=\d+/, 'events=4')
    .replace(/interval_us=\d+/, 'interval_us=1000')
  const asked = arm.replays === true ? load : { ...load, target: short }
  const [expected, met] = await Promise.all([
    answerOf(mock, asked),
    answerOf(arm.port, asked, arm.headers),
  ])
  if (expected === met) return undefined
  return `its answer has ${met.length} characters, not the ${expected.length} of the upstream, or others`
}

/** Peak of resident memory while something runs, looked at ten times a second. */
function peakOf(pids: readonly number[]): { stop(): number } {
  let peak = 0
  const look = (): void => {
    peak = Math.max(
      peak,
      pids.reduce((sum, pid) => sum + residentBytes(pid), 0),
    )
  }
  look()
  const timer = setInterval(look, 100)
  return {
    stop: () => {
      clearInterval(timer)
      look()
      return peak
    },
  }
}

/** Waits for the records of all that was answered; ms after the load's end, undefined without any. */
async function recorded(
  name: string,
  arm: RunningArm,
  before: number | undefined,
  { all_done: done }: LoadResult,
): Promise<number | undefined> {
  if (before === undefined) return undefined
  const startMs = performance.now()
  for (;;) {
    const written = (arm.records() ?? 0) - before
    const tookMs = performance.now() - startMs
    if (written >= done) return tookMs
    if (tookMs > DERIVE_MS_MAX) throw new Error(`${name}: ${written} records of ${done} answers`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function answerOf(port: number, load: Load, headers = ''): Promise<string> {
  const pairs = headers.split('\r\n').filter((line) => line !== '')
  const response = await fetch(`http://127.0.0.1:${port}${load.target}`, {
    method: 'POST',
    body: requestBody(load.requestBytes),
    headers: {
      'content-type': 'application/json',
      authorization: 'Bearer sk-bench',
      'x-session-id': 'bench',
      ...Object.fromEntries(pairs.map((line) => line.split(': ', 2) as [string, string])),
    },
  })
  // Events are stamped with the time they were sent at.
  return `${response.status} ${(await response.text()).replaceAll(/"t":\d{20}/g, '"t":')}`
}
