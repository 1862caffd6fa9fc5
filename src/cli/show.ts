/**
 * `rolltape show`: one exchange for people: what was asked, what came back, and when each piece
 * of it came. With `--raw` the exact bytes from the tape, and nothing else.
 */
import { Command, Option } from 'commander'

import { RolltapeError } from '../errors.ts'
import type { TapedExchange } from '../tape/exchange.ts'
import { readExchange } from '../tape/reader.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { bucketByTime, plotBars } from './plot.ts'
import { Progress } from './progress.ts'
import { describeAnswer, describeRequest } from './readable.ts'
import { openWholeRecords, tapeFolderOf } from './source.ts'
import { formatBytes, formatMs, formatTime } from './table.ts'
import { EXIT, printable, say, tell, type Terminal } from './terminal.ts'

/** Flags of the command. */
interface ShowFlags {
  readonly raw?: true | 'response' | 'request' | 'sent'
}

/** Lines and width of the timeline. */
const TIMELINE_LINES = 20
const TIMELINE_WIDTH = 40

/** Makes the command. */
export function showCommand(terminal: Terminal, finish: (code: number) => void): Command {
  return new Command('show')
    .summary('show one exchange')
    .description('Show one exchange: request, assembled response, timeline of its chunks')
    .argument('<id>', 'id of a record, or its seq')
    .argument('<recording>', 'a .jsonl, or a tape folder')
    .addOption(
      new Option('--raw [part]', 'the exact bytes from the tape, unchanged').choices([
        'response',
        'request',
        'sent',
      ]),
    )
    .action(async (id: string, path: string, flags: ShowFlags) => {
      finish(await show(id, path, flags, terminal))
    })
}

async function show(
  id: string,
  path: string,
  flags: ShowFlags,
  terminal: Terminal,
): Promise<number> {
  const record = await find(id, path, terminal)
  if (flags.raw !== undefined) {
    const exchange = readTaped(record, path)
    const sent = exchange.sent?.body ?? exchange.requestBody
    if (flags.raw === 'request') terminal.stdout.write(exchange.requestBody)
    else if (flags.raw === 'sent') terminal.stdout.write(sent)
    else for (const { bytes } of exchange.chunks) terminal.stdout.write(bytes)
    return EXIT.done
  }
  const sections = [describe(record), describeRequest(record), describeAnswer(record)]
  for (const section of sections) say(terminal, `${printable(section)}\n`)
  say(terminal, timeline(record, path))
  return EXIT.done
}

async function find(id: string, path: string, terminal: Terminal): Promise<StoredRecord> {
  const progress = new Progress(terminal)
  const records = openWholeRecords(path, {
    signal: terminal.stopping,
    onProgress: (done, total) => progress.update(done, total),
    onTrouble: (line) => tell(terminal, `rolltape: ${line}`),
  })
  try {
    for await (const record of records) {
      if (record.id === id || String(record.seq) === id) return record
    }
  } finally {
    progress.clear()
  }
  throw new RolltapeError('not_found', `${path} holds no exchange with the id or seq ${id}`, {
    hint: `\`rolltape inspect --json ${path}\` lists ids`,
  })
}

function readTaped(record: StoredRecord, path: string): TapedExchange {
  if (record.tape === undefined) {
    throw new RolltapeError('not_found', `the record names no tape, so there are no raw bytes`)
  }
  const { segment, end } = record.tape
  const folder = tapeFolderOf(path)
  const exchange = readExchange(folder, { segment, offset: end })
  if (record.id === undefined || record.id === exchange.begin.id) return exchange
  const message = `${folder} is the tape of another recording: ${exchange.begin.id} stands where ${record.id} should`
  throw new RolltapeError('not_found', message, { hint: 'put its own tape beside the records' })
}

function describe(record: StoredRecord): string {
  const { timings, usage } = record
  const tokens = usage?.normalized
  const turn = record.turn === null || record.turn === undefined ? '' : `, turn ${record.turn}`
  const lines: [string, string | null | undefined][] = [
    ['exchange', record.id],
    ['session', record.session === undefined ? null : `${record.session}${turn}`],
    ['request', `${record.method ?? 'POST'} ${record.path ?? ''}`.trim()],
    ['upstream', record.upstream],
    ['start', `${formatTime(record.start_time)} UTC`],
    ['outcome', outcome(record)],
    ['error', record.error],
    ['flags', record.flags?.join(', ')],
    [
      'timing',
      timings === undefined
        ? formatMs(record.response_time * 1_000)
        : `TTFB ${formatMs(timings.ttfb_ms)}, TTFT ${formatMs(timings.ttft_ms)}, whole ${formatMs(timings.duration_ms)}, ${timings.chunks} chunks`,
    ],
    ['tokens', tokens === undefined ? null : `${tokens.input} in, ${tokens.output} out`],
    ['tags', tagsOf(record)],
  ]
  return lines
    .filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([name, value]) => `${name.padEnd(9)} ${value}`)
    .join('\n')
}

function outcome(record: StoredRecord): string {
  const status = record.http_status === undefined ? '' : `, HTTP ${record.http_status ?? 'none'}`
  return `${record.outcome ?? record.status}${record.partial === true ? ' (partial)' : ''}${status}`
}

function tagsOf(record: StoredRecord): string {
  return Object.entries(record.tags ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')
}

/** Chunks over time; says why where there are none to show. */
function timeline(record: StoredRecord, path: string): string {
  let exchange: TapedExchange
  try {
    exchange = readTaped(record, path)
  } catch (error) {
    if (error instanceof Error) return `timeline  not available: ${printable(error.message)}`
    throw error
  }
  const chunks = exchange.chunks.map(({ bytes, atUs }) => ({
    atMs: atUs / 1_000,
    bytes: bytes.length,
  }))
  if (chunks.length === 0) return 'timeline  no chunk came'
  const bars = bucketByTime(chunks, TIMELINE_LINES).map(({ fromMs, count, bytes }) => ({
    label: `${fromMs.toFixed(0)} ms`,
    value: bytes,
    note: count === 0 ? '' : `${count} ${count === 1 ? 'chunk' : 'chunks'}, ${formatBytes(bytes)}`,
  }))
  return ['timeline  ms since the request arrived', ...plotBars(bars, TIMELINE_WIDTH)].join('\n')
}
