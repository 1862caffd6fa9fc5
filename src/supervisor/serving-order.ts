/** What a lane is told of how it is to serve: made anew for each switch, from what holds then. */
import type { ServingOrder } from '../lane/parts.ts'
import { packConfig } from '../options.ts'
import type { RolltapeConfig } from '../options.ts'
import type { Recording } from './recording.ts'
import { endsLive, onMissOf } from './switching.ts'
import type { Modes } from './switching.ts'

/** What holds. */
export interface Held extends Pick<ServingOrder, 'policyVersion' | 'responderSocket' | 'replay'> {
  readonly config: RolltapeConfig
  readonly modes: Modes
  /** Undefined when nothing is recorded. */
  readonly recording: Recording | undefined
}

/** How this lane is to serve. */
export function servingOrder(lane: number, held: Held): ServingOrder {
  const { config, modes, recording, ...rest } = held
  const { generation, mode, overrides } = modes
  return {
    ...rest,
    generation,
    config: packConfig(config),
    mode,
    onMiss: onMissOf(config, { hasRecording: recording !== undefined }),
    endsLive: endsLive(config),
    overrides,
    recording: recording && {
      folder: recording.folder,
      recordingId: recording.recordingId,
      firstSegment: recording.firstSegment(lane),
      appender: recording.appender,
      part: recording.part,
      memory: recording.tables.memory,
      hmacKey: recording.hmacKey,
    },
  }
}
