/**
 * `rolltape stats`: what a recording comes to: sums per session, then how tokens and times are
 * spread. Memory is bounded by the number of sessions that are told apart.
 */
import { Command } from 'commander'

import type { StoredRecord } from '../trajectory/jsonl.ts'
import { soundRecord } from '../trajectory/sound.ts'
import { Histogram } from './histogram.ts'
import { isFailed } from './inspect.ts'
import { withProgress } from './progress.ts'
import { bytesOf, describeBytes, sealedRatio } from './recording-bytes.ts'
import type { RecordingBytes } from './recording-bytes.ts'
import { SessionSums, type SessionSum } from './session-sums.ts'
import { openRecords } from './source.ts'
import { formatMs, formatTime, Table } from './table.ts'
import { EXIT, printable, say, tell, type Terminal } from './terminal.ts'

interface StatsFlags {
  readonly session?: string
  readonly json?: boolean
}

const SESSIONS = new Table([
  { title: 'SESSION', width: 20 },
  { title: 'EXCHANGES', width: 9, align: 'right' },
  { title: 'TURNS', width: 6, align: 'right' },
  { title: 'TOOL CALLS', width: 10, align: 'right' },
  { title: 'ERRORS', width: 6, align: 'right' },
  { title: 'IN', width: 10, align: 'right' },
  { title: 'OUT', width: 10, align: 'right' },
  { title: 'SAMPLED', width: 10, align: 'right' },
  { title: 'START (UTC)', width: 19 },
  { title: 'SPAN', width: 8, align: 'right' },
  { title: 'WAITED', width: 8, align: 'right' },
])

const BAR_WIDTH = 40

/** What is spread: of generation requests alone. */
const SPREADS = {
  prompt_tokens: { title: 'prompt tokens of a turn', unit: String, value: promptTokens },
  output_tokens: { title: 'output tokens of a turn', unit: String, value: outputTokens },
  ttft_ms: { title: 'time to the first token', unit: formatMs, value: ttftMs },
  duration_ms: { title: 'time of a whole turn', unit: formatMs, value: durationMs },
} as const

type SpreadName = keyof typeof SPREADS

const HELP = `
IN, OUT     tokens as the upstream counts them
SAMPLED     tokens whose ids are in the records: what \`rolltape export\` can train
SPAN        from the first request to the last answer
WAITED      the sum of the times that requests took; more than SPAN where they ran side by side`

/** Makes the command. */
export function statsCommand(terminal: Terminal, finish: (code: number) => void): Command {
  return new Command('stats')
    .summary('sum up a recording: tokens, tool calls, errors, times')
    .description('Sum up a recording per session, and plot how tokens and times are spread')
    .argument('<recording>', 'a .jsonl with the parts closed before it, or a tape folder')
    .option('--session <id>', 'only this session')
    .option('--json', 'one JSON object per session, and one for all')
    .addHelpText('after', HELP)
    .action(async (path: string, flags: StatsFlags) => finish(await stats(path, flags, terminal)))
}

async function stats(path: string, flags: StatsFlags, terminal: Terminal): Promise<number> {
  const sums = new SessionSums()
  const all = new SessionSums()
  const spreads = Object.keys(SPREADS).map((name) => [name as SpreadName, new Histogram()] as const)
  await withProgress(terminal, async (told) => {
    const source = openRecords(path, { parts: true, signal: terminal.stopping, ...told })
    for await (const each of source) {
      const record = soundRecord(each)
      if (flags.session !== undefined && (record.session ?? 'default') !== flags.session) continue
      sums.add(record, isFailed(record))
      all.add({ ...record, session: 'all' }, isFailed(record))
      if (record.turn === null) continue
      for (const [name, histogram] of spreads) {
        const value = SPREADS[name].value(record)
        if (value !== null) histogram.add(value)
      }
    }
  })
  const [total] = all.all()
  // Sessions share segments: of one alone it cannot be said.
  const bytes = flags.session === undefined ? bytesOf(path) : undefined
  if (flags.json === true) writeJson(terminal, sums, total, spreads, bytes)
  else writeText(terminal, sums, total, spreads)
  if (flags.json !== true && bytes !== undefined && (total?.turns ?? 0) > 0) {
    say(terminal, `\n${describeBytes(bytes, total?.turns ?? 0)}`)
  }
  if (sums.untold > 0) tell(terminal, `${sums.untold} exchanges of further sessions are in no row`)
  return EXIT.done
}

