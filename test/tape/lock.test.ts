// One process at a time may write to a recording. A lock that a crash left behind is taken over
// only where its owner is proven gone.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { createInterface } from 'node:readline'
import t from 'tap'
import { realDisk } from '../../src/tape/disk.ts'
import { takeLock } from '../../src/tape/lock.ts'
import { makeFolder } from '../support/recorder.ts'

const LOCK = new URL('../../src/tape/lock.ts', import.meta.url).href
const DISK = new URL('../../src/tape/disk.ts', import.meta.url).href
const HOLD = `
  const { takeLock } = await import(${JSON.stringify(LOCK)})
  const { realDisk } = await import(${JSON.stringify(DISK)})
  takeLock(process.argv[1], realDisk)
  console.log('held')
  process.stdin.resume()
`

/** Takes the lock of each folder it is told at the moment it is told, and keeps it. */
const RACE = `
  const { takeLock } = await import(${JSON.stringify(LOCK)})
  const { realDisk } = await import(${JSON.stringify(DISK)})
  const { createInterface } = await import('node:readline')
  for await (const line of createInterface({ input: process.stdin })) {
    const { folder, atMs } = JSON.parse(line)
    if (folder === undefined) { console.log('ready'); continue }
    while (Date.now() < atMs);
    try {
      takeLock(folder, realDisk)
      console.log('held')
    } catch (error) {
      console.log(error.code)
    }
  }
`

interface Holder {
  host: string
  boot: string
  pid: number
  startTicks: string
  since: string
}

function holderOf(folder: string): Holder {
  return JSON.parse(readFileSync(`${folder}/lock`, 'utf8')) as Holder
}

/** Leaves a lock behind as some other process would have. */
function leave(folder: string, change: Partial<Holder>): void {
  const unlock = takeLock(folder, realDisk)
  const holder = holderOf(folder)
  unlock()
  writeFileSync(`${folder}/lock`, JSON.stringify({ ...holder, ...change }))
}

t.test('a lock names its holder, and giving it back removes it', async (t) => {
  const folder = makeFolder(t)
  const unlock = takeLock(folder, realDisk)
  const holder = holderOf(folder)
  t.match(holder, { host: hostname(), pid: process.pid, boot: String, startTicks: /^\d+$/ })
  t.ok(Date.parse(holder.since) <= Date.now())
  unlock()
  t.notOk(existsSync(`${folder}/lock`))
  takeLock(folder, realDisk)()
})

