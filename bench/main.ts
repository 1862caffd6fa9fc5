/**
 * `npm run bench`: measures rolltape beside its peers. Arms are interleaved and shuffled per round;
 * what counts is CPU time per operation, as a ratio to nginx in the same round.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ARMS } from './arms.ts'
import type { Arm, RunningArm } from './arms.ts'
import { CASES, operations } from './cases.ts'
import type { Case } from './cases.ts'
import { residentBytes, spent, threadTimes } from './cpu.ts'
import { compile, runLoad, startMock } from './native.ts'
import type { LoadResult } from './native.ts'
import { benchReplayStart } from './replay-start.ts'
import { formatTable, summarize } from './report.ts'
import type { Sample } from './report.ts'

/** A case of its own: no load, no peers. */
const REPLAY_START = 'replay-start'
const MOCK_PORT = 9700
const MOCK_PORTS = 16
const HELP = `npm run bench -- [case …] [--quick] [--rounds N] [--seconds S] [--arm NAME …] [--set-up]

cases: ${[...CASES.map((one) => one.name), REPLAY_START].join(', ')}
arms:  ${ARMS.map((arm) => arm.name).join(', ')}
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    arm: { type: 'string', multiple: true },
    'set-up': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) process.stdout.write(HELP)
else if (values['set-up']) setUp()
else if (positionals.includes(REPLAY_START)) await replayStart()
else await bench()

function setUp(): void {
  execFileSync('apt-get', ['install', '-y', 'nginx', 'gcc', 'libc6-dev'], { stdio: 'inherit' })
}

async function replayStart(): Promise<void> {
  const rounds = Number(values.rounds ?? (values.quick ? 2 : 3))
  process.stdout.write(`${await benchReplayStart(rounds, values.quick)}\n`)
}

async function bench(): Promise<void> {
  const trouble = compile()
  if (trouble !== undefined) throw new Error(`${trouble}; run with --set-up`)
  const cases = CASES.filter((one) =>
    positionals.length > 0 ? positionals.includes(one.name) : !values.quick || one.quick,
  )
  const arms = ARMS.filter((arm) => wanted(arm))
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 5))
  const seconds = Number(values.seconds ?? (values.quick ? 1.5 : 4))
  const mock = await startMock(MOCK_PORT, MOCK_PORTS)
  const samples: Sample[] = []
  const running = new Map<string, RunningArm>()
  try {
    for (const arm of arms) {
      running.set(arm.name, await arm.start({ port: MOCK_PORT, ports: MOCK_PORTS }))
    }
    for (const one of cases) {
      for (let round = -1; round < rounds; round++) {
        for (const [name, arm] of shuffled([...running])) {
          const sample = await measure(one, name, arm, round < 0 ? 3 : seconds)
          // The first round warms up compilers, pools and caches; it does not count.
          if (round >= 0) samples.push(sample)
          say(`${one.name} ${round + 1}/${rounds} ${name}`)
        }
      }
      say('')
      process.stdout.write(`${formatTable(one, summarize(samples, one.name))}\n`)
    }
  } finally {
    for (const arm of running.values()) await arm.stop()
    mock.kill()
  }
  write(samples)
}

function wanted(arm: Arm): boolean {
  const quick = ['direct', 'nginx', 'rolltape passthrough', 'rolltape record']
  const chosen = values.arm ?? (values.quick ? quick : ARMS.map(({ name }) => name))
  if (!chosen.includes(arm.name)) return false
  const missing = arm.missing()
  if (missing !== undefined) process.stderr.write(`skipped ${arm.name}: ${missing}\n`)
  return missing === undefined
}

async function measure(one: Case, name: string, arm: RunningArm, seconds: number): Promise<Sample> {
  const before = threadTimes(arm.pids)
  const result = await runLoad(arm.port, arm.ports, one.load(seconds))
  const { allNs, laneNs } = spent(before, threadTimes(arm.pids), arm.isLane)
  check(name, result)
  // The load runs a fifth longer than it counts, so that its beginning is left out.
  const counted = operations(one, result) * 1.2
  return {
    case: one.name,
    arm: name,
    laneUs: laneNs / counted / 1000,
    allUs: allNs / counted / 1000,
    perSecond: operations(one, result) / result.seconds,
    rssBytes: arm.pids.reduce((sum, pid) => sum + residentBytes(pid), 0),
    result,
  }
}

function check(name: string, result: LoadResult): void {
  if (result.failed > 0 || result.events_bad > 0) {
    const { failed, events_bad: bad } = result
    throw new Error(`${name}: ${failed} answers failed, ${bad} events lost, merged or doubled`)
  }
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

function write(samples: readonly Sample[]): void {
  const folder = join(import.meta.dirname, 'results')
  mkdirSync(folder, { recursive: true })
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim()
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    commit,
  }
  const date = new Date().toISOString().slice(0, 10)
  const file = join(folder, `${date}${values.quick ? '-quick' : ''}.json`)
  writeFileSync(file, `${JSON.stringify({ date, machine, samples }, null, 1)}\n`)
  process.stdout.write(`written to ${file}\n`)
}
