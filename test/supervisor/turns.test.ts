// The turns of all sessions are written down once a minute, on the thread of whoever embeds
// rolltape. A full disk that this met ended the whole process.
import fs from 'node:fs'
import { mock } from 'node:test'
import t from 'tap'
import { SharedTables, makeSharedMemory } from '../../src/supervisor/shared.ts'
import { TurnsFile } from '../../src/supervisor/turns.ts'
import { realDisk, replaceFile } from '../../src/tape/disk.ts'
import { makeFolder } from '../support/recorder.ts'

t.test('what has its number and is counted later is not told as written down', async (t) => {
  const path = `${makeFolder(t)}/turns`
  const tables = new SharedTables(makeSharedMemory())
  const file = new TurnsFile(path, tables, realDisk, t.fail)
  const restarted = (): [number, number] => {
    const other = new SharedTables(makeSharedMemory())
    const good = new TurnsFile(path, other, realDisk, t.fail).load()
    return [good, other.turnsOf('late')]
  }
  tables.nextSeq()
  file.save(0)
  t.strictSame(restarted(), [0, 0], 'a restart looks for it on the tape')
  tables.nextTurn('late')
  t.equal(file.goodUpTo(0), 0)
  t.equal(file.goodUpTo(1), 1)
  t.strictSame(restarted(), [1, 1])
  tables.nextTurn('late')
  file.save(1)
  t.strictSame(restarted(), [1, 1], 'nothing is new')
  tables.nextSeq()
  file.save(1)
  t.strictSame(restarted(), [1, 2])
})

t.test('a file that is replaced is on the disk itself, and so is its name', async (t) => {
  const synced: string[] = []
  for (const name of ['fdatasyncSync', 'fsyncSync', 'renameSync'] as const) {
    const real = fs[name] as (...args: unknown[]) => void
    const mocked = mock.method(fs, name, (...args: unknown[]) => {
      synced.push(name)
      return real(...args)
    })
    t.teardown(() => mocked.mock.restore())
  }
  replaceFile(realDisk, `${makeFolder(t)}/a`, 'text')
  t.strictSame(synced, ['fdatasyncSync', 'renameSync', 'fsyncSync'])
})

t.test('turns that cannot be written are told once per outage, and written after it', async (t) => {
  const path = `${makeFolder(t)}/turns`
  let full = false
  const disk = {
    ...realDisk,
    writeSync: (fd: number, bytes: Buffer, position: number | null) => {
      if (full) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
      return realDisk.writeSync(fd, bytes, position)
    },
  }
  const told: string[] = []
  const tables = new SharedTables(makeSharedMemory())
  const file = new TurnsFile(path, tables, disk, (message) => told.push(message))
  const begin = (): void => {
    tables.nextSeq()
    tables.nextTurn('a')
  }
  const loaded = (): [number, number] => {
    const other = new SharedTables(makeSharedMemory())
    const seq = new TurnsFile(path, other, realDisk, t.fail).load()
    return [seq, other.nextTurn('a') - 1]
  }
  const trouble = `cannot write ${path}: ENOSPC: no space left`

  begin()
  t.equal(file.save(tables.seq), null)
  full = true
  t.equal(file.save(tables.seq), null, 'nothing is new')
  for (let i = 0; i < 3; i++) {
    begin()
    t.equal(file.save(tables.seq), trouble)
  }
  t.strictSame(told, [trouble])
  t.strictSame(loaded(), [1, 1], 'what was there is whole')
  full = false
  t.equal(file.save(tables.seq), null, 'what failed is tried again, though nothing is new')
  t.strictSame(loaded(), [4, 4])
  full = true
  begin()
  file.save(tables.seq)
  t.strictSame(told, [trouble, trouble], 'another outage is told again')
})
