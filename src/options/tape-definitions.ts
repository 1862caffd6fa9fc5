/** The options of the tape's files; part of the table in `definitions.ts`. */
import type { OptionDefinition } from './definition.ts'
import { bytes, choice } from './kinds.ts'
import { retention } from './retention.ts'

/** How large segments are, what becomes of them. */
export const TAPE_OPTIONS = {
  segmentBytes: {
    kind: bytes(64 * 2 ** 10, '64KiB', '256MiB'),
    default: '256MiB',
    group: 'recording',
    help: 'size at which a tape segment is closed and the next one begun',
    why: 'smaller ones are sealed and shipped sooner, larger ones make fewer files',
  },
  recordRequests: {
    kind: choice(['full', 'ref'], 'full'),
    default: 'full',
    group: 'recording',
    help: 'whether requests stand in the records (full), or on the tape alone (ref)',
    why: 'agents send their whole history each turn: ref keeps it out of the .jsonl',
  },
  tapeCompress: {
    kind: choice(['zstd', 'off'], 'zstd'),
    default: 'zstd',
    group: 'recording',
    help: 'how segments are packed once all their exchanges have records',
    why: 'everything reads packed segments as they are; a thread of lowest priority packs them',
  },
  tapeRetain: {
    kind: retention('7d'),
    default: 'keep',
    group: 'recording',
    help: 'how long finished segments stay; none goes that holds an exchange without a record',
    why: 'the tape is what byte-exact replay and `derive` need; records stay',
  },
} as const satisfies Record<string, OptionDefinition>
