// The one writer of a `.jsonl`: a line per exchange, once, and a file that always ends with a line.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import { realDisk } from '../../src/tape/disk.ts'
import type { Disk } from '../../src/tape/disk.ts'
import { Appender } from '../../src/trajectory/appender.ts'
import type { Checkpoint, LineBatch } from '../../src/trajectory/appender.ts'
import { makeFolder } from '../support/recorder.ts'

const NEW: Checkpoint = { jsonlBytes: 0, derived: [] }

function line(seq: number): string {
  return `{"seq":${seq},"text":"größe"}\n`
}

function batch(seqs: readonly number[], voids: readonly number[] = []): LineBatch {
  const lines = seqs.map((seq) => Buffer.from(line(seq)))
  return { seqs, bytes: Buffer.concat(lines), lengths: lines.map(({ length }) => length), voids }
}

function setUp(t: Test, change: Partial<Disk> = {}, from: Checkpoint = NEW) {
  const folder = makeFolder(t)
  const files = { jsonl: `${folder}/a.jsonl`, checkpoint: `${folder}/derived.json` }
  const appender = new Appender(files, from, { ...realDisk, ...change })
  return {
    appender,
    files,
    text: () => readFileSync(files.jsonl, 'utf8'),
    checkpoint: () => JSON.parse(readFileSync(files.checkpoint, 'utf8')) as Checkpoint,
  }
}

t.test('R17: batches are appended in order, behind what the file has', async (t) => {
  const { files } = setUp(t)
  writeFileSync(files.jsonl, line(1))
  const appender = new Appender(files, { jsonlBytes: 0, derived: [[1, 1]] })
  appender.append(batch([3, 2]))
  appender.append(batch([4]))
  appender.close()
  t.equal(readFileSync(files.jsonl, 'utf8'), line(1) + line(3) + line(2) + line(4))
  t.equal(appender.lines, 3)
})

t.test('a line whose exchange has one is dropped, within a batch and over batches', async (t) => {
  const writes: number[] = []
  const { appender, text } = setUp(t, {
    writeSync: (fd, bytes, position) => {
      writes.push(bytes.length)
      return realDisk.writeSync(fd, bytes, position)
    },
  })
  appender.append(batch([1, 2, 1, 3]))
  appender.append(batch([3, 4, 2, 5]))
  appender.append(batch([1, 5]))
  appender.append(batch([]))
  t.equal(text(), [1, 2, 3, 4, 5].map(line).join(''))
  t.strictSame([appender.lines, writes.length], [5, 2], 'each batch is one write, or none')
  t.strictSame([appender.has(5), appender.has(6)], [true, false])
})

t.test('an exchange that will never be on the tape counts as done, without a line', async (t) => {
  const { appender, checkpoint, text } = setUp(t)
  appender.append(batch([1], [2, 4]))
  appender.append(batch([2, 3]))
  appender.checkpoint()
  t.equal(text(), line(1) + line(3))
  t.strictSame(checkpoint(), {
    jsonlBytes: Buffer.byteLength(text()),
    lines: 2,
    derived: [[1, 4]],
  })
})

t.test('a batch that is a view of a larger memory is taken as it is', async (t) => {
  const { appender, text } = setUp(t)
  const { bytes, ...rest } = batch([7, 8])
  const large = Buffer.alloc(1_000, 'x')
  Buffer.from(bytes).copy(large, 100)
  appender.append({
    ...rest,
    bytes: new Uint8Array(large.buffer, large.byteOffset + 100, bytes.length),
  })
  t.equal(text(), line(7) + line(8))
})

t.test('a checkpoint is written only when something changed, and last of all', async (t) => {
  let replaced = 0
  const { appender, checkpoint, files } = setUp(t, {
    renameSync: (from, to) => {
      replaced++
      realDisk.renameSync(from, to)
    },
  })
  appender.checkpoint()
  appender.checkpoint()
  t.equal(replaced, 1)
  appender.append(batch([1, 3]))
  appender.checkpoint()
  appender.checkpoint()
  t.equal(replaced, 2)
  t.strictSame(checkpoint().derived, [
    [1, 1],
    [3, 3],
  ])
  appender.append(batch([2]))
  appender.close()
  t.strictSame(checkpoint(), {
    jsonlBytes: Buffer.byteLength(line(1)) * 3,
    lines: 3,
    derived: [[1, 3]],
  })
  t.notOk(existsSync(`${files.checkpoint}.new`))
})

/** A disk whose Nth write (from 0) takes `taken` bytes, and whose next one fails. */
function failingWrite(nth: number, taken: number, truncate?: () => void): Partial<Disk> {
  let writes = 0
  return {
    writeSync: (fd, bytes, position) => {
      const write = writes++
      if (write === nth && taken > 0) {
        return realDisk.writeSync(fd, bytes.subarray(0, taken), position)
      }
      if (write === nth + (taken > 0 ? 1 : 0)) {
        throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
      }
      return realDisk.writeSync(fd, bytes, position)
    },
    truncateSync: (fd, bytes) => {
      truncate?.()
      realDisk.truncateSync(fd, bytes)
    },
  }
}

t.test('a write cut short at any byte is cut back, told, and done again whole', async (t) => {
  const { length } = Buffer.from(line(2) + line(3))
  for (let taken = 0; taken < length; taken++) {
    const { appender, text } = setUp(t, failingWrite(1, taken))
    appender.append(batch([1]))
    t.throws(() => appender.append(batch([2, 3])), { code: 'ENOSPC' })
    t.equal(text(), line(1), `${taken} bytes taken`)
    t.strictSame([appender.has(2), appender.lines], [false, 1])
    appender.append(batch([2, 3]))
    t.equal(text(), line(1) + line(2) + line(3))
    appender.close()
  }
})

t.test('a short write that goes on is no failure', async (t) => {
  const { appender, text } = setUp(t, {
    writeSync: (fd, bytes, position) => realDisk.writeSync(fd, bytes.subarray(0, 3), position),
  })
  appender.append(batch([1, 2]))
  t.equal(text(), line(1) + line(2))
})

t.test('a disk that takes nothing is told, not waited for', async (t) => {
  const { appender, text } = setUp(t, { writeSync: () => 0 })
  t.throws(() => appender.append(batch([1])), { message: /the disk took 0 of \d+ bytes/ })
  t.equal(text(), '')
})

t.test('what could not be cut back is cut back before the next line', async (t) => {
  let truncations = 0
  const { appender, text } = setUp(
    t,
    failingWrite(1, 5, () => {
      if (truncations++ === 0) throw new Error('nor can it be cut')
    }),
  )
  appender.append(batch([1]))
  t.throws(() => appender.append(batch([2])), { message: 'nor can it be cut' })
  t.equal(text(), line(1) + line(2).slice(0, 5))
  appender.append(batch([3]))
  t.equal(text(), line(1) + line(3))
})

t.test('a last checkpoint that fails leaves the lines durable and the file closed', async (t) => {
  const did: string[] = []
  const { appender, files, text } = setUp(t, {
    renameSync: () => {
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
    },
    fdatasyncSync: () => void did.push('sync'),
    closeSync: (fd) => {
      did.push('close')
      realDisk.closeSync(fd)
    },
  })
  appender.append(batch([1]))
  t.throws(() => appender.close(), {
    message: `cannot write ${files.checkpoint}: ENOSPC: no space`,
  })
  t.strictSame(did.slice(0, 2), ['sync', 'close'], 'before the checkpoint')
  t.equal(text(), line(1))
})
