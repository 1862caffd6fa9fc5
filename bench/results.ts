/** What a bench leaves behind: figures as JSON, tables for people, a plot per case. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Case } from './cases.ts'
import { plotCase, plotStreams } from './plot.ts'
import { summarize } from './report.ts'
import type { Sample } from './report.ts'

/** Where the mock upstream listens. */
export const MOCK_PORT = 9700
/** On so many ports: thousands of streams would use up the ephemeral ports of one. */
export const MOCK_PORTS = 16

const FOLDER = join(import.meta.dirname, 'results')

/** What was measured. */
export interface Results {
  readonly samples: readonly Sample[]
  readonly tables: readonly string[]
  readonly cases: readonly Case[]
  readonly quick: boolean
  /** All cases were asked for, so these are the figures that are kept. */
  readonly isWhole: boolean
}

/** Machine, Node and commit that figures belong to. */
export function machine(): Readonly<Record<string, unknown>> {
  const git = (...args: string[]): string => execFileSync('git', args).toString().trim()
  return {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    commit: git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') ? '+' : ''),
  }
}

/** Writes a file among the results, and says so. */
export function keep(name: string, text: string): void {
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(join(FOLDER, name), text)
  process.stdout.write(`written to bench/results/${name}\n`)
}

/** Writes JSON always, tables and plots where all cases were measured. */
export function writeResults({ samples, tables, cases, quick, isWhole }: Results): void {
  const date = new Date().toISOString().slice(0, 10)
  const name = `${date}${quick ? '-quick' : isWhole ? '' : '-part'}`
  const facts = machine()
  keep(`${name}.json`, `${JSON.stringify({ date, machine: facts, samples })}\n`)
  if (quick || !isWhole) return
  const head = Object.entries(facts).map(([key, value]) => `${key} ${String(value)}`)
  keep(`${name}.md`, `# ${date}\n\n${head.join(', ')}\n\n${tables.join('\n')}`)
  for (const one of cases) {
    const summaries = summarize(samples, one.name)
    if (summaries.length > 0) keep(`${one.name}.svg`, plotCase(one, summaries))
  }
  keep('streams.svg', plotStreams(samples))
}
