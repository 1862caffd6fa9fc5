/** `ctl load` and `ctl unload`: the recording to answer from. */
import { Command } from 'commander'

import {
  LoadTapeResponse,
  UnloadTapeResponse,
  modeToJSON,
  type TapeLoaded,
} from '../../control/gen/rolltape/control/v1/control.ts'
import { Progress } from '../progress.ts'
import { EXIT, printable, say, type Terminal } from '../terminal.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { facts, sayJson, word } from './output.ts'
import { doVerb } from './verb.ts'

/** Makes `ctl load`. */
export function loadVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('load')
    .description('Read a recording and answer from it from then on, in modes that replay')
    .argument('<file>', 'a .jsonl or a tape folder, as rolltape sees it')
  return addConnection(command).action(async (file: string, flags: ConnectionFlags) => {
    finish(await Connection.use(flags, terminal, (to) => load(to, file, flags, terminal)))
  })
}

/** Makes `ctl unload`. */
export function unloadVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('unload').description('Answer from no recording any more')
  return doVerb<ConnectionFlags, UnloadTapeResponse>(
    command,
    {
      ask: (to) => to.call(to.client.unloadTape, {}),
      json: (answer) => UnloadTapeResponse.toJSON(answer),
      lines: ({ file, mode, generation }) =>
        facts([
          ['left', file],
          ['mode', `${word(modeToJSON(mode))}, generation ${generation}`],
        ]),
    },
    terminal,
    finish,
  )
}

async function load(
  to: Connection,
  file: string,
  flags: ConnectionFlags,
  terminal: Terminal,
): Promise<number> {
  const stream = to.stream(to.client.loadTape, { file })
  const stop = (): void => stream.cancel()
  terminal.stopping.addEventListener('abort', stop)
  const progress = new Progress(terminal)
  try {
    for await (const message of stream) {
      const { event } = message as LoadTapeResponse
      if (flags.json === true) sayJson(terminal, LoadTapeResponse.toJSON({ event }))
      else if (event?.$case === 'progress') {
        progress.update(event.value.doneBytes, event.value.totalBytes)
      } else if (event?.$case === 'loaded') {
        progress.clear()
        for (const line of loadedLines(event.value)) say(terminal, printable(line))
      }
    }
    return EXIT.done
  } finally {
    progress.clear()
    terminal.stopping.removeEventListener('abort', stop)
  }
}

function loadedLines({ replay, mode, generation }: TapeLoaded): string[] {
  return facts([
    ['replay', `${replay?.file}: ${replay?.records} records, ${replay?.sessions} sessions`],
    ['mode', `${word(modeToJSON(mode))}, generation ${generation}`],
  ])
}
