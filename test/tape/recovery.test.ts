// What a restart finds on a tape, however the process before it ended.
import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { Disk } from '../../src/tape/disk.ts'
import { realDisk } from '../../src/tape/disk.ts'
import { FRAME_OVERHEAD_BYTES, KIND, formatBegin } from '../../src/tape/format.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { SegmentFile } from '../../src/tape/segment-file.ts'
import { inspectTape, nextSegments } from '../../src/tape/recovery.ts'
import type { Recovery, RecoveryInput } from '../../src/tape/recovery.ts'
import { makeFolder } from '../support/recorder.ts'
import { BEGIN, appendExchange, chunksPayload, close, makeWriter, newTail } from './tapes.ts'

/** Looks at a folder; nothing has a record unless told. */
function inspect(folder: string, input: Partial<RecoveryInput> = {}) {
  const turns: [string, number][] = []
  const recovery = inspectTape({
    folder,
    hasRecord: () => false,
    settledSeq: 0,
    onTurn: (session, turn) => turns.push([session, turn]),
    ...input,
  })
  return { ...recovery, turns }
}

/** Numbers of the exchanges that wait for a record. */
function pendingOf(folder: string, recovery: Recovery): number[] {
  const tape = new TapeFolder(folder)
  const seqs = recovery.pending.map((position) => tape.exchange(position).begin.seq)
  tape.close()
  return seqs
}

/** Appends an exchange that never ends. */
function appendUnended(writer: ReturnType<typeof makeWriter>['writer'], seq: number): void {
  const tail = newTail(seq)
  writer.append(tail, KIND.begin, 0, formatBegin({ ...BEGIN, turn: seq }))
  writer.append(tail, KIND.request, 0, Buffer.from('{}'))
  writer.append(tail, KIND.chunks, 0, chunksPayload(['Hel']))
}

/** Segments of a lane, each with the exchanges given for it. */
async function layDown(t: Test, folder: string, lane: number, segments: readonly number[][]) {
  let seqNow = 0
  for (const [i, seqs] of segments.entries()) {
    const options = { folder, lane, firstSegment: i + 1, seqNow: () => seqNow }
    const { writer } = makeWriter(t, options)
    for (const seq of seqs) appendExchange(writer, seq)
    seqNow = Math.max(seqNow, ...seqs)
    await close(writer)
  }
}

t.test('an empty folder is a new recording', async (t) => {
  const { recordingId, nextSegments, ...recovery } = inspect(makeFolder(t))
  t.match(recordingId, /^[0-9a-f]{12}$/)
  t.strictSame([...nextSegments], [])
  t.strictSame(recovery, {
    isNew: true,
    lastSeq: 0,
    pending: [],
    unended: 0,
    report: { segments: 0, walked: 0, skippedBytes: 0, tornBytes: 0, unreadable: [] },
    turns: [],
  })
})

t.test('R17: numbers and turns go on where the tape ends, over lanes and segments', async (t) => {
  const folder = makeFolder(t)
  await layDown(t, folder, 0, [[1, 4], [5]])
  await layDown(t, folder, 2, [[2, 3, 9]])
  const recovery = inspect(folder)
  t.equal(recovery.isNew, false)
  t.equal(recovery.recordingId, 'rec')
  t.equal(recovery.lastSeq, 9)
  t.strictSame(
    [...recovery.nextSegments],
    [
      [0, 3],
      [2, 2],
    ],
  )
  t.strictSame(pendingOf(folder, recovery), [1, 4, 5, 2, 3, 9])
  t.equal(recovery.unended, 0)
  t.strictSame(
    recovery.turns,
    [1, 4, 5, 2, 3, 9].map((seq) => ['s', seq]),
  )
})

t.test('the highest number counts also if only a segment header tells it', async (t) => {
  const folder = makeFolder(t)
  const { writer } = makeWriter(t, { folder, seqNow: () => 77 })
  await close(writer)
  t.equal(inspect(folder).lastSeq, 77)
})

t.test(
  'exchanges with a record are not pending; those that had not ended are counted',
  async (t) => {
    const { writer, folder } = makeWriter(t, { segmentBytesMax: 800, seqNow: () => 7 })
    for (let seq = 1; seq <= 4; seq++) appendExchange(writer, seq)
    appendUnended(writer, 5)
    appendExchange(writer, 6)
    appendUnended(writer, 7)
    await close(writer)
    const recovery = inspect(folder, { hasRecord: (seq) => seq === 2 || seq === 3 })
    t.strictSame(pendingOf(folder, recovery), [1, 4, 5, 6, 7])
    t.equal(recovery.unended, 2)
    const tape = new TapeFolder(folder)
    const unended = tape.exchange(recovery.pending[2]!)
    t.strictSame(
      [unended.end, Buffer.concat(unended.chunks.map(({ bytes }) => bytes)).toString()],
      [undefined, 'Hel'],
    )
    tape.close()
  },
)

