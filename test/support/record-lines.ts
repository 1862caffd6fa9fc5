/** Lines as rolltape writes them, as many as a test wants, without recording anything. */
import { createHash } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'

/** What a line differs in. */
export interface LineOptions {
  readonly session?: string
  readonly turn?: number
  readonly content?: string
  readonly segment?: string
  readonly request?: object
  /** With the keys that only captured exchanges have. */
  readonly isCaptured?: boolean
}

const CAPTURED = {
  transforms: [
    {
      name: 'capture',
      version: 1,
      profile: 'vllm/1',
      changes: [{ field: 'stream_options', from: { sha256: { request: 'x' } }, to: {} }],
    },
    { name: 'strip', version: 1, removed: ['usage'] },
  ],
  group: 'g',
  client_retry: 1,
}

/** The nth record, counted from 0, as an object. */
export function recordOf(n: number, options: LineOptions = {}): Record<string, unknown> {
  const { session = `rollout-${Math.floor(n / 20)}`, turn = (n % 20) + 1, content = 'hi' } = options
  const user = { role: 'user', content: `${n} ${content}` }
  const request = options.request ?? {
    model: 'qwen3',
    messages: [{ role: 'system', content: 'Be brief.' }, user],
    temperature: 0.7,
    stream: false,
  }
  const message = { role: 'assistant', content: `answer ${n}` }
  const response = { id: `c-${n}`, choices: [{ index: 0, message, finish_reason: 'stop' }] }
  const digest = createHash('sha256').update(JSON.stringify(request)).digest('hex')
  return {
    model: 'qwen3',
    stream: false,
    status: 'success',
    response_time: 0.5,
    start_time: 1763640000.5 + n,
    end_time: 1763640001 + n,
    request,
    response,
    error: null,
    schema: 'rolltape.record/1',
    id: `01JD${n}`,
    seq: n + 1,
    session,
    turn,
    run: 'default',
    protocol: 'openai.chat',
    method: 'POST',
    path: '/v1/chat/completions',
    http_status: 200,
    outcome: 'complete',
    partial: false,
    flags: [],
    finish_reasons: ['stop'],
    tokens: null,
    usage: null,
    timings: { ttfb_ms: 500, ttft_ms: null, duration_ms: 500.5, chunks: 1, max_gap_ms: 0 },
    attempts: [{ upstream: 'http://127.0.0.1:8000', status: 200, error: null, duration_ms: 500 }],
    policy: { dispatch: null, first_byte: null, end: null, engine: null, mixed: false },
    upstream: 'http://127.0.0.1:8000',
    ...(options.isCaptured === true ? CAPTURED : {}),
    sha256: { request: digest, response: null },
    tape: { segment: options.segment ?? '0-000001.tape', end: 1000 + n * 3000 },
    tags: {},
  }
}

/** Writes so many lines, each padded by `content`; gives the bytes written. */
export function writeLines(path: string, count: number, content = 'hi', from = 0): number {
  const fd = openSync(path, from === 0 ? 'w' : 'a')
  let bytes = 0
  try {
    let lines = ''
    for (let n = from; n < from + count; n++) {
      lines += `${JSON.stringify(recordOf(n, { content }))}\n`
      if (lines.length < 4_000_000 && n < from + count - 1) continue
      bytes += writeSync(fd, lines)
      lines = ''
    }
  } finally {
    closeSync(fd)
  }
  return bytes
}
