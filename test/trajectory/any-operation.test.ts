// All that a recording does with its files but for the lanes' own writing: whichever operation of it
// the disk fails, it is told or of no consequence, once more is enough, and where the process dies of
// it the next start has every line once.
import { cpSync, readFileSync, readdirSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import { openHmacKey } from '../../src/tape/hmac-key.ts'
import { realDisk } from '../../src/tape/disk.ts'
import type { Disk } from '../../src/tape/disk.ts'
import { takeLock } from '../../src/tape/lock.ts'
import { adoptLines, readCheckpoint } from '../../src/trajectory/adopt.ts'
import { AnnotationWriter } from '../../src/trajectory/annotations.ts'
import { Appender } from '../../src/trajectory/appender.ts'
import type { LineBatch } from '../../src/trajectory/appender.ts'
import { ConsumerPlaces } from '../../src/trajectory/consumers.ts'
import { closedParts, nextPart, partFile } from '../../src/trajectory/parts.ts'
import { SegmentKeeper } from '../../src/trajectory/segment-keeper.ts'
import { makeFolder } from '../support/recorder.ts'
import { appendExchange, close, makeWriter, readAll } from '../tape/tapes.ts'

/** What can fail, and where; `short` is a write of which the disk takes a part. */
const FAULTS = {
  EIO: /Sync$/,
  ENOSPC: /^(?:open|write|fdatasync|close|rename|makeFolder|syncFolder)Sync$/,
  EMFILE: /^(?:open|readFile|list|syncFolder)Sync$/,
  short: /^writeSync$/,
} as const
type Fault = keyof typeof FAULTS
const LONG = process.env['LONG'] !== undefined

/** Segments with an exchange each. */
const EXCHANGES = 3
const ALL = Array.from({ length: EXCHANGES }, (_, i) => i + 1)

/** What stands for the process's death. */
class Died extends Error {}

/** The synchronous half of a disk, whose Nth operation fails once; `short` fails writes alone. */
class OnceFailing {
  readonly disk: Disk
  readonly operations: string[] = []
  readonly open = new Set<number>()
  /** What failed, once it has. */
  failed: string | undefined

  constructor(nth: number, fault: Fault) {
    const wrapped: Record<string, unknown> = { ...realDisk }
    for (const [name, real] of Object.entries(realDisk) as [
      string,
      (...args: unknown[]) => unknown,
    ][]) {
      if (!name.endsWith('Sync')) continue
      wrapped[name] = (...args: unknown[]) => {
        const fails = this.operations.push(name) - 1 === nth
        if (fails && fault === 'short' && name === 'writeSync') return this.#writeHalf(args)
        if (!fails || fault === 'short') return this.#noted(name, args, real(...args))
        this.failed = name
        // Whatever it says, the descriptor is gone.
        if (name === 'closeSync') this.#noted(name, args, real(...args))
        throw Object.assign(new Error(`${name} fails`), { code: fault, syscall: name })
      }
    }
    this.disk = wrapped as unknown as Disk
  }

  #writeHalf([fd, bytes, position]: unknown[]): number {
    this.failed = 'writeSync'
    const all = bytes as Buffer
    return realDisk.writeSync(fd as number, all.subarray(0, all.length >> 1), position as number)
  }

  #noted(name: string, args: unknown[], result: unknown): unknown {
    if (name === 'openSync') this.open.add(result as number)
    if (name === 'closeSync') this.open.delete(args[0] as number)
    return result
  }
}

function batch(seqs: readonly number[]): LineBatch {
  const lines = seqs.map((seq) => Buffer.from(`{"seq":${seq},"text":"größe"}\n`))
  const lengths = lines.map(({ length }) => length)
  return { seqs, bytes: Buffer.concat(lines), lengths, voids: [] }
}

/** A tape that is written, and nothing else yet. */
async function makeRecording(t: Test) {
  const dir = makeFolder(t)
  const folder = `${dir}/a.tape`
  realDisk.makeFolderSync(folder)
  for (const seq of ALL) {
    const { writer } = makeWriter(t, { folder, firstSegment: seq })
    appendExchange(writer, seq)
    await close(writer)
  }
  return { dir, folder, file: `${dir}/a.jsonl` }
}

type Recording = Awaited<ReturnType<typeof makeRecording>>

/**
 * A process's whole life with the recording. What fails is done once more, as the process does it;
 * with `dies` it is the end. Tells what failed.
 */
