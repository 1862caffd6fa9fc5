/**
 * A recording's finished segments, from the main thread's side: looked for now and then, sealed or
 * let go by a thread that is there only while there is something to look at. One step at a time, each with
 * the records as they stand then; stopped at any moment, since each step can be begun anew.
 */
import { Worker } from 'node:worker_threads'
import { errorText } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import { KEEP_LOOK_MS, KEEP_RETRY_MS } from '../limits.ts'
import type { Disk } from '../tape/disk.ts'
import { realDisk } from '../tape/disk.ts'
import { SEALED_SUFFIX } from '../tape/format.ts'
import { LetGo } from '../tape/let-go.ts'
import { TapeFolder } from '../tape/reader.ts'
import { finishedOf } from '../trajectory/segment-keeper.ts'
import type { KeepRules, KeepState, KeepStep } from '../trajectory/segment-keeper.ts'
import type { SeqRange } from '../trajectory/seq-set.ts'
import { workerUrl } from '../workers.ts'

/** What the thread says to a message. */
export interface KeepAnswer {
  /** Null when nothing was to be done. */
  readonly step: KeepStep | null
  readonly trouble: string | null
  /** What is wrong with segments that were left as they are. */
  readonly passedBy: readonly string[]
}

/** What keeping a tape needs. */
export interface TapeKeepingOptions extends KeepRules {
  /** Numbers that have their record; with `durable` only those whose record is on the disk itself. */
  readonly derived: (durable: boolean) => Promise<readonly SeqRange[]>
  /** Up to which number turns are written down, once that is as far as this if it can be. */
  readonly turnsSeq: (least: number) => number
  readonly finishedBefore: () => ReadonlyMap<number, number>
  readonly log: LaneLog
  readonly onTrouble: (message: string) => void
  readonly disk?: Disk
}

const NOTHING: KeepAnswer = { step: null, trouble: null, passedBy: [] }

/** A segment that could go but for what is not on the disk itself. */
type Waits = Extract<KeepStep, { did: 'waits' }>

/** Keeps a tape while it is recorded. */
export class TapeKeeping {
  readonly #options: TapeKeepingOptions
  readonly #timer: NodeJS.Timeout | undefined
  #worker: Worker | undefined
  #busy = false
  #closed = false
  #restsUntilMs = 0
  readonly #told = new Set<string>()
  /** Why the thread ended. */
  #reason = ''

  constructor(options: TapeKeepingOptions) {
    this.#options = options
    sweep(options)
    if (!options.seals && options.retain.kind === 'keep') return
    if (options.retain.kind !== 'keep') prepareLetGo(options)
    this.#timer = setInterval(() => void this.look(), KEEP_LOOK_MS)
    this.#timer.unref()
  }

  /** Does all that can be done now. Never throws. */
  async look(): Promise<void> {
    if (this.#busy || this.#closed || performance.now() < this.#restsUntilMs) return
    this.#busy = true
    try {
      let waits: Waits | undefined
      while (!this.#closed && this.#hasFinished()) {
        const { step, trouble, passedBy } = await this.#step(waits)
        this.#tellOnce(passedBy)
        if (trouble !== null) throw new Error(trouble)
        if (step === null) break
        waits = step.did === 'waits' ? step : undefined
        this.#tell(step)
      }
    } catch (error) {
      this.#restsUntilMs = performance.now() + KEEP_RETRY_MS
      const what = `segments cannot be sealed or let go: ${errorText(error)}`
      if (!this.#closed) this.#options.onTrouble(what)
    } finally {
      this.#busy = false
    }
    if (!this.#hasFinished()) await this.#end()
  }

  /** Stops it; what it was at is begun anew by the next one. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#end()
  }

  #hasFinished(): boolean {
    const { folder, disk = realDisk, finishedBefore, retain } = this.#options
    try {
      const finished = finishedOf(new TapeFolder(folder, disk).segments(), finishedBefore())
      return finished.some(({ isSealed }) => !isSealed || retain.kind !== 'keep')
    } catch {
      // Who writes to the folder tells of it.
      return false
    }
  }

  #tell(step: KeepStep): void {
    if (step.did === 'waits') return
    const { did, name, ...bytes } = step
    if (step.did === 'sealed' && step.lacked > 0) {
      const piece = 'a piece of a segment had come back beside its whole sealed form; it is removed'
      return this.#options.log.warn({ segment: name, ...bytes }, piece)
    }
    const what = did === 'sealed' ? 'a segment was sealed' : 'a segment was let go'
    this.#options.log.debug({ segment: name, ...bytes }, what)
  }

  #tellOnce(passedBy: readonly string[]): void {
    for (const trouble of passedBy) {
      if (!this.#told.has(trouble)) this.#options.onTrouble(trouble)
      this.#told.add(trouble)
    }
  }

  async #step(waits: Waits | undefined): Promise<KeepAnswer> {
    const durable = waits !== undefined
    const { derived, turnsSeq, finishedBefore } = this.#options
    const state: KeepState = {
      derived: await derived(durable),
      durable,
      turnsSeq: turnsSeq(waits?.lastSeq ?? 0),
      finishedBefore: finishedBefore(),
      nowMs: Date.now(),
    }
    if (this.#closed) return NOTHING
    const worker = (this.#worker ??= this.#start())
    const { promise, resolve, reject } = Promise.withResolvers<KeepAnswer>()
    const onExit = (): void => {
      if (this.#closed) resolve(NOTHING)
      else reject(new Error(this.#reason))
    }
    worker.once('message', resolve)
    worker.once('exit', onExit)
    worker.postMessage(state)
    try {
      return await promise
    } finally {
      worker.off('message', resolve)
      worker.off('exit', onExit)
    }
  }

  #start(): Worker {
    const { folder, seals, retain } = this.#options
    const workerData: KeepRules = { folder, seals, retain }
    const worker = new Worker(workerUrl('seal'), { name: 'seal', workerData })
    worker.unref()
    this.#reason = 'the thread ended'
    worker.on('error', (error) => (this.#reason = errorText(error)))
    worker.once('exit', () => {
      if (this.#worker === worker) this.#worker = undefined
    })
    return worker
  }

  async #end(): Promise<void> {
    const worker = this.#worker
    this.#worker = undefined
    await worker?.terminate()
  }
}

/** What a process that was killed had half sealed; whoever seals it makes it anew. */
function sweep({ folder, disk = realDisk }: TapeKeepingOptions): void {
  try {
    for (const name of disk.listSync(folder)) {
      if (name.endsWith(`${SEALED_SUFFIX}.new`)) disk.removeSync(`${folder}/${name}`)
    }
  } catch {
    // It takes room, and nothing reads it.
  }
}

/** On a full disk, where it is needed most, it could not be made. */
function prepareLetGo({ folder, disk = realDisk }: TapeKeepingOptions): void {
  try {
    new LetGo(folder, disk).prepare()
  } catch {
    // It is tried again with the first segment that goes, which tells of it.
  }
}
