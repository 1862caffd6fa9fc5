/** The options of the tape's files as a caller gives them, and as they are once checked. */
import { RolltapeError } from '../errors.ts'
import type { BytesOption } from '../options.ts'
import type { OptionValues } from './definitions.ts'
import type { TapeRetain } from './retention.ts'

/** Part of what a library user passes to `startRolltape`. */
export interface TapeFace {
  /** Size at which a segment is closed, from 64 KiB. Default 256 MiB. */
  readonly segmentBytes?: BytesOption
  /** Whether requests stand in the records, or on the tape alone. Default `full`. */
  readonly recordRequests?: 'full' | 'ref'
  /** Free space under which new exchanges are treated as `onTapeFailure` says. Default 256 MiB. */
  readonly minFreeBytes?: BytesOption
  /** Take a lock that cannot be proven to be left behind. Default false. */
  readonly takeOver?: boolean
  /** How segments are packed once all their exchanges have records. Default `zstd`. */
  readonly tapeCompress?: 'zstd' | 'off'
  /** `keep` (default), `until-derived`, a size (`100GiB`) or an age (`7d`). */
  readonly tapeRetain?: string
}

/** Part of a configuration. */
export interface TapeConfig {
  readonly segmentBytes: number
  readonly recordRequests: 'full' | 'ref'
  /** 0 is no bound. */
  readonly minFreeBytes: number
  readonly takeOver: boolean
  readonly tapeCompress: 'zstd' | 'off'
  readonly tapeRetain: TapeRetain
}

/**
 * The tape's part of a configuration.
 * @throws RolltapeError `bad_option` where requests would be nowhere.
 */
export function tapeConfigOf(values: OptionValues): TapeConfig {
  const { recordRequests, tapeRetain } = values
  if (recordRequests === 'ref' && tapeRetain.kind === 'until_derived') {
    throw new RolltapeError(
      'bad_option',
      'record_requests ref leaves requests on the tape alone, and tape_retain until-derived removes it',
      { hint: 'give one of the two, or an age or a size as --tape-retain' },
    )
  }
  const { segmentBytes, minFreeBytes, takeOver, tapeCompress } = values
  return { segmentBytes, recordRequests, minFreeBytes, takeOver, tapeCompress, tapeRetain }
}
