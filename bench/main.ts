/**
 * `npm run bench`: measures rolltape beside its peers. Arms are interleaved and shuffled per round;
 * what counts is CPU time per operation, as a ratio to the case's base arm in the same run.
 */
import { parseArgs } from 'node:util'
import { QUICK_ARMS, CASES } from './cases.ts'
import { benchCancel } from './cancel.ts'
import { benchHeadOfLine } from './head-of-line.ts'
import { micro } from './micro.ts'
import { compile, startMock } from './native.ts'
import { benchReplayStart } from './replay-start.ts'
import { measureCase } from './rounds.ts'
import type { Rounds } from './rounds.ts'
import { MOCK_PORT, MOCK_PORTS, Results } from './results.ts'
import { setUp } from './set-up.ts'
import { soak } from './soak.ts'

/** Cases of their own kind: each prints a table, none is a load on all arms. */
const OTHERS: Readonly<Record<string, (rounds: number, quick: boolean) => Promise<string>>> = {
  cancel: benchCancel,
  'head-of-line': benchHeadOfLine,
  'replay-start': benchReplayStart,
}
const NAMES = [...CASES.map(({ name }) => name), ...Object.keys(OTHERS), 'micro', 'soak']
const ARMS = [...new Set(CASES.flatMap(({ arms }) => arms.map(({ name }) => name)))]
const HELP = `npm run bench -- [case …] [--quick] [--rounds N] [--seconds S] [--arm NAME …]
npm run bench -- soak [--minutes N]     mixed traffic, aborts, rotations and mode switches
npm run bench -- --set-up               installs what the peers need, says what it skipped

--quick    under two minutes: ${QUICK_ARMS.join(', ')}
cases:     ${NAMES.join(', ')}
arms:      ${ARMS.join(', ')}

Each case that ends is kept in bench/results/<date>.json, with a table in Markdown and a plot beside
it; measured again on that day it takes its own place. With --arm nothing is kept.
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    minutes: { type: 'string', default: '30' },
    arm: { type: 'string', multiple: true },
    'set-up': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const { quick } = values
const unknown = positionals.find((name) => !NAMES.includes(name))
const unknownArm = values.arm?.find((name) => !ARMS.includes(name))

if (values.help) process.stdout.write(HELP)
else if (values['set-up']) setUp()
else if (unknown !== undefined) misused(`"${unknown}" is no case`)
else if (unknownArm !== undefined) misused(`"${unknownArm}" is no arm`)
else await bench()

function misused(why: string): void {
  process.stderr.write(`${why}\n\n${HELP}`)
  process.exitCode = 2
}

async function bench(): Promise<void> {
  if (positionals.includes('micro')) return micro()
  const trouble = compile()
  if (trouble !== undefined) throw new Error(`${trouble}; run with --set-up`)
  if (positionals.includes('soak')) return soak(Number(values.minutes))
  const cases = CASES.filter((one) =>
    positionals.length > 0 ? positionals.includes(one.name) : !quick || one.quick,
  )
  const how: Rounds = {
    rounds: Number(values.rounds ?? (quick ? 3 : 5)),
    seconds: Number(values.seconds ?? (quick ? 1.5 : 4)),
    arms: values.arm ?? (quick ? QUICK_ARMS : undefined),
  }
  const results = new Results(quick, values.arm === undefined)
  const mock = await startMock(MOCK_PORT, MOCK_PORTS)
  try {
    for (const one of cases) results.add(one, await measureCase(one, how))
  } finally {
    mock.kill()
  }
  for (const [name, run] of Object.entries(OTHERS)) {
    const isWanted = positionals.length > 0 ? positionals.includes(name) : !quick
    if (isWanted) results.addTable(name, await run(how.rounds, quick))
  }
}
