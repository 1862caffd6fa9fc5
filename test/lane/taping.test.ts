// One exchange's frames: answer bytes gather in a block, large ones do not, and what the tape
// refuses is told in a GAP.
import t from 'tap'
import type { Test } from 'tap'
import { Redaction } from '../../src/lane/redaction.ts'
import { BlockPool, Taping } from '../../src/lane/taping.ts'
import { BLOCKS_FREE_MAX, BLOCK_BYTES } from '../../src/limits.ts'
import { KIND, parseChunks } from '../../src/tape/format.ts'
import { readExchange } from '../../src/tape/reader.ts'
import { SegmentFile } from '../../src/tape/segment-file.ts'
import type { TapeWriter } from '../../src/tape/writer.ts'
import { FaultyDisk } from '../tape/faulty-disk.ts'
import { BEGIN, END, close, commit, makeWriter, newTail } from '../tape/tapes.ts'

const NOTHING_MORE = new Redaction({ redactHeaders: [], redactQuery: [] })

/** A taping that has begun, and what it left on the tape once it is over. */
function begin(t: Test, disk = new FaultyDisk()) {
  const { writer, folder } = makeWriter(t, { disk: disk.disk })
  const taping = new Taping(writer, new BlockPool(), 1, NOTHING_MORE)
  taping.begin(BEGIN)
  return {
    writer,
    taping,
    finish: async () => {
      taping.end(END)
      await close(writer)
      const { offset } = taping.tail
      const exchange = readExchange(folder, { segment: '0-000001.tape', offset })
      const blocks: number[][] = []
      const file = new SegmentFile(folder, '0-000001.tape')
      file.walk(({ kind, payload }) => {
        if (kind === KIND.chunks)
          blocks.push(parseChunks(payload!).map(({ bytes }) => bytes.length))
      })
      file.close()
      return { exchange, blocks }
    },
  }
}

/** Appends another exchange's frames until not even the smallest is taken. */
function fill(writer: TapeWriter): void {
  const tail = newTail(2)
  for (const bytes of [1 << 20, 1 << 10, 0]) {
    while (writer.append(tail, KIND.request, 0, Buffer.alloc(bytes))) continue
  }
}

t.test('chunks gather in one block until it is full, each with its time', async (t) => {
  const { taping, finish } = begin(t)
  // 8 bytes before the chunks, 8 before each: three of these fill a block to its last byte.
  const size = (BLOCK_BYTES - 8) / 3 - 8
  const sizes = [Math.floor(size), Math.floor(size), BLOCK_BYTES - 32 - 2 * Math.floor(size)]
  for (const [i, length] of [...sizes, 0, 1].entries())
    taping.chunk(Buffer.alloc(length, 'x'), i * 10)
  t.ok(taping.gathering)
  const { exchange, blocks } = await finish()
  t.strictSame(blocks, [sizes, [0, 1]])
  t.strictSame(
    exchange.chunks.map(({ atUs }) => atUs),
    [0, 10, 20, 30, 40],
  )
})

t.test('a chunk longer than half a block goes by itself, after what was before it', async (t) => {
  const { taping, finish } = begin(t)
  const longest = BLOCK_BYTES / 2 - 8
  for (const [i, length] of [5, longest + 1, 6, longest].entries()) {
    taping.chunk(Buffer.alloc(length, `${i}`), 100 + i)
  }
  const { exchange, blocks } = await finish()
  t.strictSame(blocks, [[5], [longest + 1], [6, longest]])
  t.strictSame(
    exchange.chunks.map(({ atUs, bytes }) => [atUs, String.fromCharCode(bytes[0]!)]),
    [
      [100, '0'],
      [101, '1'],
      [102, '2'],
      [103, '3'],
    ],
  )
})

t.test('a commit takes along what has gathered', async (t) => {
  const { writer, taping, finish } = begin(t)
  taping.chunk(Buffer.from('abc'), 5)
  await new Promise((resolve) => taping.commit({ onCommitted: resolve }))
  t.strictSame([taping.gathering, writer.pendingBytes], [false, 0])
  t.strictSame((await finish()).blocks, [[3]])
})

t.test('a time that goes back, or on for hours, is kept as well as it can be', async (t) => {
  const { taping, finish } = begin(t)
  for (const atUs of [1_000, 900, 2_000, 2_000 + 2 ** 32]) taping.chunk(Buffer.from('x'), atUs)
  const { exchange } = await finish()
  t.strictSame(
    exchange.chunks.map(({ atUs }) => atUs),
    [1_000, 1_000, 2_100, 2_100 + 2 ** 32 - 1],
  )
})

t.test('blocks are used again, a thousand and twenty-four of them at most', async (t) => {
  const pool = new BlockPool()
  const blocks = Array.from({ length: BLOCKS_FREE_MAX + 1 }, () => pool.take())
  t.ok(blocks.every((block) => block.length === BLOCK_BYTES))
  for (const block of blocks) pool.give(block)
  const again = new Set(Array.from({ length: BLOCKS_FREE_MAX + 1 }, () => pool.take()))
  t.equal(blocks.filter((block) => again.has(block)).length, BLOCKS_FREE_MAX)
})

t.test('what is refused is told in one GAP, as soon as a frame is taken again', async (t) => {
  const disk = new FaultyDisk()
  const { writer, taping, finish } = begin(t, disk)
  await commit(writer)
  disk.hold()
  taping.chunk(Buffer.alloc(50_000, 'a'), 1)
  fill(writer)
  taping.chunk(Buffer.alloc(1_000_000, 'b'), 2)
  taping.chunk(Buffer.alloc(900_000, 'c'), 3)
  t.ok(taping.congested)
  disk.release()
  await commit(writer)
  taping.chunk(Buffer.alloc(50_000, 'd'), 4)
  const { exchange } = await finish()
  t.strictSame(
    exchange.chunks.map(({ bytes }) => [bytes[0], bytes.length]),
    [
      [97, 50_000],
      [100, 50_000],
    ],
  )
  t.strictSame(exchange.gaps, [{ bytes: 1_900_000, reason: 'the disk did not keep up' }])
})

t.test('an exchange whose BEGIN is refused is lost as a whole', async (t) => {
  const disk = new FaultyDisk()
  const { writer, folder } = makeWriter(t, { disk: disk.disk })
  await commit(writer)
  disk.hold()
  fill(writer)
  const taping = new Taping(writer, new BlockPool(), 1, NOTHING_MORE)
  taping.begin(BEGIN)
  t.ok(taping.lost)
  disk.release()
  await commit(writer)
  taping.request(Buffer.from('{}'))
  taping.end(END)
  await close(writer)
  const seqs = new Set<number>()
  const file = new SegmentFile(folder, '0-000001.tape')
  file.walk(({ seq }) => void seqs.add(seq))
  file.close()
  t.strictSame([...seqs], [2])
})
