/** A replay source from the supervisor's side: read once at start, then shared by all lanes. */
import type { LaneLog } from '../lane/context.ts'
import type { LaneReplay } from '../lane/player.ts'
import type { RolltapeConfig } from '../options.ts'
import { buildReplaySource } from '../replay/build.ts'
import { Claims, makeClaimsMemory } from '../replay/claims.ts'
import { ReplayIndex } from '../replay/index-table.ts'
import { IS_GENERATION } from '../replay/packed.ts'
import { ignoreRules } from '../replay/profiles.ts'
import type { Verdict } from '../replay/verdict.ts'
import { progressLog } from './log.ts'
import type { CounterName } from './shared.ts'

/**
 * Reads the recording that is to be replayed.
 * @throws RolltapeError `not_found`, `record_malformed`, `tape_corrupt`, `bad_option`.
 */
export async function openReplay(
  file: string,
  config: RolltapeConfig,
  log: LaneLog,
): Promise<LaneReplay> {
  const ignore = ignoreRules(config.ignore, config.ignoreProfile)
  const source = await buildReplaySource({
    file,
    ignore,
    onProgress: progressLog(log, 'reading the recording'),
  })
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

/** Frees what a dead lane had claimed and not given to its end. */
export function freeClaims({ index, claims }: LaneReplay, lane: number): void {
  const all = new Claims(claims, index.count, index.sessions.length, lane).all()
  for (const run of all) run.freeClaimed()
}

/** Counts of all lanes and claims of all runs, as a verdict. */
export function verdictOf(
  { index, claims }: LaneReplay,
  counter: (name: CounterName) => number,
  verifies: boolean,
): Verdict {
  const table = new ReplayIndex(index)
  const used = new Uint8Array(index.count)
  for (const run of new Claims(claims, index.count, index.sessions.length).all()) run.markUsed(used)
  let unused = 0
  for (let record = 0; record < index.count; record++) {
    if (used[record] === 0 && (table.flags(record) & IS_GENERATION) !== 0) unused++
  }
  return {
    servedExact: counter('servedExact'),
    servedByRule: counter('servedByRule'),
    missed: counter('missed'),
    exhausted: counter('exhausted'),
    aborted: counter('aborted'),
    unusable: counter('unusable'),
    modelMismatch: counter('modelMismatch'),
    live: counter('live'),
    unused,
    verified: verifies
      ? {
          same: counter('verifiedSame'),
          different: counter('verifiedDifferent'),
          alone: counter('verifiedAlone'),
        }
      : undefined,
  }
}
