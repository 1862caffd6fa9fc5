/**
 * What becomes of finished segments: sealed, or let go, one step after the other. For a thread of
 * its own. A segment is touched only when all exchanges with a frame in it have their record, so
 * nobody appends to them, and derive is done with them.
 *
 * A segment is finished when its lane has a later one (its writer opens that one only when all of
 * the one before is written), or was there before this process recorded.
 *
 * Of each lane the oldest go first, and its latest one that is written stays: numbers are never given
 * twice, the recording keeps its id, and what is missing is always all up to a number.
 *
 * A segment that cannot be read or sealed is told of and left alone for a while; the others go on.
 */
import { RolltapeError, errorText } from '../errors.ts'
import type { TapeRetain } from '../options/retention.ts'
import type { Disk } from '../tape/disk.ts'
import { realDisk } from '../tape/disk.ts'
import { SEALED_SUFFIX } from '../tape/format.ts'
import { KEEP_RETRY_MS } from '../limits.ts'
import { LetGo, isFull } from '../tape/let-go.ts'
import { TapeFolder } from '../tape/reader.ts'
import { SegmentFile } from '../tape/segment-file.ts'
import type { ListedSegment } from '../tape/reader.ts'
import { sealSegment } from '../tape/seal.ts'
import { SeqSet } from './seq-set.ts'
import type { SeqRange } from './seq-set.ts'

/** What is to be done with finished segments. */
export interface KeepRules {
  readonly folder: string
  readonly seals: boolean
  readonly retain: TapeRetain
}

/** How things stand when a step is taken. */
export interface KeepState {
  /** Numbers that have their record, or will never have one. */
  readonly derived: readonly SeqRange[]
  /** Those records are on the disk itself: without that nothing is let go. */
  readonly durable: boolean
  /** Turns of exchanges up to this number can be told without their segments, on the disk itself. */
  readonly turnsSeq: number
  /** Per lane: segments below this number are of processes or lanes that have ended. */
  readonly finishedBefore: ReadonlyMap<number, number>
  readonly nowMs: number
}

/** What a step did; undefined when there was nothing to do. */
export type KeepStep =
  | {
      readonly did: 'sealed'
      readonly name: string
      readonly from: number
      readonly to: number
      /** Bytes that a plain file lacked which came back beside its sealed form. */
      readonly lacked: number
    }
  | { readonly did: 'let_go'; readonly name: string; readonly bytes: number }
  /** One could go if the records, and the turns up to this number, were on the disk itself. */
  | { readonly did: 'waits'; readonly name: string; readonly lastSeq: number }

/** What is known of a segment's exchanges. */
interface Content {
  readonly seqs: SeqSet
  /** Bytes that no sound frame covers may have been of exchanges that nobody knows. */
  readonly isWhole: boolean
}

/** Segments of these that nobody writes to any more. */
export function finishedOf(
  segments: readonly ListedSegment[],
  finishedBefore: ReadonlyMap<number, number>,
): ListedSegment[] {
  return segments.filter(
    ({ lane, number }, i) =>
      segments[i + 1]?.lane === lane || number < (finishedBefore.get(lane) ?? 0),
  )
}

/** Keeps one tape. */
export class SegmentKeeper {
  readonly #rules: KeepRules
  readonly #disk: Disk
  readonly #tape: TapeFolder
  /** Of finished segments that were looked at and wait. */
  readonly #contents = new Map<string, Content>()
  /** When segments that failed are tried again, ms since the epoch. */
  readonly #retries = new Map<string, number>()
  #troubles: string[] = []

  constructor(rules: KeepRules, disk: Disk = realDisk) {
    this.#rules = rules
    this.#disk = disk
    this.#tape = new TapeFolder(rules.folder, disk)
  }

  /** What is wrong with segments that were passed by since this was asked last. */
  takeTroubles(): readonly string[] {
    const troubles = this.#troubles
    this.#troubles = []
    return troubles
  }

