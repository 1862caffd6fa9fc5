/** All rounds of one case: its arms are started, compared with the mock, interleaved, and ended. */
import type { RunningArm } from './arms/arm.ts'
import type { Case } from './cases.ts'
import { difference, measure } from './measure.ts'
import type { Sample } from './report.ts'
import { MOCK_PORT, MOCK_PORTS } from './results.ts'

/** How a case is measured. */
export interface Rounds {
  readonly rounds: number
  readonly seconds: number
  /** Names of the arms that are wanted; all without. */
  readonly arms: readonly string[] | undefined
}

const WARM_UP_SECONDS = 3

/** Measures one case; the first round warms up compilers, pools and caches, and does not count. */
export async function measureCase(one: Case, how: Rounds): Promise<Sample[]> {
  const samples: Sample[] = []
  const running = await startArms(one, how.arms)
  try {
    for (let round = -1; round < how.rounds; round++) {
      for (const [name, arm] of shuffled([...running])) {
        say(`${one.name} ${round + 1}/${how.rounds} ${name}`)
        if (round < 0 && one.warmUp !== undefined) {
          await measure({ ...one, load: one.warmUp }, name, arm, WARM_UP_SECONDS)
        }
        const sample = await measure(one, name, arm, round < 0 ? WARM_UP_SECONDS : how.seconds)
        const { failed, events_bad: bad } = sample.result
        if (isOurs(name) && failed + bad > 0) {
          throw new Error(
            `${name}: ${failed} answers failed, ${bad} events lost, merged or doubled`,
          )
        }
        if (round >= 0) samples.push(sample)
      }
    }
  } finally {
    say('')
    for (const arm of running.values()) await arm.stop()
  }
  return samples
}

async function startArms(
  one: Case,
  wanted: readonly string[] | undefined,
): Promise<Map<string, RunningArm>> {
  const running = new Map<string, RunningArm>()
  for (const arm of one.arms) {
    if (wanted !== undefined && !wanted.includes(arm.name)) continue
    const missing = arm.missing()
    if (missing !== undefined) {
      process.stderr.write(`skipped ${arm.name}: ${missing}\n`)
      continue
    }
    say(`${one.name}: starting ${arm.name}`)
    try {
      const started = await arm.start({ port: MOCK_PORT, ports: MOCK_PORTS })
      running.set(arm.name, started)
      const differs = await difference(one.load(1), started, MOCK_PORT)
      if (differs === undefined) continue
      if (isOurs(arm.name)) throw new Error(`${arm.name}: ${differs}`)
      process.stderr.write(`${arm.name} in ${one.name}: ${differs}\n`)
    } catch (error) {
      if (isOurs(arm.name)) throw error
      process.stderr.write(`skipped ${arm.name} in ${one.name}: ${String(error)}\n`)
      await running.get(arm.name)?.stop()
      running.delete(arm.name)
    }
  }
  return running
}

/** A peer that fails is shown as it is; rolltape ends the bench. */
function isOurs(name: string): boolean {
  return name.startsWith('rolltape')
}

function shuffled<T>(items: T[]): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    ;[items[i], items[j]] = [items[j] as T, items[i] as T]
  }
  return items
}

function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
}
