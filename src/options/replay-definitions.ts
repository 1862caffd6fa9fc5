/** The options of replay; part of the table in `definitions.ts`. */
import { FAIL_ON } from '../replay/verdict.ts'
import type { OptionDefinition } from './definition.ts'
import { choice, list, pace, pointer, text, toggle, whole } from './kinds.ts'
import { overrides } from './overrides.ts'

/** How a recording is replayed. */
export const REPLAY_OPTIONS = {
  replayFile: {
    kind: text('path', 'runs/a.jsonl'),
    default: null,
    shown: 'none',
    group: 'replay',
    help: 'answer from this recording, a .jsonl or a tape folder; no upstream is asked',
    why: 'together with recording_file in hybrid and verify only; a tape makes answers exact to the byte',
  },
  match: {
    kind: choice(['keyed', 'sequence', 'pooled'], 'keyed'),
    default: 'keyed',
    group: 'replay',
    help: 'how a record is chosen: by what is asked, in recorded order, by what over all sessions',
    why: 'keyed survives parallel calls; sequence is one cursor per session, whatever is asked',
  },
  sessionMatch: {
    kind: choice(['bind', 'exact', 'pooled'], 'bind'),
    default: 'bind',
    group: 'replay',
    help: 'how an asking session finds its recorded one: bound at first sight, by name, not at all',
    why: 'agents make up new session ids for every run',
  },
  pace: {
    kind: pace('original'),
    default: 'instant',
    group: 'replay',
    help: 'how fast answers come: at once, as recorded, faster or slower, at rates of your own',
    why: 'instant for tests, original to see an agent as it was',
  },
  shape: {
    kind: choice(['recorded', 'single'], 'recorded'),
    default: 'recorded',
    group: 'replay',
    help: 'a recorded stream comes in its own chunks, or all of it in one chunk and the mark',
    why: 'single for clients that are slow to parse, or tests that count chunks',
  },
  onExhausted: {
    kind: choice(['error', 'repeat_last', 'loop', 'live'], 'error'),
    default: null,
    shown: 'error; live in hybrid',
    group: 'replay',
    help: 'when all records that fit have been given: 404, the last one again, all from the start, or (hybrid) ask the upstream',
    why: 'an agent that asks more often than it did has left its recording',
  },
  onMiss: {
    kind: choice(['error', 'passthrough', 'record'], 'record'),
    default: null,
    shown: 'error; in hybrid record, passthrough without a recording_file',
    group: 'replay',
    help: 'a request that was not recorded: 404, or (hybrid) ask the upstream, and record it or not',
    why: 'replay never reaches the network; hybrid goes on where the recording ends',
  },
  replayTurns: {
    kind: whole(0, 1_000_000_000, '3'),
    default: null,
    shown: 'all',
    group: 'replay',
    help: 'hybrid: answer the first so many turns of each session from the recording, then go live',
    why: 'to try another model or prompt from a certain turn on',
  },
  sessionOverride: {
    kind: overrides,
    default: null,
    shown: 'none',
    group: 'replay',
    help: 'what one session has of its own: `<session>:mode|pace|shape|replay-turns=<value>`',
    why: 'headers x-rolltape-pace, -shape and -replay-turns do the same for clients that can set them',
  },
  onUnusable: {
    kind: choice(['error', 'skip'], 'error'),
    default: 'error',
    group: 'replay',
    help: 'a record that there is no answer of: 500 as often as it is its turn, or passed over',
    why: 'an agent should not go on with an answer that belongs to a later step',
  },
  onAbort: {
    kind: choice(['rewind', 'consume'], 'rewind'),
    default: 'rewind',
    group: 'replay',
    help: 'a record whose client left before its end: free again, or used',
    why: 'a client that asks again gets the same answer',
  },
  replayPartial: {
    kind: toggle(),
    default: 'false',
    group: 'replay',
    help: 'serve answers too whose client had left, or that a crash cut',
    why: 'nobody ever saw their end',
  },
  failOn: {
    kind: list(choice(FAIL_ON, 'miss'), 'conditions', 'miss'),
    default: null,
    shown: 'none',
    group: 'replay',
    help: 'what in the verdict at the end makes the exit code 1',
    why: 'a test run should fail when its agent has left the recording',
  },
  ignore: {
    kind: list(pointer('/metadata/user_id'), 'JSON pointers', '/metadata/user_id'),
    default: null,
    shown: 'none',
    group: 'replay',
    help: 'JSON pointer to what does not count in request bodies (`*` is any part)',
    why: 'ids and dates that are new in every run would match nothing',
  },
  ignoreProfile: {
    kind: list(text('name or file', 'codex'), 'names of profiles or paths of files', 'codex'),
    default: null,
    shown: 'none',
    group: 'replay',
    help: 'what is new in every run of a known agent: codex, claude-code, opencode, gemini-cli, qwen-code, or a file of your own',
    why: 'spares finding out what to --ignore',
  },
} as const satisfies Record<string, OptionDefinition>
