/**
 * `rolltape inspect`: a recording at a glance. Turns are written as they are read, sessions are
 * summed up at the end; memory is bounded by the number of sessions that are told apart.
 */
import { Command } from 'commander'

import type { StoredRecord } from '../trajectory/jsonl.ts'
import { soundRecord } from '../trajectory/sound.ts'
import { Progress } from './progress.ts'
import { SessionSums, type SessionSum } from './session-sums.ts'
import { openRecords } from './source.ts'
import { formatMs, formatTime, Table } from './table.ts'
import { EXIT, say, tell, type Terminal } from './terminal.ts'
import { write } from './writing.ts'

/** Flags of the command. */
interface InspectFlags {
  readonly session?: string
  readonly failed?: boolean
  readonly follow?: boolean
  readonly json?: boolean
}

/** Columns of one exchange's line; `demo` uses them too. */
export const TURNS = new Table([
  { title: 'SESSION', width: 20 },
  { title: 'TURN', width: 4, align: 'right' },
  { title: 'SEQ', width: 6, align: 'right' },
  { title: 'START (UTC)', width: 19 },
  { title: 'HTTP', width: 4, align: 'right' },
  { title: 'OUTCOME', width: 14 },
  { title: 'MODEL', width: 16 },
  { title: 'TTFT', width: 8, align: 'right' },
  { title: 'DURATION', width: 8, align: 'right' },
  { title: 'CHUNKS', width: 6, align: 'right' },
  { title: 'IN', width: 7, align: 'right' },
  { title: 'OUT', width: 7, align: 'right' },
])

const SESSIONS = new Table([
  { title: 'SESSION', width: 20 },
  { title: 'EXCHANGES', width: 9, align: 'right' },
  { title: 'TURNS', width: 6, align: 'right' },
  { title: 'FAILED', width: 6, align: 'right' },
  { title: 'START (UTC)', width: 19 },
  { title: 'SPAN', width: 8, align: 'right' },
  { title: 'TTFT AVG', width: 8, align: 'right' },
  { title: 'TTFT MAX', width: 8, align: 'right' },
  { title: 'IN', width: 9, align: 'right' },
  { title: 'OUT', width: 9, align: 'right' },
])

/** Makes the command. */
export function inspectCommand(terminal: Terminal, finish: (code: number) => void): Command {
  return new Command('inspect')
    .summary('show what a recording holds')
    .description('Show what a recording holds: each turn, then a sum per session')
    .argument('<recording>', 'a .jsonl, or a tape folder')
    .option('--session <id>', 'only this session')
    .option('--failed', 'only exchanges that failed or did not end whole')
    .option('--follow', 'go on with what is written from now on')
    .option('--json', 'one JSON object per line, for scripts')
    .action(async (path: string, flags: InspectFlags) => {
      finish(await inspect(path, flags, terminal))
    })
}

/** One exchange as a line of `TURNS`. */
export function turnRow(record: StoredRecord): string {
  const { timings, usage } = record
  return TURNS.row([
    record.session ?? '-',
    record.turn === null || record.turn === undefined ? '-' : String(record.turn),
    String(record.seq ?? '-'),
    formatTime(record.start_time),
    String(record.http_status ?? '-'),
    outcomeOf(record),
    record.model ?? '-',
    formatMs(timings?.ttft_ms),
    formatMs(timings?.duration_ms ?? record.response_time * 1_000),
    String(timings?.chunks ?? '-'),
    String(usage?.normalized.input ?? '-'),
    String(usage?.normalized.output ?? '-'),
  ])
}

/** True for an exchange that failed, or whose answer is not whole. */
export function isFailed(record: StoredRecord): boolean {
  return record.status === 'failure' || (record.outcome ?? 'complete') !== 'complete'
}

async function inspect(path: string, flags: InspectFlags, terminal: Terminal): Promise<number> {
  const progress = new Progress(terminal)
  const sums = new SessionSums()
  const json = flags.json === true
  const records = openRecords(path, {
    follow: flags.follow === true,
    signal: terminal.stopping,
    onTrouble: (line) => {
      progress.clear()
      tell(terminal, `rolltape: ${line}`)
    },
    ...(flags.follow === true
      ? {}
      : { onProgress: (done: number, total: number) => progress.update(done, total) }),
  })
  if (!json) say(terminal, TURNS.header())
  for await (const each of records) {
    const record = soundRecord(each)
    if (flags.session !== undefined && record.session !== flags.session) continue
    if (flags.failed === true && !isFailed(record)) continue
    progress.clear()
    sums.add(record, isFailed(record))
    await write(terminal, `${json ? JSON.stringify(turnObject(record)) : turnRow(record)}\n`)
  }
  progress.clear()
  writeSums(sums, json, terminal)
  return EXIT.done
}

function writeSums(sums: SessionSums, json: boolean, terminal: Terminal): void {
  if (!json) say(terminal, `\n${SESSIONS.header()}`)
  for (const sum of sums.all()) say(terminal, json ? JSON.stringify(sumObject(sum)) : sumRow(sum))
  if (sums.untold > 0) {
    tell(terminal, `${sums.untold} exchanges of further sessions are not in these sums`)
  }
}

function outcomeOf(record: StoredRecord): string {
  return record.outcome ?? (record.status === 'success' ? 'complete' : 'failure')
}

function turnObject(record: StoredRecord): object {
  return {
    kind: 'exchange',
    id: record.id ?? null,
    seq: record.seq ?? null,
    session: record.session ?? null,
    turn: record.turn ?? null,
    start_time: record.start_time,
    status: record.status,
    http_status: record.http_status ?? null,
    outcome: outcomeOf(record),
    partial: record.partial ?? false,
    model: record.model,
    finish_reasons: record.finish_reasons ?? [],
    usage: record.usage?.normalized ?? null,
    timings: record.timings ?? null,
    error: record.error,
  }
}

function sumObject(sum: SessionSum): object {
  return {
    kind: 'session',
    session: sum.session,
    exchanges: sum.exchanges,
    turns: sum.turns,
    failed: sum.failed,
    start_time: sum.startTime,
    end_time: sum.endTime,
    ttft_ms_avg: sum.ttftCount === 0 ? null : sum.ttftMsSum / sum.ttftCount,
    ttft_ms_max: sum.ttftCount === 0 ? null : sum.ttftMsMax,
    input: sum.input,
    output: sum.output,
  }
}

function sumRow(sum: SessionSum): string {
  return SESSIONS.row([
    sum.session,
    String(sum.exchanges),
    String(sum.turns),
    String(sum.failed),
    formatTime(sum.startTime),
    formatMs((sum.endTime - sum.startTime) * 1_000),
    formatMs(sum.ttftCount === 0 ? null : sum.ttftMsSum / sum.ttftCount),
    formatMs(sum.ttftCount === 0 ? null : sum.ttftMsMax),
    String(sum.input),
    String(sum.output),
  ])
}
