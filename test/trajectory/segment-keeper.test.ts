// What becomes of finished segments: when they may be sealed and let go, in which order, and what
// stays whatever the rule says.
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import { KIND, formatBegin } from '../../src/tape/format.ts'
import { LetGo } from '../../src/tape/let-go.ts'
import { inspectTape, nextSegments } from '../../src/tape/recovery.ts'
import { KEEP_RETRY_MS } from '../../src/limits.ts'
import type { Disk } from '../../src/tape/disk.ts'
import { realDisk } from '../../src/tape/disk.ts'
import { SegmentKeeper } from '../../src/trajectory/segment-keeper.ts'
import type { KeepRules, KeepState, KeepStep } from '../../src/trajectory/segment-keeper.ts'
import { makeFolder } from '../support/recorder.ts'
import { BEGIN, appendExchange, close, makeWriter, newTail, readAll } from '../tape/tapes.ts'

const NAMES = [1, 2, 3].map((n) => `0-00000${n}.tape`)

/** Segments of a lane with one exchange each, numbered on from `first`; an old one among them. */
async function recorded(t: Test, { folder = makeFolder(t), lane = 0, first = 1, count = 3 } = {}) {
  for (let n = 0; n < count; n++) {
    const { writer } = makeWriter(t, { folder, lane, firstSegment: n + 1 })
    appendExchange(writer, first + n, [Buffer.alloc(50_000, 'text ')])
    await close(writer)
    const name = `${folder}/${lane}-00000${n + 1}.tape`
    utimesSync(name, first + n, first + n)
  }
  return folder
}

const ALL: KeepState = {
  derived: [[1, 100]],
  durable: true,
  turnsSeq: 100,
  finishedBefore: new Map(),
  nowMs: 1_000_000,
}

/** All that a keeper does until there is nothing more. */
function keep(
  folder: string,
  rules: Partial<KeepRules>,
  state: Partial<KeepState> = {},
): KeepStep[] {
  const keeper = new SegmentKeeper({ folder, seals: true, retain: { kind: 'keep' }, ...rules })
  const steps: KeepStep[] = []
  for (;;) {
    const step = keeper.step({ ...ALL, ...state })
    if (step !== undefined) steps.push(step)
    if (step === undefined || step.did === 'waits') return steps
  }
}

const sealed = (name: string) => `${name}.zst`
const namesOf = (steps: readonly KeepStep[]) => steps.map(({ did, name }) => `${did} ${name}`)

t.test('all but the one that is being written are sealed, one at a time', async (t) => {
  const folder = await recorded(t)
  const before = readAll(folder)
  const steps = keep(folder, {})
  t.strictSame(namesOf(steps), [`sealed ${NAMES[0]}`, `sealed ${NAMES[1]}`])
  t.match(steps[0], { from: statSync(`${folder}/${NAMES[2]}`).size, to: Number })
  t.strictSame(readdirSync(folder).sort(), [
    sealed(NAMES[0] ?? ''),
    sealed(NAMES[1] ?? ''),
    NAMES[2],
  ])
  t.strictSame(readAll(folder), before)
  t.strictSame(keep(folder, {}), [])
})

t.test('what an ended process or lane has written last is sealed too', async (t) => {
  const folder = await recorded(t)
  keep(folder, {}, { finishedBefore: new Map([[0, 4]]) })
  t.strictSame(readdirSync(folder), NAMES.map(sealed))
  t.strictSame([...nextSegments(folder)], [[0, 4]])
})

