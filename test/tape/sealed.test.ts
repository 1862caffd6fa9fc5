// Sealed segments: what is packed is read as it was, at any place, whatever has happened to the file.
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { mock } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import { KEEP_LOOK_MS, SEALED_FRAMES_KEPT_MAX, SEALED_FRAME_BYTES } from '../../src/limits.ts'
import { damageOf, gatherAll, readFrames } from '../../src/tape/check.ts'
import type { TapeFrames } from '../../src/tape/check.ts'
import { realDisk } from '../../src/tape/disk.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { SegmentFile } from '../../src/tape/segment-file.ts'
import { inspectTape } from '../../src/tape/recovery.ts'
import { sealSegment } from '../../src/tape/seal.ts'
import { readSeekTable } from '../../src/tape/seek-table.ts'
import { FrameCache } from '../../src/tape/segment-bytes.ts'
import {
  appendExchange,
  close,
  commit,
  expectedSummary,
  makeWriter,
  readAll,
  summaryOf,
} from './tapes.ts'

const NAME = '0-000001.tape'

/** A folder with one finished segment of these many exchanges. */
async function recorded(t: Test, count: number, chunk = (n: number): string | Buffer => `${n}`) {
  const { writer, folder } = makeWriter(t)
  for (let seq = 1; seq <= count; seq++) {
    appendExchange(writer, seq, [chunk(seq)])
    if (writer.pendingBytes > 16 << 20) await commit(writer)
  }
  await close(writer)
  return folder
}

/** Text that packs, and is another for each number. */
const megabyte = (n: number): Buffer => Buffer.from(`${n} and again `.repeat(100_000))

/** All that a check finds. */
function check(folder: string): TapeFrames {
  const reading = readFrames(folder)
  for (;;) {
    const { done, value } = reading.next()
    if (done === true) return value
  }
}

t.test('a sealed segment reads as the plain one did', async (t) => {
  const folder = await recorded(t, 30, megabyte)
  const before = readAll(folder)
  const plain = readFileSync(`${folder}/${NAME}`)
  utimesSync(`${folder}/${NAME}`, 1_000_000, 1_000_000)
  const sealed = sealSegment(folder, NAME)
  t.strictSame(readdirSync(folder), [`${NAME}.zst`])
  t.equal(sealed.plainBytes, plain.length)
  const { size, mtimeMs } = statSync(`${folder}/${NAME}.zst`)
  t.equal(sealed.sealedBytes, size)
  t.equal(mtimeMs, 1_000_000_000, 'it is as old as what is in it')
  t.ok(size < plain.length / 50)
  t.strictSame(readAll(folder), before)
  const file = new SegmentFile(folder, NAME)
  t.equal(file.size, plain.length)
  for (const at of [0, 1, SEALED_FRAME_BYTES - 5, SEALED_FRAME_BYTES, plain.length - 3]) {
    t.ok(file.read(at, 10).equals(plain.subarray(at, at + 10)), `at ${at}`)
  }
  t.equal(file.read(plain.length, 10).length, 0)
  file.close()
})

t.test(
  'its frames are of 8 MiB, each unpacks alone, and the table tells where they are',
  async (t) => {
    const folder = await recorded(t, 20, megabyte)
    const plain = readFileSync(`${folder}/${NAME}`)
    sealSegment(folder, NAME)
    const sealed = readFileSync(`${folder}/${NAME}.zst`)
    const frames =
      readSeekTable((at, bytes) => sealed.subarray(at, at + bytes), sealed.length) ?? []
    t.equal(frames.length, Math.ceil(plain.length / SEALED_FRAME_BYTES))
    const parts = frames.map(({ at, bytes }) => zstdDecompressSync(sealed.subarray(at, at + bytes)))
    t.strictSame(
      parts.slice(0, -1).map(({ length }) => length),
      frames.slice(1).map(() => SEALED_FRAME_BYTES),
    )
    t.ok(Buffer.concat(parts).equals(plain))
  },
)

t.test('zstd itself unpacks it', { skip: !existsSync('/usr/bin/zstd') }, async (t) => {
  const folder = await recorded(t, 10, megabyte)
  const plain = readFileSync(`${folder}/${NAME}`)
  sealSegment(folder, NAME)
  const out = execFileSync('/usr/bin/zstd', ['-dcq', `${folder}/${NAME}.zst`], {
    maxBuffer: 1 << 28,
  })
  t.ok(out.equals(plain))
})

