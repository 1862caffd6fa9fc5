/** `ctl mode`: what is done with requests, of all sessions or of one. */
import { Command } from 'commander'

import {
  Mode,
  SetModeResponse,
  Shape,
  modeToJSON,
  shapeToJSON,
  type SetModeRequest,
} from '../../control/gen/rolltape/control/v1/control.ts'
import { MODE, SHAPE } from '../../control/messages.ts'
import { RolltapeError } from '../../errors.ts'
import { MODES } from '../../mode.ts'
import type { Terminal } from '../terminal.ts'
import type { ConnectionFlags } from './connection.ts'
import { facts, word } from './output.ts'
import { doVerb } from './verb.ts'

interface ModeFlags extends ConnectionFlags {
  readonly session?: string
  readonly pace?: string
  readonly shape?: string
  readonly replayTurns?: string
  readonly clear?: boolean
  readonly replayFile?: string
  readonly recordingFile?: string
  readonly expectedGeneration?: string
}

/** Makes `ctl mode`. */
export function modeVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('mode')
    .description(
      'Serve in another mode, all sessions or one; what was accepted before keeps its mode to its end',
    )
    .argument('[mode]', `one of ${MODES.join(', ')}`)
    .option('--session <id>', 'only this session')
    .option('--pace <pace>', "the session's own: instant, original, x<factor> or ttft=<ms>,tps=<n>")
    .option('--shape <recorded|single>', "the session's own: recorded chunks, or one")
    .option('--replay-turns <n>', 'of the session only the first so many turns are replayed')
    .option('--clear', 'take back all that the session has of its own')
    .option('--replay-file <path>', 'the recording to answer from, as rolltape sees it')
    .option('--recording-file <file.jsonl>', 'the file to record to, as rolltape sees it')
    .option('--expected-generation <n>', 'only if nobody else has switched since')
  return doVerb<ModeFlags, SetModeResponse>(
    command,
    {
      ask: (to, flags, [mode]) => to.call(to.client.setMode, requestOf(mode, flags)),
      json: (answer) => SetModeResponse.toJSON(answer),
      lines,
    },
    terminal,
    finish,
  )
}

function requestOf(mode: string | undefined, flags: ModeFlags): SetModeRequest {
  return {
    mode: mode === undefined ? Mode.UNSPECIFIED : among(MODE, mode, 'mode'),
    session: flags.session ?? '',
    pace: flags.pace ?? '',
    shape: flags.shape === undefined ? Shape.UNSPECIFIED : among(SHAPE, flags.shape, '--shape'),
    replayTurns: wholeOf(flags.replayTurns, '--replay-turns'),
    clear: flags.clear === true,
    replayFile: flags.replayFile ?? '',
    recordingFile: flags.recordingFile ?? '',
    expectedGeneration: wholeOf(flags.expectedGeneration, '--expected-generation'),
  }
}

function lines(answer: SetModeResponse, { session }: ModeFlags): string[] {
  const { previousMode, mode, generation, settings } = answer
  const [was, is] = [word(modeToJSON(previousMode)), word(modeToJSON(mode))]
  const own = settings && [
    settings.mode !== Mode.UNSPECIFIED && `mode ${word(modeToJSON(settings.mode))}`,
    settings.pace !== '' && `pace ${settings.pace}`,
    settings.shape !== Shape.UNSPECIFIED && `shape ${word(shapeToJSON(settings.shape))}`,
    settings.replayTurns !== undefined && `replay-turns ${settings.replayTurns}`,
  ]
  return facts([
    ['mode', `${is}, before ${was}, generation ${generation}`],
    ['session', session],
    ['its own', own?.filter((one) => one !== false).join(', ')],
  ])
}

function among<T>(known: Readonly<Record<string, T>>, given: string, what: string): T {
  const found = Object.hasOwn(known, given) ? known[given] : undefined
  if (found !== undefined) return found
  const names = Object.keys(known).join(', ')
  throw new RolltapeError('bad_option', `${what}: '${given}' is not one of ${names}`)
}

function wholeOf(given: string | undefined, what: string): number | undefined {
  if (given === undefined) return undefined
  if (/^\d{1,15}$/.test(given)) return Number(given)
  throw new RolltapeError('bad_option', `${what}: '${given}' is not a whole number`)
}
