// A writer on a disk that works: what is appended is on the tape, in order, in few writes, and
// whoever waits is answered once it is there.
import { existsSync, readdirSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import {
  SLABS_FREE_MAX,
  SLAB_BYTES,
  TAPE_PENDING_BYTES_HIGH,
  TAPE_PENDING_BYTES_MAX,
  WRITE_BUFFERS_MAX,
} from '../../src/limits.ts'
import { KIND, formatBegin, formatEnd } from '../../src/tape/format.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { SegmentFile } from '../../src/tape/segment-file.ts'
import { FaultyDisk } from './faulty-disk.ts'
import {
  BEGIN,
  END,
  appendExchange,
  close,
  commit,
  expectedSummary,
  makeWriter,
  newTail,
  readAll,
  summaryOf,
} from './tapes.ts'

const SYNCED_SEGMENT = ['open', 'syncFolder', 'writev', 'fdatasync']

/** Kinds and payloads of a segment's frames. */
function framesOf(folder: string, name = '0-000001.tape'): [number, number, Buffer][] {
  const frames: [number, number, Buffer][] = []
  const file = new SegmentFile(folder, name)
  file.walk(({ seq, kind, payload }) => void frames.push([seq, kind, Buffer.from(payload!)]))
  file.close()
  return frames
}

t.test('frames of many exchanges come back whole, interleaved or not', async (t) => {
  const { writer, folder } = makeWriter(t)
  for (let seq = 1; seq <= 50; seq++) appendExchange(writer, seq)
  t.equal(await close(writer), undefined)
  const { exchanges, lostBytes } = readAll(folder)
  t.strictSame(
    exchanges.map(summaryOf),
    Array.from({ length: 50 }, (_, i) => expectedSummary(i + 1)),
  )
  t.equal(lostBytes, 0)
})

t.test('nothing is on disk before submit, everything after the commit it carries', async (t) => {
  const { writer, folder } = makeWriter(t)
  appendExchange(writer, 1)
  t.notOk(existsSync(`${folder}/0-000001.tape`))
  t.ok(writer.pendingBytes > 0)
  t.equal(await commit(writer), undefined)
  t.equal(writer.pendingBytes, 0)
  t.strictSame(readAll(folder).exchanges.map(summaryOf), [expectedSummary(1)])
  await close(writer)
})

t.test(
  'frames of one turn of the loop go in one write, and waits are answered together',
  async (t) => {
    const faulty = new FaultyDisk()
    const { writer } = makeWriter(t, { disk: faulty.disk })
    await commit(writer)
    const order: number[] = []
    const waits = Array.from({ length: 20 }, (_, i) => {
      appendExchange(writer, i + 1)
      return commit(writer).then(() => order.push(i))
    })
    await Promise.all(waits)
    // The first commit starts a write at once; all that came during it goes with the next.
    t.equal(faulty.writes.length, 3, 'the header, the first commit, all others')
    t.strictSame(
      order,
      Array.from({ length: 20 }, (_, i) => i),
    )
    await close(writer)
    t.equal(faulty.concurrentMax, 1)
  },
)

t.test('one write is under way at a time, and positions follow one another', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk })
  const waits: Promise<unknown>[] = []
  for (let seq = 1; seq <= 200; seq++) {
    appendExchange(writer, seq, ['x'.repeat(seq * 37)], () => writer.submit())
    if (seq % 7 === 0) waits.push(commit(writer))
    if (seq % 31 === 0) await waits.at(-1)
  }
  await Promise.all(waits)
  t.equal(await close(writer), undefined)
  t.equal(faulty.concurrentMax, 1)
  let position = 0
  for (const write of faulty.writes) {
    t.equal(write.position, position)
    position += write.bytes
  }
  t.equal(readAll(folder).exchanges.length, 200)
})

t.test('a commit is answered at once when nothing waits for the disk', async (t) => {
  const { writer } = makeWriter(t)
  await commit(writer)
  let answered = false
  writer.commit({ onCommitted: (error) => (answered = error === undefined) })
  t.ok(answered)
  await close(writer)
})

t.test('payloads of every size around a slab come back, with a prefix and without', async (t) => {
  const { writer, folder } = makeWriter(t)
  const sizes = [0, 1, 1_000, SLAB_BYTES / 4, SLAB_BYTES - 41, SLAB_BYTES, SLAB_BYTES * 3 + 1]
  const tail = newTail(1)
  const expected: [number, number, Buffer][] = []
  for (const size of sizes.flatMap((size) => [Math.max(0, size - 57), size])) {
    for (const prefix of [Buffer.alloc(0), Buffer.from('0123456789abcdef')]) {
      const payload = Buffer.alloc(size, `${size};`)
      t.ok(writer.append(tail, KIND.request, 0, payload, prefix))
      expected.push([1, KIND.request, Buffer.concat([prefix, payload])])
    }
  }
  t.equal(await close(writer), undefined)
  const frames = framesOf(folder)
  t.equal(frames.length, expected.length)
  t.ok(frames.every((frame, i) => frame[2].equals(expected[i]![2])))
})