t.test('a segment waits for the record of every exchange with a frame in it', async (t) => {
  const folder = makeFolder(t)
  const { writer } = makeWriter(t, { folder, segmentBytesMax: 3_000 })
  const tail = newTail(7)
  writer.append(tail, KIND.begin, 0, formatBegin(BEGIN))
  for (let seq = 1; seq <= 6; seq++) appendExchange(writer, seq, [Buffer.alloc(1_500)])
  writer.append(tail, KIND.request, 0, Buffer.from('{}'))
  await close(writer)
  const count = readdirSync(folder).length
  t.ok(count > 3)
  const rest = { derived: [[1, 6]] as const }
  const steps = keep(folder, {}, rest)
  t.equal(steps.length, count - 2, 'neither the first, where 7 began, nor the last')
  t.notOk(namesOf(steps).includes(`sealed ${NAMES[0]}`))
  t.strictSame(namesOf(keep(folder, {}, { derived: [[1, 7]] })), [`sealed ${NAMES[0]}`])
  t.strictSame(keep(folder, { retain: { kind: 'until_derived' } }, rest), [], 'nor does it go')
})

t.test('a record that comes while it is looked at counts at the next step', async (t) => {
  const folder = await recorded(t)
  const keeper = new SegmentKeeper({ folder, seals: true, retain: { kind: 'keep' } })
  t.equal(keeper.step({ ...ALL, derived: [] }), undefined)
  t.match(keeper.step({ ...ALL, derived: [[1, 1]] }), { did: 'sealed', name: NAMES[0] })
  t.equal(keeper.step({ ...ALL, derived: [[1, 1]] }), undefined)
})

t.test('until-derived: all but the latest go, unpacked, and that is written down', async (t) => {
  const folder = await recorded(t)
  const steps = keep(folder, { retain: { kind: 'until_derived' } })
  t.strictSame(namesOf(steps), [`let_go ${NAMES[0]}`, `let_go ${NAMES[1]}`])
  t.strictSame(readdirSync(folder), [NAMES[2], 'let-go.json'])
  const letGo = new LetGo(folder)
  t.strictSame(
    NAMES.map((name) => letGo.has(name)),
    [true, true, false],
  )
  t.equal(letGo.has('1-000001.tape'), false)
  t.equal(letGo.count, 2)
  t.equal(readFileSync(`${folder}/let-go.json`, 'utf8').trimEnd(), '{"0":2}')
})

t.test('the latest of a lane stays for its number, though nobody writes it', async (t) => {
  const folder = await recorded(t)
  const state = { finishedBefore: new Map([[0, 4]]) }
  keep(folder, { retain: { kind: 'until_derived' }, seals: false }, state)
  t.strictSame(readdirSync(folder), [NAMES[2], 'let-go.json'])
  t.strictSame([...nextSegments(folder)], [[0, 4]])
})

t.test('nothing goes before its records are on the disk itself', async (t) => {
  const folder = await recorded(t)
  const rules = { retain: { kind: 'until_derived' } } as const
  t.strictSame(namesOf(keep(folder, rules, { durable: false })), [`waits ${NAMES[0]}`])
  t.equal(readdirSync(folder).length, 3)
})

t.test('nothing goes before its turns are written down', async (t) => {
  const folder = await recorded(t)
  const rules = { seals: false, retain: { kind: 'until_derived' } } as const
  const keeper = new SegmentKeeper({ folder, ...rules })
  t.match(keeper.step({ ...ALL, durable: false }), { did: 'waits', lastSeq: 1 })
  t.strictSame(namesOf(keep(folder, rules, { turnsSeq: 0 })), [])
  t.strictSame(namesOf(keep(folder, rules, { turnsSeq: 1 })), [`let_go ${NAMES[0]}`])
})

t.test('an age lets go what was last written before it, packed or not', async (t) => {
  const folder = await recorded(t)
  keep(folder, {})
  const retain = { kind: 'age', ageMs: 500 } as const
  t.strictSame(keep(folder, { retain }, { nowMs: 1_500 }), [])
  t.strictSame(namesOf(keep(folder, { retain }, { nowMs: 1_501 })), [`let_go ${NAMES[0]}`])
  t.strictSame(namesOf(keep(folder, { retain }, { nowMs: 9_000 })), [`let_go ${NAMES[1]}`])
})

