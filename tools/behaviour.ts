/**
 * Writes docs/behaviour.md: what rolltape does, behaviour by behaviour, and the tests that hold it.
 *
 *   node tools/behaviour.ts
 *
 * A test cites the behaviours it holds by id, in front of its name (`R29: a tape that …`). The ids
 * are found in the text of the tests, so nothing has to be run; what an id means stands here.
 */
import { writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { filesOf, ROOT } from './tree.ts'

/** Where the page goes. */
export const PAGE = 'docs/behaviour.md'

/** What each id means. `R` record and replay, `O` token capture and traces, `M` protocols and streams, `L` gateway. */
export const BEHAVIOURS: Readonly<Record<string, string>> = {
  R1: 'Any method and path is forwarded, all but rolltape’s own health paths',
  R2: 'While forwarding, what a body holds is the upstream’s to judge; in replay an empty body counts as `{}`, and what is no JSON object is 400',
  R3: 'One mode per exchange; recording or not, the same goes over the wire (replay comes later)',
  R4: 'Request bodies reach the upstream byte for byte',
  R5: 'End-to-end request headers pass, `Authorization` too; each hop writes its own; `x-rolltape-*` stays here',
  R6: 'The upstream of a model: `proxy_base_url`, else its rule, else the rule `default`, else 400',
  R7: 'How a request’s path is joined with a base that has a path, with or without a version',
  R8: 'Answers pass as sent: status, reason, headers, body, trailers, errors included',
  R9: 'The upstream’s head comes first: an error is never a stream with status 200',
  R10: 'Fields nobody knows survive, to the client and in the record',
  R11: 'What is tried again, how often, and after how long',
  R12: 'When tries are used up: the last answer as it is, or 502/504',
  R13: 'Nothing is tried again once the client has a byte',
  R14: 'Failures before the head are answered 502 or 504, streams too',
  R15: 'Failures after the head destroy the client’s socket; what had come is in the record',
  R16: 'Error answers of the upstream pass as they are',
  R17: 'A recording is made where there is none, and goes on where there is one',
  R18: 'One record per exchange; what is a success and what is not',
  R19: 'The keys of a record, in order; JSON as it was sent',
  R20: 'A stream is assembled to the whole answer, no field dropped',
  R21: 'Server-sent events: the whole grammar, cut at any byte',
  R22: 'What can be replayed, whoever recorded it: blank, malformed and torn lines, tapes alone, files that are missing',
  R23: 'In sequence: one cursor per session, moved by generation requests only',
  R24: 'In sequence, a request that names another model is answered; it is logged and counted',
  R25: 'A recorded answer comes back as it was',
  R26: 'A stream made of a whole answer: one chunk, the usage if asked for, the mark; what is missing is filled in',
  R27: 'In a made stream tool calls have an index: their own, else their position; no field is dropped',
  R28: 'Recorded streamed or whole, an answer comes streamed or whole, as asked, with the same in it',
  R29: 'A recording that has run out answers 404 with the step it ended at',
  R30: 'A record without an answer is 500 and moves nothing, or is passed over; an upstream’s status is that status again',
  R31: 'A recording and a replay source are not given together',
  R32: 'Options keep the names that users know, and have defaults',
  R33: 'Flags beat variables, those the file, that the defaults',
  R34: 'An empty file is defaults; a missing one or an unknown key is an error with a suggestion',
  R35: '`serve --detach`, `status` and `stop`',
  R36: '`/health`, `/healthz`, `/readyz` are rolltape’s own',
  R37: 'What fails inside rolltape is 500 `internal_error`, with a record where one is owed',
  O5: 'Engines are asked for tokens where clients have not asked; what clients asked for, or declined, is what they see',
  O6: '`max_tokens` becomes `max_completion_tokens` for models that want that',
  O7: 'Token limits are capped; what is absent stays absent',
  O8: 'Thinking is switched off unless the client says what it wants',
  O9: 'The model is replaced first, so that later rules see the one that is used',
  O10: 'Bodies are changed in their bytes; both are on the tape; what is no JSON object passes, and that is said',
  R39: 'A responder takes requests over gRPC and answers them, whole or in chunks',
  R40: 'One answer per request; what waits for responders is bounded, in number, bytes and time',
  R41: 'What a responder that died had not begun to answer goes to another one, a bounded number of times',
  R42: 'A session that ends by a call, a command or a process ends its waiting requests, and responders are told',
  O12: 'A base with its version and a client with `/v1` meet at one path (as R7)',
  O13: 'What was put in goes out of the client’s view, whole and streamed, and nothing else',
  O16: 'A stream’s status is the upstream’s (as R9)',
  O17: 'Streams are stripped event by event, each in the moment it is whole; one left empty is dropped',
  O20: 'Tokens per choice, position by position; `aligned` only where all fit',
  O21: 'Where servers put token ids',
  O29: 'An upstream that refuses a field that was put in is asked once more without, and remembered',
  O24: 'The trace survives an interruption',
  O25: 'Reading tolerates a missing file and a torn last line',
  O26: 'Reading takes what other recorders wrote, and what is still being written; turn lines are exported, and replayed',
  O27: '`startRolltape` runs one in this process: `url`, `close()`',
  O28: 'Many rollouts at once, kept apart by session; or one rolltape for each',
  O30: 'What a session comes to: turns, tokens, tool calls, errors, time',
  M1: 'Protocols are told apart and read: chat, completions, Responses, Messages, Gemini',
  M11: 'The path alone tells the protocol',
  M27: 'Credentials reach neither disk nor logs',
  M35: 'Time to first byte is bounded',
  M36: 'The time between two pieces of an answer is bounded',
  M37: 'Heartbeats while an answer is awaited go to the client alone',
  M38: 'A client that leaves cancels its request at the upstream',
  M39: 'Each way to end has its own outcome',
  M40: 'Times of an exchange: first byte, first visible output, whole, longest gap',
  M41: 'What counts as visible output',
  M44: 'Connecting and the whole exchange are bounded; 0 is no bound',
  M53: 'Each try is in the record',
  M55: 'Usage in one form for all protocols',
  M56: 'Usage of Anthropic, whose cache counts stand beside the input',
  M57: 'Usage of Gemini, thoughts included',
  M65: 'Without keys for clients, rolltape listens on loopback only',
  L24: 'So many exchanges run at once, and hold so much; others wait in line for so long, or get 429 with Retry-After; no place is ever lost',
}

/** Ids of what is finished: each must have a test. */
export const FINISHED: readonly string[] = [
  ...range('R', 1, 37),
  ...range('O', 5, 10),
  ...range('R', 39, 42),
  'O12',
  'O13',
  'O16',
  'O17',
  'O20',
  'O21',
  ...range('O', 24, 29),
  'O30',
  'M27',
  ...range('M', 35, 37),
  ...range('M', 39, 41),
  'M44',
]

/** One test that names behaviours. */
export interface CitingTest {
  readonly file: string
  /** Without its ids; `…` for what is filled in when it runs. */
  readonly name: string
  readonly ids: readonly string[]
}

/** All tests that name behaviours, by file. */
export function citingTests(): CitingTest[] {
  return filesOf('test/**/*.test.ts').flatMap(({ path, code }) =>
    [...code.matchAll(/(['"`])((?:[ROML]\d+[, ]*)+): (.+?)(?<!\\)\1/g)].map(
      ([, , ids = '', name = '']) => ({
        file: path,
        name: name.replaceAll(/\$\{[^}]*\}/g, '…').replaceAll(/\\(.)/g, '$1'),
        ids: ids.split(/[, ]+/),
      }),
    ),
  )
}

/** The page as it should be. */
export function behaviourPage(): string {
  const tests = citingTests()
  const rows = Object.entries(BEHAVIOURS).map(([id, what]) => {
    const files = Map.groupBy(
      tests.filter(({ ids }) => ids.includes(id)),
      ({ file }) => file,
    )
    const cells = [...files].map(([file, citing]) => {
      const label = file.replace(/^test\//, '').replace(/\.test\.ts$/, '')
      const names = citing.map(({ name }) => name.replaceAll('|', '\\|'))
      return `[${label}](../${file}): ${names.join('; ')}`
    })
    return `| ${id} | ${what} | ${cells.join('<br>')} |`
  })
  return [
    '# What rolltape does, and which test holds it',
    '',
    `Made by \`node tools/${basename(import.meta.filename)}\` from the names of the tests; a test fails when this page is stale.`,
    'An id is given once and kept for ever. `…` stands for what is filled in when a test runs.',
    '',
    '| id | what | tests |',
    '|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

function range(letter: string, first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => `${letter}${first + index}`)
}

if (import.meta.main) writeFileSync(join(ROOT, PAGE), behaviourPage())