t.test('a small payload is copied, a large one is kept by reference', async (t) => {
  const { writer, folder } = makeWriter(t)
  const small = Buffer.alloc(100, 's')
  const large = Buffer.alloc(SLAB_BYTES, 'l')
  writer.append(newTail(1), KIND.request, 0, small)
  writer.append(newTail(1), KIND.request, 0, large)
  small.fill('x')
  t.equal(await close(writer), undefined)
  const frames = framesOf(folder)
  t.equal(frames[0]![2].toString('latin1', 0, 3), 'sss')
  t.ok(frames[1]![2].equals(large))
})

t.test('more buffers than one write takes go in several', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk })
  await commit(writer)
  const payload = Buffer.alloc(SLAB_BYTES / 4, 'p')
  // Each large frame takes three buffers: header, payload, CRC.
  const frames = Math.ceil((WRITE_BUFFERS_MAX * 1.5) / 3)
  for (let i = 0; i < frames; i++) writer.append(newTail(i + 1), KIND.request, 0, payload)
  await commit(writer)
  t.strictSame(
    faulty.writes.slice(1).map((write) => write.buffers),
    [WRITE_BUFFERS_MAX, frames * 3 - WRITE_BUFFERS_MAX],
  )
  await close(writer)
  t.equal(framesOf(folder).length, frames)
})

t.test('slabs that waited for a slow disk are used again, eight of them at most', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk })
  await commit(writer)
  const fill = (): void => {
    const payload = Buffer.alloc(SLAB_BYTES / 8, 'p')
    const slabs = SLABS_FREE_MAX + 4
    for (let i = 0; i < slabs * 8; i++) writer.append(newTail(i + 1), KIND.request, 0, payload)
  }
  const slabsMade = countSlabs(t)
  faulty.hold()
  fill()
  const first = slabsMade()
  faulty.release()
  await commit(writer)
  faulty.hold()
  fill()
  t.strictSame([first, slabsMade() - first], [13, 13 - SLABS_FREE_MAX])
  faulty.release()
  await close(writer)
  t.equal(framesOf(folder).length, 2 * 8 * (SLABS_FREE_MAX + 4))
})

t.test('a segment is rolled before it grows over its bound, and exchanges span it', async (t) => {
  const { writer, folder } = makeWriter(t, { segmentBytesMax: 1_000, firstSegment: 7 })
  for (let seq = 1; seq <= 10; seq++) appendExchange(writer, seq)
  t.equal(await close(writer), undefined)
  const tape = new TapeFolder(folder)
  const sizes = tape.segments().map(({ name }) => tape.segment(name).size)
  t.ok(
    sizes.every((size) => size <= 1_000),
    `${sizes.join(' ')} are 1000 or less`,
  )
  t.equal(tape.segments()[0]!.name, '0-000007.tape')
  tape.close()
  const { exchanges, lostBytes } = readAll(folder)
  t.strictSame(
    exchanges.map(summaryOf),
    Array.from({ length: 10 }, (_, i) => expectedSummary(i + 1)),
  )
  t.equal(lostBytes, 0)
})

t.test('a frame that no segment holds has one for itself, and no empty one is left', async (t) => {
  const { writer, folder } = makeWriter(t, { segmentBytesMax: 1_000 })
  writer.append(newTail(9), KIND.request, 0, Buffer.alloc(5_000))
  writer.append(newTail(9), KIND.request, 0, Buffer.alloc(5_000))
  for (let seq = 1; seq <= 3; seq++) appendExchange(writer, seq, ['x'.repeat(5_000)])
  t.equal(await close(writer), undefined)
  for (const name of readdirSync(folder)) t.not(framesOf(folder, name).length, 0, name)
  t.equal(readAll(folder).exchanges.length, 3)
})

t.test('segments are closed once they are written, however slowly frames come', async (t) => {
  const faulty = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: faulty.disk, segmentBytesMax: 1_000 })
  // Every frame is committed by itself, so a segment is rolled when nothing of it waits.
  for (let seq = 1; seq <= 10; seq++) {
    const tail = newTail(seq)
    writer.append(tail, KIND.begin, 0, formatBegin(BEGIN))
    await commit(writer)
    writer.append(tail, KIND.end, 0, formatEnd(END))
    await commit(writer)
    t.equal(faulty.openFiles.size, 1)
  }
  await close(writer)
  t.equal(faulty.openFiles.size, 0)
  t.ok(readdirSync(folder).length > 2)
})