t.test('who has it open reads on, and lets the plain file go when it opens another', async (t) => {
  const { writer, folder } = makeWriter(t, { segmentBytesMax: 2_000 })
  const tails = Array.from({ length: 10 }, (_, n) => appendExchange(writer, n + 1))
  await close(writer)
  const tape = new TapeFolder(folder)
  const first = tape.segment(NAME)
  const { size } = first
  sealSegment(folder, NAME)
  t.equal(first.size, size)
  t.equal(first.isGone, true)
  const [tail] = tails
  const position = { segment: NAME, offset: tail?.offset ?? 0 }
  t.strictSame(summaryOf(tape.exchange(position)), expectedSummary(1))
  t.equal(tape.segment(NAME), first)
  tape.segment('0-000002.tape')
  t.not(tape.segment(NAME), first)
  t.strictSame(summaryOf(tape.exchange(position)), expectedSummary(1))
  tape.close()
})

t.test('an idle reader lets go of what was sealed or let go', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const folder = await recorded(t, 3)
  const closed: number[] = []
  const disk = {
    ...realDisk,
    closeSync: (fd: number) => {
      closed.push(fd)
      realDisk.closeSync(fd)
    },
  }
  const tape = new TapeFolder(folder, disk)
  const first = tape.segment(NAME)
  mock.timers.tick(KEEP_LOOK_MS)
  t.equal(tape.segment(NAME), first)
  sealSegment(folder, NAME)
  mock.timers.tick(KEEP_LOOK_MS)
  t.equal(closed.length, 1)
  tape.segment(NAME)
  rmSync(`${folder}/${NAME}.zst`)
  mock.timers.tick(KEEP_LOOK_MS)
  t.equal(closed.length, 2, 'time and again')
  tape.close()
})

t.test('an exchange is gathered over sealed and plain segments', async (t) => {
  const { writer, folder } = makeWriter(t, { segmentBytesMax: 4_000 })
  const chunks = Array.from({ length: 40 }, (_, n) => `${n}`.repeat(20))
  appendExchange(writer, 1, [Buffer.alloc(3_500, 'x')])
  const tail = appendExchange(writer, 2, chunks)
  await close(writer)
  const { name = '' } = new TapeFolder(folder).segments()[0] ?? {}
  t.ok(tail.segment > 1)
  sealSegment(folder, name)
  const { exchanges } = readAll(folder)
  t.strictSame(
    exchanges.map((one) => one.begin.seq),
    [1, 2],
  )
  t.equal(
    Buffer.concat(exchanges[1]?.chunks.map(({ bytes }) => bytes) ?? []).toString(),
    chunks.join(''),
  )
})

t.test('recovery finds on a sealed tape what it finds on a plain one', async (t) => {
  const folder = await recorded(t, 7)
  const look = () =>
    inspectTape({ folder, hasRecord: (seq) => seq < 5, settledSeq: 0, onTurn: () => undefined })
  const before = look()
  sealSegment(folder, NAME)
  const after = look()
  t.strictSame(after, before)
  t.strictSame([...after.nextSegments], [[0, 2]])
})

t.test('a frame that is damaged is told with its place; all else is read', async (t) => {
  const folder = await recorded(t, 30, megabyte)
  sealSegment(folder, NAME)
  const path = `${folder}/${NAME}.zst`
  const bytes = readFileSync(path)
  const frames = readSeekTable((at, count) => bytes.subarray(at, at + count), bytes.length) ?? []
  t.equal(frames.length, 5)
  const { at = 0, bytes: length = 0 } = frames[2] ?? {}
  bytes[at + (length >> 1)] = (bytes[at + (length >> 1)] ?? 0) ^ 1
  writeFileSync(path, bytes)
  const found = check(folder)
  const told = damageOf(found)
  t.equal(told.length, 1)
  const [{ segment = '', offset = 0, bytes: lost = 0 } = {}] = found.damaged
  t.equal(segment, NAME)
  t.ok(offset <= 2 * SEALED_FRAME_BYTES && offset > SEALED_FRAME_BYTES)
  t.ok(offset + lost >= 3 * SEALED_FRAME_BYTES && offset + lost < 4 * SEALED_FRAME_BYTES)
  t.equal(found.torn.length, 0)
  const gathered = [...gatherAll(folder, found.last)]
  const whole = gathered.filter((one) => 'exchange' in one && one.exchange.gaps.length === 0)
  t.ok(whole.length >= 21 && whole.length < 30, `${whole.length} of 30 are whole`)
})

t.test(
  'a byte that is another anywhere in the file is told, unless nothing of it is read',
  async (t) => {
    const folder = await recorded(t, 4)
    const plain = readFileSync(`${folder}/${NAME}`)
    sealSegment(folder, NAME)
    const path = `${folder}/${NAME}.zst`
    const sound = readFileSync(path)
    const unseen: number[] = []
    for (let at = 0; at < sound.length; at++) {
      const bytes = Buffer.from(sound)
      bytes[at] = (bytes[at] ?? 0) ^ 0x10
      writeFileSync(path, bytes)
      if (damageOf(check(folder)).length > 0) continue
      unseen.push(at)
      const file = new SegmentFile(folder, NAME)
      t.ok(file.read(0, plain.length).equals(plain), `byte ${at} is of no consequence`)
      file.close()
    }
    t.ok(unseen.length < 5, 'unused bits of a zstd frame')
  },
)

