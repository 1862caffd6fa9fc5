/** A replay source from the supervisor's side: read once at start, then shared by all lanes. */
import { RolltapeError } from '../errors.ts'
import type { LaneLog } from '../lane/context.ts'
import type { LaneReplay } from '../lane/player.ts'
import type { RolltapeConfig } from '../options.ts'
import { buildReplaySource } from '../replay/build.ts'
import { Claims, makeClaimsMemory } from '../replay/claims.ts'
import { ReplayIndex } from '../replay/index-table.ts'
import { IS_GENERATION, isServed } from '../replay/packed.ts'
import type { ServedRules } from '../replay/packed.ts'
import { ignoreRules } from '../replay/profiles.ts'
import type { Verdict } from '../replay/verdict.ts'
import { progressLog } from './log.ts'
import { VERDICT_COUNTERS } from './shared.ts'
import type { CounterName } from './shared.ts'

/** Who waits for a load. */
export interface LoadOptions {
  readonly onProgress: (doneBytes: number, totalBytes: number) => void
  /** Fires when nobody waits any more. */
  readonly signal: AbortSignal
}

/** A recording that is replayed. */
export interface Replayed {
  readonly source: LaneReplay
  readonly file: string
}

/** What is replayed, and how that has gone since it was loaded. */
export class Replaying {
  /** Undefined while nothing is replayed. */
  now: Replayed | undefined
  readonly #counter: (name: CounterName) => number
  /** Counters when it was loaded: a verdict is of one source. */
  #base: ReadonlyMap<CounterName, number> = new Map()

  constructor(counter: (name: CounterName) => number) {
    this.#counter = counter
  }

  /** From now on this is replayed. */
  take(next: Replayed | undefined): void {
    this.now = next
    this.#base = new Map(VERDICT_COUNTERS.map((name) => [name, this.#counter(name)]))
  }

  /** How it has gone; undefined when nothing is replayed. */
  verdict(verifies: boolean, rules: ServedRules): Verdict | undefined {
    const count = (name: CounterName): number => this.#counter(name) - (this.#base.get(name) ?? 0)
    const isVerified = verifies || count('verifiedSame') > 0
    return this.now && { ...counted(count, isVerified), unused: unusedOf(this.now.source, rules) }
  }

  /** A lane has died: what it had claimed and not given to its end is free again. */
  freeClaims(lane: number): void {
    if (this.now === undefined) return
    const { index, claims } = this.now.source
    const all = new Claims(claims, index.count, index.sessions.length, lane).all()
    for (const run of all) run.freeClaimed()
  }
}

function checkWanted(load: LoadOptions | undefined): void {
  if (load?.signal.aborted !== true) return
  const message = 'nobody waits for the recording any more; the one that was loaded stays'
  throw new RolltapeError('deadline_passed', message)
}

/**
 * Reads the recording that is to be replayed.
 * @throws RolltapeError `not_found`, `record_malformed`, `tape_corrupt`, `bad_option`;
 *   `deadline_passed` when nobody waits for it any more.
 */
export async function openReplay(
  file: string,
  config: RolltapeConfig,
  log: LaneLog,
  load?: LoadOptions,
): Promise<LaneReplay> {
  checkWanted(load)
  const say = progressLog(log, 'reading the recording')
  const ignore = ignoreRules(config.ignore, config.ignoreProfile)
  const source = await buildReplaySource({
    file,
    ignore,
    onProgress: (done, total) => {
      say(done, total)
      load?.onProgress(done, total)
    },
  })
  checkWanted(load)
  for (const trouble of source.troubles) log.warn({}, trouble)
  const { index } = source
  return {
    files: source.files,
    folder: source.folder,
    index,
    ignore,
    claims: makeClaimsMemory(index.count, index.sessions.length),
  }
}

/** Generation records that could be served, and that no run has used. */
function unusedOf({ index, claims }: LaneReplay, rules: ServedRules): number {
  const table = new ReplayIndex(index)
  const used = new Uint8Array(index.count)
  for (const run of new Claims(claims, index.count, index.sessions.length).all()) run.markUsed(used)
  let unused = 0
  for (let record = 0; record < index.count; record++) {
    const flags = table.flags(record)
    if (used[record] === 0 && (flags & IS_GENERATION) !== 0 && isServed(flags, rules)) unused++
  }
  return unused
}

/** Counts of all lanes. */
function counted(
  counter: (name: CounterName) => number,
  verifies: boolean,
): Omit<Verdict, 'unused'> {
  return {
    servedExact: counter('servedExact'),
    servedByRule: counter('servedByRule'),
    missed: counter('missed'),
    exhausted: counter('exhausted'),
    aborted: counter('aborted'),
    unusable: counter('unusable'),
    modelMismatch: counter('modelMismatch'),
    live: counter('live'),
    verified: verifies
      ? {
          same: counter('verifiedSame'),
          different: counter('verifiedDifferent'),
          alone: counter('verifiedAlone'),
        }
      : undefined,
  }
}
