/** rolltape as a user starts it: forwarding, recording at each durability, on two lanes, replaying. */
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TEST_CORE, pinned } from '../native.ts'
import { freePort, listens, noRecords, stopped } from './arm.ts'
import type { Arm, RunningArm } from './arm.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')

/** rolltape with these flags; `records` where it gets a recording file. */
function rolltape(name: string, records: boolean, ...flags: string[]): Arm {
  return {
    name,
    missing: () => undefined,
    start: async ({ port, ports }) => {
      const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
      const file = join(folder, 'a.jsonl')
      const bases = Array.from({ length: ports }, (_, i) => `http://127.0.0.1:${port + i}`)
      const args = bases.flatMap((base) => ['--proxy-base-url', base])
      if (records) args.push('--recording-file', file)
      const count = new LineCount(folder)
      return served([...args, ...flags], {
        records: records ? () => count.now() : noRecords,
        clean: () => rmSync(folder, { recursive: true, force: true }),
      })
    },
  }
}

/** Starts `rolltape serve` on the core under test. */
export async function served(
  flags: readonly string[],
  { records, clean }: { records: () => number | undefined; clean: () => void },
): Promise<RunningArm> {
  const port = await freePort()
  const args = ['serve', '--log-level=error', '--control=off', `--port=${port}`, ...flags]
  const child = pinned(TEST_CORE, process.execPath, [MAIN, ...args])
  await listens(port, child)
  return {
    port,
    ports: 1,
    pids: [child.pid ?? 0],
    isLane: (thread) => thread.startsWith('lane-'),
    records,
    stop: async () => {
      await stopped(child)
      clean()
    },
  }
}

/** Arms of rolltape in front of the mock upstream. */
export const ROLLTAPE: readonly Arm[] = [
  rolltape('rolltape passthrough', false),
  rolltape('rolltape record', true),
  rolltape('rolltape record memory', true, '--durability', 'memory'),
  rolltape('rolltape record synced', true, '--durability', 'synced'),
  rolltape('rolltape record, 2 lanes', true, '--lanes', '2'),
  rolltape('rolltape record, rotating', true, '--rotate-bytes', '8388608'),
]

/** Lines of a recording's files, which grow and are renamed; what has been counted is not read again. */
class LineCount {
  readonly #folder: string
  readonly #piece = Buffer.allocUnsafe(1 << 20)
  /** By inode: how far a file has been read. */
  readonly #read = new Map<number, number>()
  #lines = 0

  constructor(folder: string) {
    this.#folder = folder
  }

  now(): number {
    const names = readdirSync(this.#folder).filter((name) => name.endsWith('.jsonl'))
    for (const name of names) this.#count(join(this.#folder, name))
    return this.#lines
  }

  #count(file: string): void {
    const fd = openSync(file, 'r')
    const { ino } = fstatSync(fd)
    let at = this.#read.get(ino) ?? 0
    for (;;) {
      const bytes = readSync(fd, this.#piece, 0, this.#piece.length, at)
      if (bytes === 0) break
      at += bytes
      const piece = this.#piece.subarray(0, bytes)
      for (let i = piece.indexOf(10); i >= 0; i = piece.indexOf(10, i + 1)) this.#lines++
    }
    this.#read.set(ino, at)
    closeSync(fd)
  }
}
