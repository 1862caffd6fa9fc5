/**
 * What a bench leaves behind: figures as JSON, tables for people, a plot per case. Each case is kept as
 * it ends, beside what was measured before on that day; measured again it takes its own place.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Case } from './cases.ts'
import { plotCase, plotFrontier, plotStreams } from './plot.ts'
import { formatTable, summarize } from './report.ts'
import type { Sample } from './report.ts'

/** Where the mock upstream listens. */
export const MOCK_PORT = 9700
/** On so many ports: thousands of streams would use up the ephemeral ports of one. */
export const MOCK_PORTS = 16

const FOLDER = join(import.meta.dirname, 'results')

/** Machine, Node and commit that figures belong to. */
export type Machine = Readonly<Record<string, unknown>>

/** One case as it was measured. */
interface Measured {
  readonly machine: Machine
  readonly table: string
  /** None for cases that are no load on arms. */
  readonly samples: readonly Sample[]
}

/** Tells what machine this is, and what is measured on it. */
export function machine(): Machine {
  const git = (...args: string[]): string => execFileSync('git', args).toString().trim()
  return {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    commit:
      git('rev-parse', '--short', 'HEAD') +
      (git('status', '--porcelain', '--untracked-files=no') ? '+' : ''),
  }
}

/** Writes a file among the results, and says so. */
export function keep(name: string, text: string): void {
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(join(FOLDER, name), text)
  process.stdout.write(`written to bench/results/${name}\n`)
}

/** The results of one day. */
export class Results {
  readonly #name: string
  readonly #isQuick: boolean
  readonly #keeps: boolean
  readonly #machine = machine()
  readonly #cases: Record<string, Measured>

  /** `keeps`: false where only some arms are measured; then tables are told, and nothing is written. */
  constructor(isQuick: boolean, keeps: boolean) {
    this.#isQuick = isQuick
    this.#keeps = keeps
    this.#name = `${new Date().toISOString().slice(0, 10)}${isQuick ? '-quick' : ''}`
    const file = join(FOLDER, `${this.#name}.json`)
    this.#cases = existsSync(file)
      ? (JSON.parse(readFileSync(file, 'utf8')) as { cases: Record<string, Measured> }).cases
      : {}
  }

  /** A load was measured on arms. */
  add(one: Case, samples: readonly Sample[]): void {
    const summaries = summarize(samples, one.name)
    this.addTable(one.name, formatTable(one, summaries), samples)
    if (!this.#keeps || this.#isQuick || summaries.length === 0) return
    keep(`${one.name}.svg`, plotCase(one, summaries))
    const all = Object.values(this.#cases).flatMap(({ samples }) => samples)
    if (one.name.startsWith('sse-')) keep('streams.svg', plotStreams(all))
    if (one.name === 'one-by-one') keep('frontier.svg', plotFrontier(all))
  }

  /** Anything else was measured; its table says all. */
  addTable(name: string, table: string, samples: readonly Sample[] = []): void {
    process.stdout.write(`${table}\n`)
    if (!this.#keeps) return
    this.#cases[name] = { machine: this.#machine, table, samples }
    keep(`${this.#name}.json`, `${JSON.stringify({ cases: this.#cases })}\n`)
    if (!this.#isQuick) keep(`${this.#name}.md`, this.#report())
  }

  #report(): string {
    const parts = Object.values(this.#cases).map(({ machine, table }) => {
      const facts = Object.entries(machine).map(([key, value]) => `${key} ${String(value)}`)
      return `${table}\n${facts.join(', ')}\n`
    })
    return `# ${this.#name}\n\n${parts.join('\n')}`
  }
}
