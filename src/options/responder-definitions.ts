/** The options of upstreams that are responders; part of the table in `definitions.ts`. */
import { RESPONDER_QUEUE_MAX } from '../limits.ts'
import type { OptionDefinition } from './definition.ts'
import { Refusal, duration, whole } from './kinds.ts'
import type { Kind } from './kinds.ts'

const status: Kind<503 | 504> = {
  placeholder: '<503|504>',
  expected: '503 or 504',
  example: '503',
  repeatable: false,
  parse(value) {
    const found = ([503, 504] as const).find((status) => String(status) === String(value))
    if (found === undefined) throw new Refusal()
    return found
  },
}

/** How requests wait for a responder. */
export const RESPONDER_OPTIONS = {
  responderQueue: {
    kind: whole(1, RESPONDER_QUEUE_MAX, '4096'),
    default: '4096',
    group: 'responder',
    help: 'requests that may wait in one queue; those over it get 429',
    why: 'their bodies are kept in memory, 256 MiB of them at most',
  },
  responderWait: {
    kind: duration('60s'),
    default: '60s',
    group: 'responder',
    help: 'time a request waits for a responder to take it; 0 is no bound',
    why: 'long enough for a trainer that loads weights or starts anew',
  },
  onNoResponder: {
    kind: status,
    default: '503',
    group: 'responder',
    help: 'status when none has taken it by then',
    why: '503 comes with Retry-After; some clients tell both apart',
  },
} as const satisfies Record<string, OptionDefinition>
