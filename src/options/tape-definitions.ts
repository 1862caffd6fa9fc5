/** The options of the tape's files; part of the table in `definitions.ts`. */
import type { OptionDefinition } from './definition.ts'
import { bytes, choice, toggle } from './kinds.ts'
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
  minFreeBytes: {
    kind: bytes(0, '0 bytes', '256MiB'),
    default: '256MiB',
    group: 'recording',
    help: 'free space under which new exchanges are treated as on_tape_failure says; 0 is no bound',
    why: 'what is in flight gets its room to end, and a full disk takes other programs along',
  },
  takeOver: {
    kind: toggle(),
    default: 'false',
    group: 'recording',
    help: 'record although another process may, where its lock cannot be proven to be left behind',
    why: 'only for a recorder that is gone for certain: two of them ruin a recording',
    flagOnly: true,
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
