/**
 * Micro benches of what is done per chunk and per exchange, with mitata: `npm run bench -- micro`.
 * Fixtures are seeded; each bench checks what it has computed, so that none measures an error path.
 */
import { stripVTControlCharacters } from 'node:util'
import { bench, do_not_optimize as keep, group, run } from 'mitata'
import { framed } from '../src/lane/framing.ts'
import { topLevelString } from '../src/lane/body-scan.ts'
import { requestHeaders } from '../src/lane/headers.ts'
import { MarkScanner } from '../src/lane/mark.ts'
import { Redaction } from '../src/lane/redaction.ts'
import { BlockPool, Taping } from '../src/lane/taping.ts'
import { canonicalKey } from '../src/replay/key.ts'
import { realDisk } from '../src/tape/disk.ts'
import type { Disk } from '../src/tape/disk.ts'
import { TapeWriter } from '../src/tape/writer.ts'
import { deriveRecord } from '../src/trajectory/derive.ts'
import { chatRequest, streamChunks, tapedStream } from './fixtures.ts'

const EVENTS = 256
const chunks = streamChunks(EVENTS, 1)
const chunk = chunks[EVENTS >> 1] ?? Buffer.alloc(300)
const small = chatRequest(1 << 10, 2)
const long = chatRequest(400 << 10, 3)
const HEADERS = (
  'Host: 127.0.0.1:8080, Authorization: Bearer sk-0123456789abcdef, Content-Type: application/json, ' +
  'Accept: */*, User-Agent: OpenAI/Python 2.1.0, X-Stainless-Retry-Count: 0, x-session-id: task-7, ' +
  'Content-Length: 1024'
).split(/: |, /)

/** Takes every write at once: what is left is the writer's own work. */
const NO_DISK: Disk = {
  ...realDisk,
  open: (_path, done) => done(null, 3),
  writev: (_fd, buffers, _position, done) =>
    done(
      null,
      buffers.reduce((sum, { length }) => sum + length, 0),
    ),
  fdatasync: (_fd, done) => done(null),
  close: (_fd, done) => done(null),
}

function taping(): Taping {
  const writer = new TapeWriter({
    folder: '/nowhere',
    lane: 0,
    firstSegment: 1,
    recordingId: 'bench',
    segmentBytesMax: 2 ** 40,
    durability: 'written',
    disk: NO_DISK,
    seqNow: () => 1,
    onHealth: () => undefined,
  })
  return new Taping(
    writer,
    new BlockPool(),
    1,
    new Redaction({ redactHeaders: [], redactQuery: [] }),
  )
}

/** Runs all and prints mitata's table. */
export async function micro(): Promise<void> {
  group('per chunk of 300 B', () => {
    const tape = taping()
    let atUs = 0
    bench('onto the tape', () => {
      tape.chunk(chunk, (atUs += 20_000))
      tape.submit()
    })
    const scanner = new MarkScanner('done')
    bench('terminal mark', () => expect(scanner.scan(chunk), false))
    bench('chunk framing', () => keep(framed(chunk)))
  })
  group('per exchange', () => {
    const streamed = tapedStream(small, chunks)
    bench(`stream of ${EVENTS} events to its record`, () => {
      expect(deriveRecord(streamed).summary.outcome, 'complete')
    })
    bench('request headers', () => expect(requestHeaders(HEADERS, undefined).flat.length, 12))
    bench('model in 1 KB', () => expect(topLevelString(small, 'model'), 'm'))
    bench('model in 400 KB', () => expect(topLevelString(long, 'model'), 'm'))
    bench('canonical key of 1 KB', () => keep(canonicalKey('POST /v1/chat/completions', small)))
    bench('canonical key of 400 KB', () => keep(canonicalKey('POST /v1/chat/completions', long)))
  })
  const plain = (text: string): boolean => {
    return process.stdout.write(`${stripVTControlCharacters(text)}\n`)
  }
  await run(process.stdout.isTTY ? {} : { print: plain })
}

function expect(value: unknown, wanted: unknown): void {
  if (value !== wanted) throw new Error(`${String(value)}, not ${String(wanted)}`)
}
