// A segment that is there in both its forms, as a crash or a power cut leaves it: what counts is the
// one that holds all of it.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { realDisk } from '../../src/tape/disk.ts'
import { TapeFolder } from '../../src/tape/reader.ts'
import { sealSegment } from '../../src/tape/seal.ts'
import { appendExchange, close, makeWriter, readAll } from './tapes.ts'

const NAME = '0-000001.tape'

/** A folder with one finished segment of these many exchanges. */
async function recorded(t: Test, count: number): Promise<string> {
  const { writer, folder } = makeWriter(t)
  for (let seq = 1; seq <= count; seq++) appendExchange(writer, seq)
  await close(writer)
  return folder
}

t.test('a piece of the plain file that comes back never takes the place of all', async (t) => {
  const source = await recorded(t, 5)
  const before = readAll(source)
  const plain = readFileSync(`${source}/${NAME}`)
  sealSegment(source, NAME)
  const packed = readFileSync(`${source}/${NAME}.zst`)
  for (const piece of [
    Buffer.alloc(0),
    Buffer.alloc(1_000),
    Buffer.alloc(plain.length),
    plain.subarray(0, plain.length - 1),
    plain,
  ]) {
    const { folder } = makeWriter(t)
    writeFileSync(`${folder}/${NAME}.zst`, packed)
    writeFileSync(`${folder}/${NAME}`, piece)
    t.strictSame(readAll(folder), before, `${piece.length} bytes came back`)
    t.equal(new TapeFolder(folder).written().length, 1)
    t.match(sealSegment(folder, NAME), { lackedBytes: plain.length - piece.length })
    t.strictSame(readdirSync(folder), [`${NAME}.zst`])
    t.ok(readFileSync(`${folder}/${NAME}.zst`).equals(packed))
  }
})

t.test('two damaged forms stay as they are', async (t) => {
  const folder = await recorded(t, 5)
  const plain = readFileSync(`${folder}/${NAME}`)
  sealSegment(folder, NAME)
  const packed = readFileSync(`${folder}/${NAME}.zst`)
  packed[packed.length >> 1] = (packed[packed.length >> 1] ?? 0) ^ 1
  writeFileSync(`${folder}/${NAME}.zst`, packed)
  writeFileSync(`${folder}/${NAME}`, plain.subarray(0, 500))
  t.throws(() => sealSegment(folder, NAME), /holds less than .*, which is damaged/)
  t.strictSame(readdirSync(folder), [NAME, `${NAME}.zst`])
})

t.test('the plain file is on the disk itself before the sealed one has its name', async (t) => {
  const folder = await recorded(t, 5)
  const did: string[] = []
  const paths = new Map<number, string>()
  const disk = {
    ...realDisk,
    openSync: (path: string, flags: string) => {
      const fd = realDisk.openSync(path, flags)
      paths.set(fd, path)
      return fd
    },
    fdatasyncSync: (fd: number) => void did.push(`sync ${basename(paths.get(fd) ?? '')}`),
    renameSync: (from: string, to: string) => {
      did.push(`rename ${basename(from)}`)
      realDisk.renameSync(from, to)
    },
  }
  sealSegment(folder, NAME, disk)
  t.strictSame(did, [`sync ${NAME}.zst.new`, `sync ${NAME}`, `rename ${NAME}.zst.new`])
})

t.test('where the sealed form is a piece the plain one counts', async (t) => {
  const folder = await recorded(t, 3)
  const plain = readFileSync(`${folder}/${NAME}`)
  sealSegment(folder, NAME)
  writeFileSync(`${folder}/${NAME}.zst`, 'half')
  writeFileSync(`${folder}/${NAME}`, plain)
  const tape = new TapeFolder(folder)
  t.strictSame(tape.segments(), [{ name: NAME, lane: 0, number: 1, isSealed: false }])
  t.equal(readAll(folder).exchanges.length, 3)
  sealSegment(folder, NAME)
  t.strictSame(readdirSync(folder), [`${NAME}.zst`])
  t.equal(readAll(folder).exchanges.length, 3)
})