t.test('segments in which all is settled are not walked; the last of each lane is', async (t) => {
  const folder = makeFolder(t)
  await layDown(t, folder, 0, [[1, 2], [3, 4], [5, 6], [7]])
  await layDown(t, folder, 1, [[8]])
  for (const [settledSeq, walked] of [
    [0, 5],
    [1, 5],
    [2, 4],
    [3, 4],
    [4, 3],
    [6, 2],
    [100, 2],
  ] as const) {
    const recovery = inspect(folder, { settledSeq, hasRecord: (seq) => seq <= settledSeq })
    t.strictSame([recovery.report.segments, recovery.report.walked], [5, walked], `${settledSeq}`)
    const open = [1, 2, 3, 4, 5, 6, 7, 8].filter((seq) => seq > settledSeq)
    t.strictSame(pendingOf(folder, recovery), open)
    t.equal(recovery.lastSeq, 8)
  }
})

t.test('segments before the last settled ones are not even opened', async (t) => {
  const folder = makeFolder(t)
  await layDown(t, folder, 0, [[1], [2], [3], [4]])
  await layDown(t, folder, 1, [[5], [6]])
  const opened = new Set<string>()
  const disk: Disk = {
    ...realDisk,
    openSync: (path, flags) => {
      opened.add(basename(path))
      return realDisk.openSync(path, flags)
    },
  }
  const { lastSeq, recordingId } = inspect(folder, { settledSeq: 6, hasRecord: () => true, disk })
  t.strictSame([lastSeq, recordingId], [6, 'rec'])
  t.strictSame([...opened].filter((name) => name.endsWith('.tape')).sort(), [
    '0-000004.tape',
    '1-000002.tape',
  ])
})

t.test(
  'a segment torn in its header is told, left alone, and its number is not used again',
  async (t) => {
    const folder = makeFolder(t)
    await layDown(t, folder, 0, [[1], [2], [3]])
    const third = readFileSync(`${folder}/0-000003.tape`)
    for (const bytes of [0, 1, 20]) {
      writeFileSync(`${folder}/0-000003.tape`, third.subarray(0, bytes))
      const recovery = inspect(folder)
      t.strictSame(pendingOf(folder, recovery), [1, 2], `${bytes} bytes left`)
      t.equal(recovery.nextSegments.get(0), 4)
      const torn = /0-000003\.tape does not begin with a sound segment header/
      t.match(recovery.report.unreadable, bytes === 0 ? [] : [torn])
      t.equal(recovery.report.unreadable.length, bytes === 0 ? 0 : 1, 'a blank one is nothing')
    }
    writeFileSync(`${folder}/0-000001.tape`, 'not a tape at all, but longer than a header')
    writeFileSync(`${folder}/0-000002.tape`, '')
    t.match(inspect(folder), { isNew: true, lastSeq: 0, report: { segments: 3, walked: 0 } })
  },
)

t.test(
  'an exchange torn at any byte of its last frame is pending up to the one before',
  async (t) => {
    const { writer, folder } = makeWriter(t)
    const tail = appendExchange(writer, 1)
    await close(writer)
    const path = `${folder}/0-000001.tape`
    const bytes = readFileSync(path)
    for (let length = tail.offset; length <= bytes.length; length++) {
      writeFileSync(path, bytes.subarray(0, length))
      const recovery = inspect(folder)
      t.strictSame(pendingOf(folder, recovery), [1])
      const whole = length === bytes.length
      t.equal(recovery.unended, whole ? 0 : 1)
      t.equal(recovery.report.tornBytes, whole ? 0 : length - tail.offset)
      // The length a power cut leaves may be right and the bytes not.
      writeFileSync(path, Buffer.from(bytes).fill(0, length))
      const zeroed = inspect(folder)
      t.strictSame(pendingOf(folder, zeroed), [1], `zeroes from ${length}`)
      t.equal(zeroed.unended, whole ? 0 : 1)
    }
  },
)

t.test('damage in the middle is counted, and what follows it is found', async (t) => {
  const { writer, folder } = makeWriter(t)
  appendExchange(writer, 1)
  const second = appendExchange(writer, 2)
  appendExchange(writer, 3)
  await close(writer)
  const path = `${folder}/0-000001.tape`
  const bytes = readFileSync(path)
  bytes[second.offset + 5]! ^= 1
  writeFileSync(path, bytes)
  const recovery = inspect(folder)
  t.strictSame(pendingOf(folder, recovery), [1, 2, 3])
  t.equal(recovery.unended, 1)
  t.equal(recovery.report.skippedBytes, FRAME_OVERHEAD_BYTES + 32)
})

t.test('progress is told per segment, up to all bytes', async (t) => {
  const folder = makeFolder(t)
  await layDown(t, folder, 0, [[1], [2]])
  const told: [number, number][] = []
  inspect(folder, { onProgress: (done, total) => told.push([done, total]) })
  const sizes = ['0-000001.tape', '0-000002.tape'].map((name) => new SegmentFile(folder, name).size)
  const total = sizes[0]! + sizes[1]!
  t.strictSame(told, [
    [sizes[0], total],
    [total, total],
  ])
})

t.test('segments that a new lane writes meanwhile are not looked at', async (t) => {
  const folder = makeFolder(t)
  await layDown(t, folder, 0, [[1, 2], [3], [4]])
  await layDown(t, folder, 1, [[5]])
  const before = new Map([[0, 3]])
  const recovery = inspect(folder, { before, settledSeq: 2, hasRecord: (seq) => seq <= 2 })
  t.strictSame(pendingOf(folder, recovery), [3])
  t.strictSame([recovery.report.segments, recovery.report.walked], [2, 1])
  t.strictSame(
    [...nextSegments(folder)],
    [
      [0, 4],
      [1, 2],
    ],
  )
})
