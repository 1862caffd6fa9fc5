/**
 * A lane in the test's own thread, over a disk that the test commands: writes can be held back and
 * made to fail. Its appender is a real thread.
 */
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Test } from 'tap'
import { Lane } from '../../src/lane/lane.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { makeCounters, makeSharedMemory } from '../../src/supervisor/shared.ts'
import { realDisk } from '../../src/tape/disk.ts'
import type { Disk } from '../../src/tape/disk.ts'
import { workerUrl } from '../../src/workers.ts'
import { makeFolder } from './recorder.ts'

type Write = Parameters<Disk['writev']>

/** Longer than what runs at a test's end may take anywhere; only what never ends is cut. */
const DRAIN_MS = 20_000

/** A disk whose writes wait until they are let go. */
export class HeldDisk {
  readonly disk: Disk
  /** While set, writes fail with this code. */
  failing: string | undefined
  #held: Write[] = []
  #holding = false
  #changed = Promise.withResolvers<void>()

  constructor() {
    this.disk = {
      ...realDisk,
      writev: (...write) => {
        if (this.failing !== undefined) return this.#fail(write)
        if (!this.#holding) return realDisk.writev(...write)
        this.#held.push(write)
        this.#changed.resolve()
        this.#changed = Promise.withResolvers<void>()
      },
    }
  }

  /** Holds writes from now on. */
  hold(): void {
    this.#holding = true
  }

  /** Waits until a write is held. */
  async heldWrite(): Promise<void> {
    while (this.#held.length === 0) await this.#changed.promise
  }

  /** Holds of writes, for those who wait for one to begin. */
  get held(): number {
    return this.#held.length
  }

  /** Lets all held writes go, and later ones through. */
  release(): void {
    this.#holding = false
    for (const write of this.#held.splice(0)) realDisk.writev(...write)
  }

  #fail([, , , done]: Write): void {
    const error = Object.assign(new Error('disk'), { code: this.failing ?? '' })
    setImmediate(() => done(error, 0))
  }
}

/** A lane, where it listens, and its recording. */
export interface LaneUnderTest {
  readonly lane: Lane
  readonly url: string
  readonly file: string
  /** Drains the lane and ends the appender. */
  finish(): Promise<void>
}

/**
 * Starts a recording lane in front of `upstream`. `slowness`, in shared memory, is how many ms the
 * appender takes for each batch.
 */
export async function startLane(
  t: Test,
  upstream: string,
  held: HeldDisk,
  options: RolltapeOptions = {},
  random: () => number = () => 0,
  slowness?: Int32Array,
): Promise<LaneUnderTest> {
  const folder = makeFolder(t)
  const file = join(folder, 'a.jsonl')
  const config = resolveOptions({
    options: { port: 0, proxyBaseUrl: upstream, recordingFile: file, ...options },
  })
  const entry = slowness ? new URL('slow-appender.ts', import.meta.url) : workerUrl('append')
  const appender = new Worker(entry, {
    workerData: {
      slowness,
      files: { jsonl: file, checkpoint: join(folder, 'derived.json') },
      from: { jsonlBytes: 0, derived: [] },
    },
  })
  await once(appender, 'online')
  const quiet = (): void => undefined
  const lane = await Lane.start({
    lane: 0,
    config,
    counters: makeCounters(),
    order: {
      generation: 1,
      mode: config.mode,
      onMiss: config.onMiss,
      endsLive: false,
      overrides: new Map(),
      policyVersion: '',
      replay: undefined,
      recording: {
        folder,
        recordingId: 'test',
        firstSegment: 1,
        appender: appender.threadId,
        part: 1,
        memory: makeSharedMemory(),
        hmacKey: '00'.repeat(32),
      },
    },
    port: 0,
    reusePort: false,
    log: { debug: quiet, warn: quiet, error: quiet },
    disk: held.disk,
    random,
  })
  let finished: Promise<void> | undefined
  const finish = async (): Promise<void> => {
    await lane.drain(DRAIN_MS)
    appender.postMessage({ type: 'close' })
    await once(appender, 'exit')
  }
  const finishOnce = (): Promise<void> => (finished ??= finish())
  t.teardown(() => finishOnce())
  return { lane, url: `http://127.0.0.1:${lane.port}`, file, finish: finishOnce }
}