t.test('a size lets the oldest go of all lanes, once all are packed that can be', async (t) => {
  const folder = await recorded(t)
  await recorded(t, { folder, lane: 1, first: 51 })
  const latest = 2 * statSync(`${folder}/${NAMES[2]}`).size
  const none = namesOf(keep(folder, { retain: { kind: 'bytes', bytesMax: latest * 1.5 } }))
  t.ok(
    none.every((step) => step.startsWith('sealed')),
    'packed they are few enough',
  )
  const packed = statSync(`${folder}/${sealed(NAMES[0] ?? '')}`).size
  const retain = { kind: 'bytes', bytesMax: latest + 2 * packed + 100 } as const
  t.strictSame(namesOf(keep(folder, { retain })), [`let_go ${NAMES[0]}`, `let_go ${NAMES[1]}`])
})

t.test('what is damaged is not let go: it may hold what nobody knows', async (t) => {
  const folder = await recorded(t)
  const path = `${folder}/${NAMES[0]}`
  const bytes = readFileSync(path)
  bytes[300] = (bytes[300] ?? 0) ^ 1
  writeFileSync(path, bytes)
  t.strictSame(keep(folder, { seals: false, retain: { kind: 'until_derived' } }), [])
  writeFileSync(path, 'no tape')
  t.strictSame(keep(folder, { seals: false, retain: { kind: 'until_derived' } }), [])
  t.strictSame(namesOf(keep(folder, {})), [`sealed ${NAMES[1]}`], 'nor packed, if it is no tape')
})

t.test('blank segments that a crash left are stepped over', async (t) => {
  const folder = await recorded(t)
  writeFileSync(`${folder}/${NAMES[1]}`, Buffer.alloc(9_000))
  t.strictSame(namesOf(keep(folder, {})), [`sealed ${NAMES[0]}`])
  const steps = keep(folder, { retain: { kind: 'until_derived' } })
  t.strictSame(namesOf(steps), [`let_go ${NAMES[0]}`, `let_go ${NAMES[1]}`])
})

t.test('the latest that is written stays, whatever blank ones come after it', async (t) => {
  const folder = await recorded(t)
  for (const n of [4, 5]) writeFileSync(`${folder}/0-00000${n}.tape`, Buffer.alloc(n === 4 ? 0 : 9))
  writeFileSync(`${folder}/0-000006.tape`, readFileSync(`${folder}/${NAMES[0]}`).subarray(0, 9))
  writeFileSync(`${folder}/${NAMES[0]}.zst.new`, 'half')
  const state = { finishedBefore: new Map([[0, 7]]) }
  const id = idOf(folder)
  keep(folder, { retain: { kind: 'until_derived' }, seals: false }, state)
  const later = [4, 5, 6].map((n) => `0-00000${n}.tape`)
  t.strictSame(readdirSync(folder), [NAMES[2], ...later, 'let-go.json'])
  t.equal(idOf(folder), id)
  t.strictSame([...nextSegments(folder)], [[0, 7]])
})

/** The recording's id, as a restart finds it; of blank segments nothing is told. */
function idOf(folder: string): string {
  const hasRecord = () => true
  const found = inspectTape({ folder, hasRecord, settledSeq: 100, onTurn: () => undefined })
  t.ok(found.report.unreadable.every((told) => /0-000006/.test(told)))
  return found.recordingId
}

t.test('letting go that is cut at any step is told truly and goes on', async (t) => {
  const steps = [
    'openSync',
    'writeSync',
    'fdatasyncSync',
    'renameSync',
    'syncFolderSync',
    'removeSync',
  ] as const
  for (let failing = 0; ; failing++) {
    const folder = await recorded(t)
    let count = 0
    const disk = { ...realDisk }
    for (const step of steps) {
      const real = realDisk[step] as (...args: unknown[]) => unknown
      Object.assign(disk, {
        [step]: (...args: unknown[]) => {
          if (count++ >= failing) throw Object.assign(new Error(step), { code: 'EIO' })
          return real(...args)
        },
      })
    }
    const rules = { folder, seals: false, retain: { kind: 'until_derived' } } as const
    try {
      new SegmentKeeper(rules, disk).step(ALL)
    } catch {}
    const there = readdirSync(folder)
    const letGo = new LetGo(folder)
    for (const name of NAMES) t.ok(there.includes(name) || letGo.has(name), `${failing}: ${name}`)
    keep(folder, rules)
    t.strictSame(readdirSync(folder).sort(), [NAMES[2], 'let-go.json'])
    if (count < failing) break
  }
})