t.test(
  'synced: each gathered write is followed by one fdatasync, each file by its folder',
  async (t) => {
    const faulty = new FaultyDisk()
    const { writer } = makeWriter(t, {
      disk: faulty.disk,
      durability: 'synced',
      segmentBytesMax: 1_000,
    })
    const waits = [1, 2].map((seq) => {
      appendExchange(writer, seq)
      return commit(writer)
    })
    t.strictSame(await Promise.all(waits), [undefined, undefined])
    t.strictSame(faulty.operations, [...SYNCED_SEGMENT, 'close', ...SYNCED_SEGMENT])
    await close(writer)
  },
)

t.test('closing syncs once more, also where nobody asked for durability', async (t) => {
  for (const durability of ['memory', 'written', 'synced'] as const) {
    const faulty = new FaultyDisk()
    const { writer, folder } = makeWriter(t, { disk: faulty.disk, durability })
    appendExchange(writer, 1)
    t.equal(await close(writer), undefined)
    t.strictSame(faulty.operations.slice(-2), ['fdatasync', 'close'], durability)
    t.equal(readAll(folder).exchanges.length, 1)
  }
})

t.test('a writer that wrote nothing leaves a segment with just its header', async (t) => {
  const { writer, folder } = makeWriter(t, { seqNow: () => 41 })
  t.equal(await close(writer), undefined)
  const file = new SegmentFile(folder, '0-000001.tape')
  t.match(file.header, { recordingId: 'rec', lane: 0, number: 1, seqBase: 41 })
  t.equal(file.firstFrame, file.size)
  file.close()
})

t.test(
  'over the high mark the writer is congested, and tells when it is not any more',
  async (t) => {
    const faulty = new FaultyDisk()
    const { writer } = makeWriter(t, { disk: faulty.disk })
    await commit(writer)
    faulty.hold()
    const payload = Buffer.alloc(1 << 20)
    while (!writer.congested) {
      t.ok(writer.pendingBytes <= TAPE_PENDING_BYTES_HIGH)
      writer.append(newTail(1), KIND.request, 0, payload)
    }
    t.ok(writer.pendingBytes > TAPE_PENDING_BYTES_HIGH)
    const relieved = new Promise<number>((resolve) =>
      writer.onRelief(() => resolve(writer.pendingBytes)),
    )
    writer.submit()
    faulty.release()
    t.ok((await relieved) <= TAPE_PENDING_BYTES_HIGH)
    t.notOk(writer.congested)
    await close(writer)
  },
)

t.test(
  'at the bound frames are refused, and taken again once the disk has caught up',
  async (t) => {
    const faulty = new FaultyDisk()
    const { writer, folder } = makeWriter(t, { disk: faulty.disk })
    await commit(writer)
    faulty.hold()
    const payload = Buffer.alloc(1 << 20)
    const tail = newTail(1)
    let taken = 0
    while (writer.append(tail, KIND.request, 0, payload)) taken++
    t.equal(taken, Math.floor(TAPE_PENDING_BYTES_MAX / (payload.length + 40)))
    t.ok(writer.pendingBytes <= TAPE_PENDING_BYTES_MAX)
    const { segment, offset } = tail
    t.notOk(writer.append(tail, KIND.request, 0, payload))
    t.strictSame([tail.segment, tail.offset], [segment, offset], 'a refused frame moves no tail')
    t.ok(writer.append(tail, KIND.end, 0, Buffer.alloc(0)), 'a small frame still fits')
    faulty.release()
    t.equal(await commit(writer), undefined)
    t.ok(writer.append(tail, KIND.request, 0, payload))
    await close(writer)
    t.equal(framesOf(folder).length, taken + 2)
  },
)

t.test(
  'a single frame longer than the bound is taken while the writer is not congested',
  async (t) => {
    const { writer, folder } = makeWriter(t)
    const payload = Buffer.alloc(TAPE_PENDING_BYTES_MAX + 1)
    t.ok(writer.append(newTail(1), KIND.request, 0, payload))
    t.notOk(writer.append(newTail(2), KIND.request, 0, payload), 'but only one')
    t.equal(await close(writer), undefined)
    t.strictSame(
      framesOf(folder).map(([seq, , bytes]) => [seq, bytes.length]),
      [[1, payload.length]],
    )
  },
)

/** Counts the slabs that are allocated from now on. */
function countSlabs(t: Test): () => number {
  const original = Buffer.allocUnsafeSlow
  let made = 0
  Buffer.allocUnsafeSlow = (size) => {
    if (size === SLAB_BYTES) made++
    return original(size)
  }
  t.teardown(() => (Buffer.allocUnsafeSlow = original))
  return () => made
}
