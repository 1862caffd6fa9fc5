/**
 * Tapes for tests: a writer in a folder of its own, whole exchanges laid down through it, and all
 * that a folder holds read back.
 */
import { mock } from 'node:test'
import type { Test } from 'tap'
import { TAPE_RETRY_MS } from '../../src/limits.ts'
import { realDisk } from '../../src/tape/disk.ts'
import type { EndFrame, TapedExchange } from '../../src/tape/exchange.ts'
import { KIND, formatBegin, formatEnd, formatHead, formatTrailers } from '../../src/tape/format.ts'
import type { BeginFields } from '../../src/tape/format.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { TapeWriter } from '../../src/tape/writer.ts'
import type { FrameTail, TapeWriterOptions } from '../../src/tape/writer.ts'
import { makeFolder } from '../support/recorder.ts'

/** A writer and what it told. */
export interface WriterUnderTest {
  readonly writer: TapeWriter
  readonly folder: string
  /** Messages of failures, undefined where writing worked again. */
  readonly health: (string | undefined)[]
}

/** Makes a writer in a new folder. */
export function makeWriter(t: Test, options: Partial<TapeWriterOptions> = {}): WriterUnderTest {
  const folder = options.folder ?? makeFolder(t)
  const health: (string | undefined)[] = []
  const onHealth = (error: Error | undefined): void => void health.push(error?.message)
  return { writer: writerIn(folder, { onHealth, ...options }), folder, health }
}

/** Makes a writer in a folder that is there. */
export function writerIn(folder: string, options: Partial<TapeWriterOptions> = {}): TapeWriter {
  return new TapeWriter({
    folder,
    lane: 0,
    firstSegment: 1,
    recordingId: 'rec',
    segmentBytesMax: 1 << 30,
    durability: 'written',
    disk: realDisk,
    seqNow: () => 0,
    onHealth: () => undefined,
    ...options,
  })
}

/** Resolves with the commit's answer. */
export function commit(writer: TapeWriter): Promise<Error | undefined> {
  return new Promise((resolve) => writer.commit({ onCommitted: resolve }))
}

/** Commits until it works; the pause after a failure is not waited for. Tells each failure. */
export async function commitAtLast(writer: TapeWriter): Promise<string[]> {
  const failures: string[] = []
  for (;;) {
    const error = await commit(writer)
    if (error === undefined) return failures
    failures.push(error.message)
    const recovered = relieved(writer)
    mock.timers.tick(TAPE_RETRY_MS)
    await recovered
  }
}

/** Closes a writer. */
export function close(writer: TapeWriter): Promise<Error | undefined> {
  return new Promise((resolve) => writer.close(resolve))
}

export const BEGIN: BeginFields = {
  arrivedAtUs: 1_760_000_000_000_000,
  session: 's',
  run: 'default',
  turn: 1,
  method: 'POST',
  httpVersion: '1.1',
  target: '/v1/chat/completions',
  forwardedTarget: '/v1/chat/completions',
  upstream: 'http://127.0.0.1:8000',
  policyVersion: '',
  tagsJson: '{}',
  rawHeaders: ['content-type', 'application/json'],
  mode: 'record',
  generation: 1,
}

export const END: EndFrame = {
  cause: 'upstream_end',
  bytesReceived: 0,
  bytesForwarded: 0,
  atUs: 9_000,
  part: 1,
  code: '',
  message: '',
}

/** A tail for a new exchange. */
export function newTail(seq: number): FrameTail {
  return { seq, segment: 0, offset: 0 }
}

/** A CHUNKS payload: chunks 1 ms apart, the first at 2 ms. */
export function chunksPayload(chunks: readonly (string | Buffer)[]): Buffer {
  const start = Buffer.alloc(8)
  start.writeDoubleLE(2_000)
  const parts = chunks.flatMap((chunk, i) => {
    const bytes = Buffer.from(chunk as string)
    const head = Buffer.alloc(8)
    head.writeUInt32LE(bytes.length, 0)
    head.writeUInt32LE(i === 0 ? 0 : 1_000, 4)
    return [head, bytes]
  })
  return Buffer.concat([start, ...parts])
}

/** Appends a whole exchange, frame by frame; `between` runs after each frame. */
export function appendExchange(
  writer: TapeWriter,
  seq: number,
  chunks: readonly (string | Buffer)[] = ['Hel', 'lo'],
  between: () => void = () => undefined,
): FrameTail {
  const tail = newTail(seq)
  const received = chunks.reduce((sum, chunk) => sum + Buffer.byteLength(chunk), 0)
  const end = { ...END, bytesReceived: received, bytesForwarded: received }
  const frames = [
    [KIND.begin, formatBegin({ ...BEGIN, turn: seq })],
    [KIND.request, Buffer.from(`{"n":${seq}}`)],
    [KIND.head, formatHead(1_000, 200, 'OK', ['content-type', 'text/plain'])],
    [KIND.chunks, chunksPayload(chunks)],
    [KIND.trailers, formatTrailers(['x-sum', String(seq)])],
    [KIND.end, formatEnd(end)],
  ] as const
  for (const [kind, payload] of frames) {
    writer.append(tail, kind, 0, payload)
    between()
  }
  return tail
}

/** All exchanges of a folder that have ended, by number, and all its walks left out. */
export function readAll(folder: string): { exchanges: TapedExchange[]; lostBytes: number } {
  const tape = new TapeFolder(folder)
  const exchanges: TapedExchange[] = []
  let lostBytes = 0
  for (const { name } of tape.segments()) {
    const offsets: number[] = []
    const report = tape.segment(name).walk((frame) => {
      if (frame.kind === KIND.end) offsets.push(frame.offset)
    })
    lostBytes += report.tornBytes + report.skipped.reduce((sum, { bytes }) => sum + bytes, 0)
    for (const offset of offsets) exchanges.push(tape.exchange({ segment: name, offset }))
  }
  tape.close()
  return { exchanges: exchanges.sort((a, b) => a.begin.seq - b.begin.seq), lostBytes }
}

/** What of an exchange differs from another's, in short: number, request, answer, trailers. */
export function summaryOf(exchange: TapedExchange): unknown[] {
  const { begin, requestBody, chunks, trailers, end } = exchange
  const answer = Buffer.concat(chunks.map(({ bytes }) => bytes))
  return [begin.seq, requestBody.toString(), answer.toString(), trailers, end?.bytesReceived]
}

/** What {@link summaryOf} gives for an exchange of {@link appendExchange}. */
export function expectedSummary(seq: number, answer = 'Hello'): unknown[] {
  return [seq, `{"n":${seq}}`, answer, [['x-sum', String(seq)]], Buffer.byteLength(answer)]
}

/** Resolves once a failing writer works again or fails anew. */
function relieved(writer: TapeWriter): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const was = writer.failure
  const look = (): void => {
    if (writer.failure !== was) resolve()
    else setImmediate(look)
  }
  look()
  return promise
}
