/**
 * `rolltape explain`: what a recording has for a request, and if nothing, why. The same that a 404
 * of a replay says, offline.
 */
import { text as readText } from 'node:stream/consumers'

import { Command } from 'commander'

import { RolltapeError } from '../errors.ts'
import { explainRecording, parseAskedBody } from '../replay/explain-recording.ts'
import { keyHead } from '../replay/key.ts'
import { ignoreRules } from '../replay/profiles.ts'
import { addOptions } from './options.ts'
import { withProgress } from './progress.ts'
import { openWholeRecords } from './source.ts'
import { EXIT, printable, say, type Terminal } from './terminal.ts'

interface ExplainFlags {
  readonly replayFile?: string
  readonly ignore?: string[]
  readonly ignoreProfile?: string[]
  readonly method: string
  readonly path: string
  readonly json?: boolean
}

/** Makes the command. Exit code 0 when the request is recorded, else 1. */
export function explainCommand(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('explain')
    .summary('tell why a request is not in a recording')
    .description(
      'Read a request body from stdin and tell which recorded request comes nearest, where it ' +
        'differs, and what to ignore. Exit code 0 when it is recorded',
    )
    .option('--method <method>', 'method of the request', 'POST')
    .option('--path <path>', 'path of the request', '/v1/chat/completions')
    .option('--json', 'print one JSON object')
  return addOptions(command, ['replayFile', 'ignore', 'ignoreProfile']).action(
    async (flags: ExplainFlags) => finish(await run(flags, terminal)),
  )
}

async function run(flags: ExplainFlags, terminal: Terminal): Promise<number> {
  const { replayFile, method, path, ignore = [], ignoreProfile = [] } = flags
  if (replayFile === undefined) {
    throw new RolltapeError('bad_option', 'explain needs a recording, and none is given', {
      hint: 'give --replay-file, such as runs/a.jsonl',
    })
  }
  const rules = ignoreRules(ignore, ignoreProfile)
  const body = parseAskedBody(await readText(process.stdin), 'the body on stdin')
  const asked = { head: keyHead(method, path), body }
  const { found, text, ...nearest } = await withProgress(terminal, (progress) => {
    const records = openWholeRecords(replayFile, { parts: true, ...progress })
    return explainRecording(records, asked, rules)
  })
  if (flags.json === true) say(terminal, JSON.stringify({ found, ...nearest }))
  else say(terminal, printable(text))
  return found ? EXIT.done : EXIT.failed
}