t.test('a table that is lost or damaged costs nothing, a cut tail what stood there', async (t) => {
  const folder = await recorded(t, 30, megabyte)
  const plain = readFileSync(`${folder}/${NAME}`)
  sealSegment(folder, NAME)
  const path = `${folder}/${NAME}.zst`
  const sound = readFileSync(path)
  const frames = readSeekTable((at, count) => sound.subarray(at, at + count), sound.length) ?? []
  const tableAt = (frames.at(-1)?.at ?? 0) + (frames.at(-1)?.bytes ?? 0)
  for (const [cut, all] of [
    [sound.length - 1, 5],
    [tableAt, 5],
    [tableAt - 1, 4],
    [(frames[1]?.at ?? 0) + 1, 1],
  ] as const) {
    writeFileSync(path, sound.subarray(0, cut))
    const file = new SegmentFile(folder, NAME)
    t.equal(file.size, Math.min(plain.length, all * SEALED_FRAME_BYTES), `cut at ${cut}`)
    t.ok(file.read(file.size - 50, 50).equals(plain.subarray(file.size - 50, file.size)))
    t.match(file.trouble, /seek table is damaged; \d frames were found without it/)
    file.close()
  }
})

t.test('of unpacked frames just a few are kept', async (t) => {
  const cache = new FrameCache()
  const made: number[] = []
  const take = (n: number) => cache.take(`${n}`, () => (made.push(n), Buffer.alloc(1)))
  for (let n = 0; n < SEALED_FRAMES_KEPT_MAX * 3; n++) take(n)
  t.equal(cache.size, SEALED_FRAMES_KEPT_MAX)
  take(SEALED_FRAMES_KEPT_MAX * 3 - 1)
  t.equal(made.length, SEALED_FRAMES_KEPT_MAX * 3)
  take(0)
  t.equal(made.at(-1), 0)
})

t.test(
  'sealing that fails or is cut at any step loses nothing and leaves nothing undecided',
  async (t) => {
    const steps = [
      'openSync',
      'writeSync',
      'setWrittenSync',
      'fdatasyncSync',
      'readSync',
      'renameSync',
      'syncFolderSync',
      'removeSync',
    ] as const
    const source = await recorded(t, 5)
    const before = readAll(source)
    const bytes = readFileSync(`${source}/${NAME}`)
    for (const isCut of [false, true]) {
      for (let failing = 0; ; failing++) {
        const { folder } = makeWriter(t)
        writeFileSync(`${folder}/${NAME}`, bytes)
        let count = 0
        let isDead = false
        const disk = { ...realDisk }
        for (const step of steps) {
          const real = realDisk[step] as (...args: unknown[]) => unknown
          Object.assign(disk, {
            [step]: (...args: unknown[]) => {
              if (isDead || count++ === failing) {
                // A process that is killed does nothing more, not even tidy up.
                isDead = isCut
                throw Object.assign(new Error(`EIO: ${step}`), { code: 'EIO', syscall: step })
              }
              return real(...args)
            },
          })
        }
        let failed = false
        try {
          sealSegment(folder, NAME, disk)
        } catch (error) {
          failed = true
          t.match(error, { code: 'EIO' })
        }
        t.strictSame(readAll(folder), before, `step ${failing}, ${isCut ? 'cut' : 'failed'}`)
        if (existsSync(`${folder}/${NAME}`)) sealSegment(folder, NAME)
        t.strictSame(readAll(folder), before)
        t.strictSame(
          readdirSync(folder),
          [`${NAME}.zst`],
          `nothing is left behind after ${failing}`,
        )
        if (!failed) break
      }
    }
  },
)

t.test('what is packed wrongly is never taken for the segment', async (t) => {
  const folder = await recorded(t, 3)
  const before = readAll(folder)
  const disk = {
    ...realDisk,
    writeSync: (fd: number, bytes: Buffer, position: number | null) => {
      const wrong = Buffer.from(bytes)
      wrong[wrong.length >> 1] = (wrong[wrong.length >> 1] ?? 0) ^ 1
      return realDisk.writeSync(fd, wrong, position)
    },
  }
  t.throws(() => sealSegment(folder, NAME, disk), /is not what .* is/)
  t.strictSame(readdirSync(folder), [NAME])
  t.strictSame(readAll(folder), before)
})

t.test('a segment that is in neither form is told as not there', async (t) => {
  const folder = await recorded(t, 3)
  renameSync(`${folder}/${NAME}`, `${folder}/other`)
  t.throws(() => new SegmentFile(folder, NAME), { code: 'not_found' })
  t.equal(new TapeFolder(folder).sizeOf(NAME), 0)
})