async function live(
  t: Test,
  { folder, file }: Recording,
  disk: Disk,
  dies: boolean,
): Promise<string[]> {
  const told: string[] = []
  const twice = async <T>(what: string, work: () => T | Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      told.push(`${what}: ${String(error)}`)
      if (dies) throw new Died()
      return await work()
    }
  }
  const once = (what: string, work: () => void): void => {
    try {
      work()
    } catch (error) {
      told.push(`${what}: ${String(error)}`)
      if (dies) throw new Died()
    }
  }
  const unlock = await twice('lock', () => takeLock(folder, disk))
  const key = await twice('key', () => openHmacKey(folder, disk))
  t.equal(await twice('key', () => openHmacKey(folder, disk)), key)
  const checkpoint = `${folder}/derived.json`
  const touch = () => disk.closeSync(disk.openSync(file, 'a'))
  await twice('touch', touch)
  const { checkpoint: from } = await twice('adopt', () => {
    return adoptLines(file, readCheckpoint(checkpoint, disk), disk)
  })
  const appender = await twice('appender', () => {
    return new Appender({ jsonl: file, checkpoint, sidecar: true }, from, disk)
  })
  await twice('append', () => appender.append(batch([1, 2])))
  await twice('checkpoint', () => appender.checkpoint())
  await twice('rotate', () => appender.rotate(partFile(file, nextPart(file, disk))))
  await twice('append', () => appender.append(batch([2, 3])))
  await twice('sync', () => appender.sync())
  const annotations = new AnnotationWriter(`${file}.annotations`, true, disk)
  for (const note of ['a', 'b']) {
    await twice('annotate', () => annotations.append({ session: 's', note }))
  }
  await twice('annotations', () => annotations.close())
  const places = new ConsumerPlaces({ path: `${file}.places`, recordingId: 'r', end: 100, disk })
  await twice('acknowledge', () => places.advance('trainer', 7))
  const state = {
    derived: appender.derived,
    durable: true,
    turnsSeq: EXCHANGES,
    finishedBefore: new Map<number, number>(),
  }
  for (const retain of [{ kind: 'keep' }, { kind: 'until_derived' }] as const) {
    const keeper = new SegmentKeeper({ folder, seals: true, retain }, disk)
    // What failed rests for a while: each look is a day later. Where it did nothing it looks again.
    for (let day = 1, idle = 0; idle < 2; day++) {
      const step = await twice('keep', () => keeper.step({ ...state, nowMs: day * 86_400_000 }))
      const troubles = keeper.takeTroubles()
      told.push(...troubles)
      if (dies && troubles.length > 0) throw new Died()
      idle = step === undefined ? idle + 1 : 0
    }
  }
  // Closed all the same; the next start looks at what it could not write down.
  once('close', () => appender.close())
  await twice('unlock', () => unlock())
  return told
}

/** Each line of the recording's files, by number; they end with whole lines. */
function linesOf(t: Test, { file }: Recording): number[] {
  const files = [...closedParts(file).map((part) => part.file), file]
  return files.flatMap((path) => {
    const text = readFileSync(path, 'utf8')
    t.ok(text === '' || text.endsWith('\n'), `${path} ends with a line`)
    const lines = text.split('\n').slice(0, -1)
    return lines.map((line) => (JSON.parse(line) as { seq: number }).seq)
  })
}

function check(t: Test, recording: Recording, name: string): void {
  const { dir, folder, file } = recording
  t.strictSame(linesOf(t, recording).sort(), ALL, `${name}: every line once`)
  const notes = readFileSync(`${file}.annotations`, 'utf8').split('\n').slice(0, -1)
  const said = notes.map((line) => (JSON.parse(line) as { note: string }).note)
  t.strictSame([...new Set(said)], ['a', 'b'], `${name}: every annotation`)
  t.match(JSON.parse(readFileSync(`${file}.places`, 'utf8')), { places: { trainer: 7 } }, name)
  const { exchanges, lostBytes } = readAll(folder)
  t.strictSame(
    exchanges.map(({ begin }) => begin.seq),
    [EXCHANGES],
    `${name}: all is let go but the last`,
  )
  t.equal(lostBytes, 0, name)
  const names = [...readdirSync(dir), ...readdirSync(folder)]
  t.strictSame(
    names.filter((one) => one.endsWith('.new') || one === 'lock'),
    [],
    `${name}: nothing is left half done`,
  )
}

/** A copy of a recording that is written and was never looked at. */
function copyOf(t: Test, template: Recording): Recording {
  const dir = makeFolder(t)
  cpSync(template.dir, dir, { recursive: true })
  return { dir, folder: `${dir}/a.tape`, file: `${dir}/a.jsonl` }
}

const QUICK: readonly Fault[] = ['EIO', 'short']

for (const [fault, where] of Object.entries(FAULTS) as [Fault, RegExp][]) {
  if (!LONG && !QUICK.includes(fault)) continue
  t.test(`${fault} at any operation is told, and once more is enough`, async (t) => {
    const template = await makeRecording(t)
    const healthy = new OnceFailing(-1, fault)
    t.strictSame(await live(t, copyOf(t, template), healthy.disk, false), [])
    t.ok(healthy.operations.length > 100, `${healthy.operations.length} operations`)
    for (const [nth, operation] of healthy.operations.entries()) {
      if (!where.test(operation)) continue
      const name = `${operation} ${nth}`
      const once = new OnceFailing(nth, fault)
      const recording = copyOf(t, template)
      const told = await live(t, recording, once.disk, false)
      t.equal(once.failed, operation)
      t.ok(told.length <= 1, `${name}: ${told.join()}`)
      check(t, recording, name)
      t.equal(once.open.size, 0, `${name}: all files are closed`)
    }
  })
}

for (const fault of LONG ? (['EIO', 'ENOSPC', 'short'] as const) : (['EIO'] as const)) {
  t.test(`the process dies of ${fault} at any operation: the next goes on`, async (t) => {
    const template = await makeRecording(t)
    let deaths = 0
    for (let nth = 0; ; nth += LONG ? 1 : 3) {
      const recording = copyOf(t, template)
      const once = new OnceFailing(nth, fault)
      try {
        await live(t, recording, once.disk, true)
        if (nth >= once.operations.length) break
      } catch (error) {
        if (!(error instanceof Died)) throw error
        deaths++
        // Of its own process, which goes on here: a restart would see that it is gone.
        realDisk.removeSync(`${recording.folder}/lock`)
      }
      t.strictSame(await live(t, recording, realDisk, true), [])
      check(t, recording, `${once.operations[nth]} ${nth}`)
    }
    t.ok(fault === 'short' || deaths > 30, `${deaths} deaths`)
  })
}