t.test(
  'a second process is refused while the first runs, and not once it was killed',
  async (t) => {
    const folder = makeFolder(t)
    const child = spawn(process.execPath, ['--input-type=module', '-e', HOLD, folder], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    t.equal(holderOf(folder).pid, child.pid)
    t.throws(() => takeLock(folder, realDisk), {
      code: 'recording_locked',
      message: `another rolltape records here: ${folder}/lock is held (process ${child.pid} runs, since ${holderOf(folder).since})`,
      hint: /stop the other one/,
    })
    t.equal(holderOf(folder).pid, child.pid, 'and it still holds it')
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    t.ok(existsSync(`${folder}/lock`), 'a killed process leaves its lock')
    const unlock = takeLock(folder, realDisk)
    t.equal(holderOf(folder).pid, process.pid)
    unlock()
  },
)

t.test('the same process is refused too', async (t) => {
  const folder = makeFolder(t)
  const unlock = takeLock(folder, realDisk)
  t.throws(() => takeLock(folder, realDisk), { code: 'recording_locked' })
  unlock()
})

for (const [name, change] of [
  ['a process that is gone', { pid: 2 ** 22 + 1 }],
  ['a process id that another process has now', { startTicks: '1' }],
  ['a boot before this one', { boot: '00000000-0000-0000-0000-000000000000' }],
] as const) {
  t.test(`a lock of ${name} is taken over`, async (t) => {
    const folder = makeFolder(t)
    leave(folder, change)
    const unlock = takeLock(folder, realDisk)
    t.equal(holderOf(folder).pid, process.pid)
    unlock()
    t.notOk(existsSync(`${folder}/lock`))
  })
}

t.test('a lock of another host is never taken over', async (t) => {
  const folder = makeFolder(t)
  leave(folder, { host: 'elsewhere', pid: 2 ** 22 + 1, boot: 'x' })
  t.throws(() => takeLock(folder, realDisk), {
    code: 'recording_locked',
    message: /its owner runs on host elsewhere/,
  })
  t.equal(holderOf(folder).host, 'elsewhere')
})

t.test('a lock that cannot be read is never taken over', async (t) => {
  const folder = makeFolder(t)
  writeFileSync(`${folder}/lock`, '{"host":')
  t.throws(() => takeLock(folder, realDisk), {
    code: 'recording_locked',
    message: /it cannot be read/,
  })
})

t.test('a lock that comes back while it is taken over is left alone', async (t) => {
  const folder = makeFolder(t)
  leave(folder, { pid: 2 ** 22 + 1 })
  const text = readFileSync(`${folder}/lock`)
  const removeSync = (path: string): void => {
    realDisk.removeSync(path)
    if (path.endsWith('/lock')) writeFileSync(path, text)
  }
  const disk = { ...realDisk, removeSync }
  t.throws(() => takeLock(folder, disk), { code: 'recording_locked', message: /it came back/ })
  t.strictSame(readdirSync(folder), ['lock'])
})

// Several who found a lock left behind each removed what stood in its place, the new lock of the
// first among them included: two or three of four then recorded into one tape.
t.test('of many processes that find a lock left behind, exactly one takes it over', async (t) => {
  const racers = Array.from({ length: 4 }, () => {
    const argv = ['--input-type=module', '-e', RACE]
    const child = spawn(process.execPath, argv, { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => child.kill())
    return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() }
  })
  /** Tells all the same, and gives what each answers. */
  const askAll = async (text: string): Promise<unknown[]> => {
    for (const { child } of racers) child.stdin.write(`${text}\n`)
    return Promise.all(racers.map(async ({ lines }) => (await lines.next()).value))
  }
  await askAll('{}')
  for (let round = 0; round < 100; round++) {
    const folder = makeFolder(t)
    leave(folder, { pid: 2 ** 22 + 1 })
    const answers = await askAll(JSON.stringify({ folder, atMs: Date.now() + 8 }))
    const held = answers.filter((answer) => answer === 'held').length
    t.equal(held, 1, `round ${round}: ${answers.join(', ')}`)
    t.strictSame(readdirSync(folder), ['lock'])
  }
})

t.test('a process that dies while it takes over keeps nobody out', async (t) => {
  const folder = makeFolder(t)
  leave(folder, { pid: 2 ** 22 + 1 })
  const removeSync = (): void => {
    throw new Error('dead')
  }
  t.throws(() => takeLock(folder, { ...realDisk, removeSync }), { message: 'dead' })
  const claim = readdirSync(folder).find((name) => name !== 'lock') as string
  const holder = JSON.parse(readFileSync(`${folder}/${claim}`, 'utf8')) as Holder
  writeFileSync(`${folder}/${claim}`, JSON.stringify({ ...holder, pid: 2 ** 22 + 2 }))
  takeLock(folder, realDisk)()
  t.strictSame(readdirSync(folder), [])
})

t.test('a full disk leaves no lock behind that would keep everybody out', async (t) => {
  const folder = makeFolder(t)
  const full = Object.assign(new Error('no space'), { code: 'ENOSPC' })
  const room = [5, 0]
  for (const writeSync of [
    () => {
      throw full
    },
    () => room.shift() ?? 0,
  ]) {
    t.throws(() => takeLock(folder, { ...realDisk, writeSync }))
    t.notOk(existsSync(`${folder}/lock`))
  }
  takeLock(folder, realDisk)()
})

t.test('--take-over takes what cannot be proven to be left behind, and is said', async (t) => {
  for (const change of [{ host: 'elsewhere' }, { host: 'elsewhere', boot: '' }]) {
    const folder = makeFolder(t)
    leave(folder, change)
    t.throws(() => takeLock(folder, realDisk), {
      code: 'recording_locked',
      hint: /--take-over if it is gone for certain/,
    })
    const told: string[] = []
    const unlock = takeLock(folder, realDisk, true, (why) => told.push(why))
    t.match(told, [/is held \(its owner runs on host elsewhere/])
    t.equal(holderOf(folder).pid, process.pid)
    unlock()
    t.strictSame(readdirSync(folder), [])
  }
  const folder = makeFolder(t)
  writeFileSync(`${folder}/lock`, 'no holder')
  takeLock(folder, realDisk, true)()
  t.strictSame(readdirSync(folder), [])
})

t.test('--take-over takes no lock of a process that is proven to run', async (t) => {
  const folder = makeFolder(t)
  const unlock = takeLock(folder, realDisk)
  t.throws(() => takeLock(folder, realDisk, true), {
    code: 'recording_locked',
    hint: 'record into another file, or stop the other one',
  })
  t.equal(holderOf(folder).pid, process.pid)
  unlock()
})
