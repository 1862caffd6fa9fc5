/** The options of how much is served at once; part of the table in `definitions.ts`. */
import { QUEUE_MAX } from '../limits.ts'
import type { OptionDefinition } from './definition.ts'
import { bytes, duration, whole } from './kinds.ts'

/** How many exchanges run at once, who waits, and for how long. */
export const CAPACITY_OPTIONS = {
  maxInFlight: {
    kind: whole(0, 1_000_000, '512'),
    default: '0',
    shown: 'no bound',
    group: 'capacity',
    help: 'exchanges that run at once, over all lanes; 0 is no bound',
    why: 'what an engine takes at once: more only wait there, where nobody sees them',
  },
  maxInFlightBytes: {
    kind: bytes(0, '0 bytes', '4GiB'),
    default: '1GiB',
    group: 'capacity',
    help: 'what running exchanges may hold in memory, over all lanes; 0 is no bound',
    why: 'request bodies as far as they are kept, and 64 KiB for each answer',
  },
  maxQueue: {
    kind: whole(0, QUEUE_MAX, '1024'),
    default: '1024',
    group: 'capacity',
    help: 'requests that may wait for a place; those over it get 429, with 0 all that find none',
    why: 'their bodies are not read meanwhile: each holds 64 KiB at most',
  },
  queueTimeout: {
    kind: duration('30s'),
    default: '30s',
    group: 'capacity',
    help: 'time a request waits for a place before it gets 429; 0 is no bound',
    why: 'a client that is told early can go elsewhere',
  },
  clientHeaderTimeout: {
    kind: duration('60s'),
    default: '60s',
    group: 'capacity',
    help: 'time until the head of a request must have come; 0 is no bound',
    why: 'who opens connections and says nothing may not hold them',
  },
  clientBodyTimeout: {
    kind: duration('60s'),
    default: '60s',
    group: 'capacity',
    help: 'time between two pieces of a request body before it gets 408; 0 is no bound',
    why: 'counts only while rolltape reads: a slow upstream is not the client',
  },
} as const satisfies Record<string, OptionDefinition>
