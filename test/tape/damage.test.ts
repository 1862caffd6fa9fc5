// A segment that is not what was written: torn at any byte, zeroed from any byte, changed at any
// byte. A walk never throws, tells what it left out, and never gives an exchange that was not.
import { readFileSync, writeFileSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import { RolltapeError } from '../../src/errors.ts'
import type { TapedExchange } from '../../src/tape/exchange.ts'
import { FRAME_OVERHEAD_BYTES, KIND, formatBegin } from '../../src/tape/format.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { SegmentFile } from '../../src/tape/segment-file.ts'
import type { WalkReport } from '../../src/tape/segment-file.ts'
import { makeFolder } from '../support/recorder.ts'
import {
  BEGIN,
  appendExchange,
  chunksPayload,
  close,
  makeWriter,
  newTail,
  readAll,
  summaryOf,
} from './tapes.ts'

const NAME = '0-000001.tape'

interface Frame {
  readonly offset: number
  readonly end: number
  readonly kind: number
  readonly seq: number
}

/** A small segment with three exchanges, and where its frames stand. */
async function smallSegment(t: Test): Promise<{ bytes: Buffer; frames: Frame[] }> {
  const { writer, folder } = makeWriter(t)
  for (let seq = 1; seq <= 3; seq++) appendExchange(writer, seq)
  await close(writer)
  const bytes = readFileSync(`${folder}/${NAME}`)
  return { bytes, frames: walk(t, bytes).frames }
}

const folders = new WeakMap<Test, string>()

/** Walks a segment of these bytes, in the test's one folder. */
function walk(t: Test, bytes: Buffer): { frames: Frame[]; report: WalkReport; folder: string } {
  const folder = folders.get(t) ?? makeFolder(t)
  folders.set(t, folder)
  writeFileSync(`${folder}/${NAME}`, bytes)
  const file = new SegmentFile(folder, NAME)
  const frames: Frame[] = []
  const report = file.walk(({ offset, kind, seq, payloadBytes }) => {
    const end = offset + FRAME_OVERHEAD_BYTES + payloadBytes
    frames.push({ offset, end, kind, seq })
  })
  file.close()
  return { frames, report, folder }
}

/** Every exchange that can be gathered from any END of a tape; those that cannot are left out. */
function gathered(folder: string, frames: readonly Frame[]): TapedExchange[] {
  const tape = new TapeFolder(folder)
  const exchanges = frames.flatMap(({ kind, offset }) => {
    try {
      return kind === KIND.end ? [tape.exchange({ segment: NAME, offset })] : []
    } catch (error) {
      if (error instanceof RolltapeError && error.code === 'tape_corrupt') return []
      throw error
    }
  })
  tape.close()
  return exchanges
}

t.test('torn at any byte: the frames before it are read, the rest is reported', async (t) => {
  const { bytes, frames } = await smallSegment(t)
  const headerEnd = frames[0]!.offset
  for (let length = 0; length < headerEnd; length++) {
    t.throws(() => walk(t, bytes.subarray(0, length)), { code: 'tape_corrupt' }, `${length}`)
  }
  for (let length = headerEnd; length <= bytes.length; length++) {
    const whole = frames.filter((frame) => frame.end <= length)
    const end = whole.at(-1)?.end ?? headerEnd
    const torn = walk(t, bytes.subarray(0, length))
    t.strictSame(torn.frames, whole, `${length}`)
    t.strictSame(torn.report, { skipped: [], end, tornBytes: length - end })
    t.equal(gathered(torn.folder, torn.frames).length, whole.filter(isEnd).length)
  }
})

t.test('zeroed from any byte on: the same, as after a power cut', async (t) => {
  const { bytes, frames } = await smallSegment(t)
  for (let from = frames[0]!.offset; from < bytes.length; from++) {
    const zeroed = Buffer.from(bytes).fill(0, from)
    const { report, ...torn } = walk(t, zeroed)
    // A frame whose last bytes were zeroes anyway is still whole.
    const whole = frames.filter((frame) => zeroed.equals(bytes) || frame.end <= from)
    t.strictSame(torn.frames.slice(0, whole.length), whole, `${from}`)
    t.ok(torn.frames.length <= whole.length + 1)
    t.equal(report.end, torn.frames.at(-1)?.end ?? frames[0]!.offset)
    t.strictSame([report.skipped, report.tornBytes], [[], bytes.length - report.end])
  }
})

t.test('changed at any byte: that one frame is left out, all others are read', async (t) => {
  const { bytes, frames } = await smallSegment(t)
  const sound = gathered(walk(t, bytes).folder, frames).map(summaryOf)
  for (let at = frames[0]!.offset; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed[at]! ^= 1 + (at % 255)
    const hit = frames.find((frame) => frame.offset <= at && at < frame.end)!
    const { frames: left, report, folder } = walk(t, changed)
    t.strictSame(
      left,
      frames.filter((frame) => frame !== hit),
      `${at}`,
    )
    const stretch = { offset: hit.offset, bytes: hit.end - hit.offset }
    const isLast = hit === frames.at(-1)
    t.strictSame(report.skipped, isLast ? [] : [stretch])
    t.equal(report.tornBytes, isLast ? stretch.bytes : 0)
    for (const exchange of gathered(folder, left)) {
      if (exchange.gaps.length > 0) t.equal(exchange.begin.seq, hit.seq, 'a gap is told')
      else t.strictSame(summaryOf(exchange), sound[exchange.begin.seq - 1])
    }
  }
})

t.test('a damaged piece of an answer is a gap, anything else damaged is no exchange', async (t) => {
  const { bytes, frames } = await smallSegment(t)
  for (const frame of frames.filter(({ seq }) => seq === 2)) {
    const changed = Buffer.from(bytes)
    changed[frame.end - 1]! ^= 1
    const { folder } = walk(t, changed)
    const tape = new TapeFolder(folder)
    const { offset } = frames.findLast(({ seq }) => seq === 2)!
    const gather = (): TapedExchange => tape.exchange({ segment: NAME, offset })
    const gap = {
      bytes: frame.end - frame.offset - FRAME_OVERHEAD_BYTES,
      reason: 'damaged on the tape',
    }
    if ([KIND.begin, KIND.request, KIND.head].includes(frame.kind as 1)) {
      t.throws(gather, { code: 'tape_corrupt' }, `kind ${frame.kind}`)
    } else {
      t.strictSame(gather().gaps, [gap], `kind ${frame.kind}`)
    }
    tape.close()
  }
})

t.test('a tape inside a payload is never taken for frames of this one', async (t) => {
  const { bytes: inner } = await smallSegment(t)
  const { writer, folder } = makeWriter(t)
  const tail = newTail(9)
  writer.append(tail, KIND.begin, 0, formatBegin(BEGIN))
  writer.append(tail, KIND.request, 0, inner)
  writer.append(tail, KIND.chunks, 0, chunksPayload([inner]))
  await close(writer)
  const bytes = readFileSync(`${folder}/${NAME}`)
  const { frames } = walk(t, bytes)
  t.strictSame(
    frames.map(({ seq }) => seq),
    [9, 9, 9],
  )
  for (const [i, frame] of frames.entries()) {
    const changed = Buffer.from(bytes)
    changed[frame.end - 1]! ^= 1
    t.strictSame(
      walk(t, changed).frames,
      frames.filter((_, n) => n !== i),
      `payload ${i} damaged`,
    )
    const torn = walk(t, bytes.subarray(0, frame.end - 1))
    t.strictSame(torn.frames, frames.slice(0, i), `torn in payload ${i}`)
  }
})

t.test('damage before a megabyte of false magics costs one pass over it', async (t) => {
  const { writer, folder } = makeWriter(t)
  const tail = newTail(1)
  writer.append(tail, KIND.begin, 0, formatBegin(BEGIN))
  const begin = tail.offset
  writer.append(tail, KIND.request, 0, Buffer.alloc(4 << 20, 'RTF1'))
  appendExchange(writer, 2)
  await close(writer)
  const bytes = readFileSync(`${folder}/${NAME}`)
  bytes[tail.offset + 12]! ^= 1
  const { frames, report } = walk(t, bytes)
  t.strictSame(
    frames.filter(isEnd).map(({ seq }) => seq),
    [2],
  )
  t.strictSame(report.skipped.length, 1)
  t.equal(frames[0]!.offset, begin)
})

t.test('a pointer that leads to another exchange gives no exchange', async (t) => {
  const { writer, folder } = makeWriter(t)
  const first = appendExchange(writer, 1)
  const wrong = { ...first, seq: 2 }
  writer.append(wrong, KIND.end, 0, Buffer.alloc(32))
  const lone = newTail(3)
  writer.append(lone, KIND.end, 0, Buffer.alloc(32))
  await close(writer)
  const tape = new TapeFolder(folder)
  for (const [tail, message] of [
    [wrong, /no sound frame of exchange 2 at offset/],
    [lone, /exchange 3 has no BEGIN before offset/],
  ] as const) {
    t.throws(() => tape.exchange({ segment: NAME, offset: tail.offset }), {
      code: 'tape_corrupt',
      message,
    })
  }
  t.throws(() => tape.exchange({ segment: NAME, offset: 5 }), { code: 'tape_corrupt' })
  t.throws(() => tape.exchange({ segment: 'lock', offset: 5 }), { code: 'not_found' })
  tape.close()
})

t.test('a segment of a later format version is refused, with both versions named', async (t) => {
  const { writer, folder } = makeWriter(t)
  appendExchange(writer, 1)
  await close(writer)
  const path = `${folder}/${NAME}`
  const bytes = readFileSync(path)
  const { header } = new SegmentFile(folder, NAME)
  writeFileSync(path, withVersion(bytes, JSON.stringify(header).length, 2))
  t.throws(() => readAll(folder), {
    code: 'tape_corrupt',
    message: `${path} has format version 2; this rolltape reads up to 1`,
  })
})

function withVersion(bytes: Buffer, jsonBytes: number, version: number): Buffer {
  const out = Buffer.from(bytes)
  out.writeUInt16LE(version, 8)
  out.writeUInt32LE(crc32(out.subarray(0, 12 + jsonBytes)), 12 + jsonBytes)
  return out
}

function isEnd({ kind }: Frame): boolean {
  return kind === KIND.end
}