type Spreads = readonly (readonly [SpreadName, Histogram])[]

function writeJson(
  terminal: Terminal,
  sums: SessionSums,
  total: SessionSum | undefined,
  spreads: Spreads,
  bytes: RecordingBytes | undefined,
): void {
  for (const sum of sums.all()) {
    say(terminal, JSON.stringify({ kind: 'session', session: sum.session, ...objectOf(sum) }))
  }
  const sessions = [...sums.all()].length
  const spread = Object.fromEntries(spreads.map(([name, histogram]) => [name, histogram.spread()]))
  const told = total === undefined ? { exchanges: 0 } : objectOf(total)
  say(
    terminal,
    JSON.stringify({ kind: 'total', sessions, ...told, spread, ...(bytes && spaceOf(bytes)) }),
  )
}

function writeText(
  terminal: Terminal,
  sums: SessionSums,
  total: SessionSum | undefined,
  spreads: Spreads,
): void {
  say(terminal, SESSIONS.header())
  let sessions = 0
  for (const sum of sums.all()) {
    say(terminal, rowOf(sum, sum.session))
    sessions++
  }
  if (total === undefined) return
  if (sessions > 1) say(terminal, rowOf(total, `all ${sessions}`))
  for (const [name, histogram] of spreads) {
    if (histogram.count === 0) continue
    const { title, unit } = SPREADS[name]
    const { count, p50, p90, p99, max } = histogram.spread()
    const marks = [p50, p90, p99, max].map((mark) => unit(rounded(mark ?? 0)))
    const [half, most, nearlyAll, largest] = marks
    say(
      terminal,
      `\n${title}: p50 ${half}, p90 ${most}, p99 ${nearlyAll}, max ${largest}, of ${count}`,
    )
    for (const line of histogram.plot(BAR_WIDTH, unit)) say(terminal, line)
  }
}

function rowOf(sum: SessionSum, name: string): string {
  return SESSIONS.row([
    printable(name),
    String(sum.exchanges),
    String(sum.turns),
    String(sum.toolCalls),
    String(sum.failed),
    String(sum.input),
    String(sum.output),
    String(sum.sampled),
    formatTime(sum.startTime),
    formatMs((sum.endTime - sum.startTime) * 1_000),
    formatMs(sum.waitedMs),
  ])
}

function spaceOf(bytes: RecordingBytes): object {
  return {
    bytes: {
      tape: bytes.tape,
      tape_on_disk: bytes.tapeOnDisk,
      sealed_plain: bytes.sealedPlain,
      sealed: bytes.sealed,
      sealed_ratio: sealedRatio(bytes),
      records: bytes.records,
    },
  }
}

function objectOf(sum: SessionSum): object {
  return {
    exchanges: sum.exchanges,
    turns: sum.turns,
    tool_calls: sum.toolCalls,
    errors: sum.failed,
    input: sum.input,
    output: sum.output,
    sampled: sum.sampled,
    start_time: sum.startTime,
    end_time: sum.endTime,
    waited_ms: sum.waitedMs,
  }
}

function rounded(value: number): number {
  return Math.round(value)
}

function promptTokens({ usage, tokens }: StoredRecord): number | null {
  const told = usage?.normalized
  if (told !== undefined) return told.input + told.cache_read + told.cache_write
  return tokens?.[0]?.prompt_token_ids?.length ?? null
}

function outputTokens({ usage, tokens }: StoredRecord): number | null {
  const told = usage?.normalized.output
  if (told !== undefined) return told
  return tokens?.reduce((sum, { token_ids: ids }) => sum + (ids?.length ?? 0), 0) ?? null
}

function ttftMs({ timings }: StoredRecord): number | null {
  return timings?.ttft_ms ?? null
}

function durationMs({ timings, response_time: seconds }: StoredRecord): number | null {
  return timings?.duration_ms ?? (typeof seconds === 'number' ? seconds * 1_000 : null)
}
