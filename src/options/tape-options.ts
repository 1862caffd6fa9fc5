/** The options of the tape's files as a caller gives them, and as they are once checked. */
import type { BytesOption } from '../options.ts'
import type { OptionValues } from './definitions.ts'
import type { TapeRetain } from './retention.ts'

/** Part of what a library user passes to `startRolltape`. */
export interface TapeFace {
  /** Size at which a segment is closed, from 64 KiB. Default 256 MiB. */
  readonly segmentBytes?: BytesOption
  /** How segments are packed once all their exchanges have records. Default `zstd`. */
  readonly tapeCompress?: 'zstd' | 'off'
  /** `keep` (default), `until-derived`, a size (`100GiB`) or an age (`7d`). */
  readonly tapeRetain?: string
}

/** Part of a configuration. */
export interface TapeConfig {
  readonly segmentBytes: number
  readonly tapeCompress: 'zstd' | 'off'
  readonly tapeRetain: TapeRetain
}

/** The tape's part of a configuration. */
export function tapeConfigOf({ segmentBytes, tapeCompress, tapeRetain }: OptionValues): TapeConfig {
  return { segmentBytes, tapeCompress, tapeRetain }
}