/** A disk on which one operation fails where `fails` says so. */
function failing(
  code: string,
  fails: { write?: (bytes: Buffer) => boolean; read?: (path: string) => boolean },
): Disk {
  const paths = new Map<number, string>()
  const fail = (): never => {
    throw Object.assign(new Error(code), { code, syscall: 'io' })
  }
  return {
    ...realDisk,
    openSync: (path, flags) => {
      const fd = realDisk.openSync(path, flags)
      paths.set(fd, path)
      return fd
    },
    readSync: (fd, ...rest) =>
      fails.read?.(paths.get(fd) ?? '') ? fail() : realDisk.readSync(fd, ...rest),
    writeSync: (fd, bytes, position) => {
      if (paths.get(fd)?.endsWith('.new') && fails.write?.(bytes)) fail()
      return realDisk.writeSync(fd, bytes, position)
    },
  }
}

t.test('on a full disk what is over the bound goes, unpacked', async (t) => {
  const folder = await recorded(t)
  const rules = { folder, seals: true, retain: { kind: 'bytes', bytesMax: 60_000 } } as const
  new LetGo(folder).prepare()
  const keeper = new SegmentKeeper(rules, failing('ENOSPC', { write: () => true }))
  const steps = [keeper.step(ALL), keeper.step(ALL), keeper.step(ALL)]
  t.match(steps, [{ did: 'let_go', name: NAMES[0] }, { did: 'let_go', name: NAMES[1] }, undefined])
  t.strictSame(readdirSync(folder), [NAMES[2], 'let-go.json'])
  t.equal(new LetGo(folder).count, 2)
  t.match(keeper.takeTroubles(), [/0-000001.tape is passed by: ENOSPC/, /0-000002.tape is passed/])
})

t.test('a segment that cannot be read is passed by for a while, and told', async (t) => {
  const folder = await recorded(t)
  const rules = { folder, seals: true, retain: { kind: 'keep' } } as const
  let bad = true
  const disk = failing('EIO', { read: (path) => bad && path.endsWith(NAMES[0] ?? '') })
  const keeper = new SegmentKeeper(rules, disk)
  t.match(keeper.step(ALL), { did: 'sealed', name: NAMES[1] })
  t.match(keeper.takeTroubles(), [/0-000001.tape is passed by: EIO/])
  bad = false
  t.equal(keeper.step(ALL), undefined)
  t.strictSame(keeper.takeTroubles(), [])
  const nowMs = ALL.nowMs + KEEP_RETRY_MS
  t.match(keeper.step({ ...ALL, nowMs }), { did: 'sealed', name: NAMES[0] })
})

t.test('what keeps a lane from letting go is told, and other lanes go on', async (t) => {
  const folder = await recorded(t)
  await recorded(t, { folder, lane: 1, first: 51 })
  const bytes = readFileSync(`${folder}/${NAMES[0]}`)
  writeFileSync(`${folder}/${NAMES[0]}`, bytes.fill('A', 300, 400))
  utimesSync(`${folder}/${NAMES[0]}`, 1, 1)
  const rules = { folder, seals: false, retain: { kind: 'until_derived' } } as const
  const keeper = new SegmentKeeper(rules)
  t.match(keeper.step(ALL), { did: 'let_go', name: '1-000001.tape' })
  t.match(keeper.takeTroubles(), [/0-000001.tape is damaged: it is not let go/])
  const disk = failing('EIO', { read: (path) => path.endsWith(NAMES[0] ?? '') })
  const other = new SegmentKeeper(rules, disk)
  t.match(other.step(ALL), { did: 'let_go', name: '1-000002.tape' })
  t.match(other.takeTroubles(), [/0-000001.tape is not let go.*EIO/])
})