  /**
   * Does the next thing that can be done.
   * @throws when the disk does; what was being done is then undone, or will be done again.
   */
  step(state: KeepState): KeepStep | undefined {
    const derived = SeqSet.from(state.derived)
    const segments = this.#tape.segments()
    const finished = finishedOf(segments, state.finishedBefore)
    for (const name of this.#contents.keys()) {
      if (!finished.some((segment) => segment.name === name)) this.#contents.delete(name)
    }
    for (const name of this.#retries.keys()) {
      if (!finished.some((segment) => segment.name === name)) this.#retries.delete(name)
    }
    const { retain, seals } = this.#rules
    const isDone = (segment: ListedSegment): boolean =>
      derived.covers(this.#contentOf(segment).seqs)
    const goes = (): KeepStep | undefined => this.#letGo(segments, finished, state, isDone)
    // What is over a bound may be under it once it is sealed.
    if (retain.kind !== 'bytes') {
      const step = goes()
      if (step !== undefined) return step
    }
    for (const segment of seals ? finished : []) {
      if (segment.isSealed || this.#rests(segment, state)) continue
      try {
        if (this.#tape.isBlank(segment) || !isDone(segment)) continue
        return this.#seal(segment)
      } catch (error) {
        this.#failed(segment, state, error)
        // The others would not fit either; what is over the bound makes room.
        if (isFull(error)) break
      }
    }
    return retain.kind === 'bytes' ? goes() : undefined
  }

  #seal({ name }: ListedSegment): KeepStep {
    const { plainBytes, sealedBytes, lackedBytes } = sealSegment(
      this.#rules.folder,
      name,
      this.#disk,
    )
    return { did: 'sealed', name, from: plainBytes, to: sealedBytes, lacked: lackedBytes }
  }

  #rests({ name }: ListedSegment, { nowMs }: KeepState): boolean {
    return nowMs < (this.#retries.get(name) ?? 0)
  }

  #failed({ name }: ListedSegment, { nowMs }: KeepState, error: unknown): void {
    this.#retries.set(name, nowMs + KEEP_RETRY_MS)
    this.#troubles.push(`${this.#rules.folder}/${name} is passed by: ${errorText(error)}`)
  }

  /** Lets the oldest go of the lanes' first segments, if the rule says so. */
  #letGo(
    segments: readonly ListedSegment[],
    finished: readonly ListedSegment[],
    state: KeepState,
    isDone: (segment: ListedSegment) => boolean,
  ): KeepStep | undefined {
    const { retain, folder } = this.#rules
    const { nowMs, durable, turnsSeq } = state
    if (retain.kind === 'keep') return undefined
    const files = segments.map((segment) => ({ segment, ...this.#fileOf(segment) }))
    const total = files.reduce((sum, { bytes }) => sum + bytes, 0)
    const oldest = files
      .filter(({ segment: { name, lane } }, i) => {
        const isFirst = segments[i - 1]?.lane !== lane
        if (!isFirst || !finished.some((one) => one.name === name)) return false
        return segments.slice(i + 1).some((later) => this.#isWritten(later, lane))
      })
      .sort((a, b) => a.writtenMs - b.writtenMs)
    for (const { segment, bytes, writtenMs } of oldest) {
      const isDue =
        retain.kind === 'until_derived' ||
        (retain.kind === 'bytes' && total > retain.bytesMax) ||
        (retain.kind === 'age' && nowMs - writtenMs > retain.ageMs)
      if (!isDue) continue
      const content = this.#tryContentOf(segment)
      if (content === undefined || !isDone(segment)) continue
      const { name, lane, number } = segment
      const lastSeq = content.seqs.max
      if (!durable) return { did: 'waits', name, lastSeq }
      // The turns that are counted in it would be given again.
      if (lastSeq > turnsSeq) continue
      new LetGo(folder, this.#disk).add(lane, number)
      this.#disk.removeSync(`${folder}/${name}`)
      this.#disk.removeSync(`${folder}/${name}${SEALED_SUFFIX}`)
      this.#disk.removeSync(`${folder}/${name}${SEALED_SUFFIX}.new`)
      this.#disk.syncFolderSync(folder)
      return { did: 'let_go', name, bytes }
    }
    return undefined
  }

  #isWritten(segment: ListedSegment, lane: number): boolean {
    if (segment.lane !== lane) return false
    try {
      new SegmentFile(this.#rules.folder, segment.name, this.#disk).close()
      return true
    } catch {
      // Blank, torn in its header, or not to be read now: the id cannot be had from it.
      return false
    }
  }

  #fileOf({ name, isSealed }: ListedSegment): { bytes: number; writtenMs: number } {
    const path = `${this.#rules.folder}/${name}${isSealed ? SEALED_SUFFIX : ''}`
    const fd = this.#disk.openSync(path, 'r')
    try {
      return this.#disk.statSync(fd)
    } finally {
      this.#disk.closeSync(fd)
    }
  }

  /** Undefined, and told, for a segment that stays because of what it is; so do those behind it. */
  #tryContentOf(segment: ListedSegment): Content | undefined {
    const path = `${this.#rules.folder}/${segment.name}`
    try {
      const content = this.#contentOf(segment)
      if (content.isWhole) return content
      this.#troubles.push(`${path} is damaged: it is not let go, nor what its lane wrote after it`)
    } catch (error) {
      this.#troubles.push(
        `${path} is not let go, nor what its lane wrote after it: ${errorText(error)}`,
      )
    }
    return undefined
  }

  #contentOf(segment: ListedSegment): Content {
    const known = this.#contents.get(segment.name)
    if (known !== undefined) return known
    const content = this.#walk(segment)
    this.#contents.set(segment.name, content)
    return content
  }

  #walk(segment: ListedSegment): Content {
    const seqs = new SeqSet()
    if (this.#tape.isBlank(segment)) return { seqs, isWhole: true }
    try {
      const file = new SegmentFile(this.#rules.folder, segment.name, this.#disk)
      try {
        const { skipped } = file.walk(({ seq }) => void seqs.add(seq), { wants: () => false })
        return { seqs, isWhole: skipped.length === 0 && file.trouble === undefined }
      } finally {
        file.close()
      }
    } catch (error) {
      if (!(error instanceof RolltapeError)) throw error
      // No header: what is in it cannot be told, so it is neither packed nor removed.
      seqs.add(Number.MAX_SAFE_INTEGER)
      return { seqs, isWhole: false }
    }
  }
}
