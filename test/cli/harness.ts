/**
 * Runs a command line in-process and gathers what it wrote; and records to show, as a recording
 * holds them.
 */
import { run } from '../../src/cli/program.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'

/** The script of the real program. */
export const MAIN = new URL('../../src/main.ts', import.meta.url).pathname

/** What a command left behind. */
export interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Settings of one run. */
export interface RunOptions {
  readonly env?: Record<string, string>
  readonly stopping?: AbortSignal
  /** How a detached process is started; default: as `serve` really is. */
  readonly self?: readonly string[]
  /** Called with each piece of stdout. */
  readonly onOutput?: (text: string) => void
}

/** Runs one command line. */
export async function rolltape(argv: string[], options: RunOptions = {}): Promise<Outcome> {
  const out: Buffer[] = []
  const err: Buffer[] = []
  const code = await run({
    argv,
    env: options.env ?? {},
    stopping: options.stopping ?? new AbortController().signal,
    self: options.self ?? [process.execPath, MAIN],
    stdout: {
      write(text) {
        out.push(Buffer.from(text))
        options.onOutput?.(String(text))
      },
    },
    stderr: { write: (text) => err.push(Buffer.from(text)) },
  })
  return { code, stdout: String(Buffer.concat(out)), stderr: String(Buffer.concat(err)) }
}

/** A record; `changes` replace parts of it. */
export function recordOf(seq: number, changes: Partial<StoredRecord> = {}): StoredRecord {
  const start = 1_760_000_000 + seq
  return {
    model: 'qwen3',
    stream: true,
    status: 'success',
    response_time: 2,
    start_time: start,
    end_time: start + 2,
    request: {
      model: 'qwen3',
      temperature: 0.7,
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: [{ type: 'text', text: 'What is\nthis?' }] },
      ],
      tools: [{ type: 'function', function: { name: 'get_weather' } }],
    },
    response: {
      id: 'c1',
      choices: [
        {
          index: 0,
          message: {
            role: 'assistant',
            content: 'A \u001b[31mtest\u001b[0m.',
            reasoning: 'Hm.',
            tool_calls: [
              {
                id: 'call_1',
                type: 'function',
                function: { name: 'get_weather', arguments: '{}' },
              },
            ],
          },
          finish_reason: 'tool_calls',
        },
      ],
    },
    error: null,
    schema: 'rolltape.record/1',
    id: `rec-${seq}`,
    seq,
    session: 'a',
    turn: seq,
    run: 'default',
    protocol: 'openai.chat',
    method: 'POST',
    path: '/v1/chat/completions',
    http_status: 200,
    outcome: 'complete',
    partial: false,
    flags: [],
    finish_reasons: ['tool_calls'],
    tokens: null,
    usage: {
      normalized: { input: 10, output: 5, cache_read: 0, cache_write: 0, reasoning: 0, total: 15 },
      raw: {},
    },
    timings: { ttfb_ms: 90, ttft_ms: 100, duration_ms: 2_000, chunks: 7, max_gap_ms: 50 },
    attempts: [],
    policy: { dispatch: null, first_byte: null, end: null, engine: null, mixed: false },
    upstream: 'http://127.0.0.1:8000',
    sha256: { request: '', response: null },
    tape: { segment: '0-000001.tape', end: 4_096 },
    tags: { run: '17' },
    ...changes,
  }
}

/** Lines of a recording. */
export function jsonl(records: readonly StoredRecord[]): string {
  return records.map((record) => `${JSON.stringify(record)}\n`).join('')
}

/** All items of a source. */
export async function gather<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}
