/** `ctl flush`, `ctl rotate` and `ctl shutdown`: the recording, and the end. */
import { Command } from 'commander'

import {
  FlushRecordingResponse,
  RotateRecordingResponse,
  ShutdownResponse,
} from '../../control/gen/rolltape/control/v1/control.ts'
import { RolltapeError } from '../../errors.ts'
import { duration, Refusal } from '../../options/kinds.ts'
import { EXIT, say, type Terminal } from '../terminal.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { facts, sayJson } from './output.ts'
import { recordingLines } from './status.ts'
import { doVerb } from './verb.ts'

/** Makes `ctl flush`. */
export function flushVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('flush').description(
    'Wait until every exchange that is over is on the tape and has its record in the file',
  )
  return addConnection(command).action(async (flags: ConnectionFlags) => {
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const reply = await to.call(to.client.flushRecording, {})
        if (flags.json === true) sayJson(terminal, FlushRecordingResponse.toJSON(reply))
        else if (reply.recording !== undefined) {
          for (const line of recordingLines(reply.recording)) say(terminal, line)
        }
        return EXIT.done
      }),
    )
  })
}

/** Makes `ctl rotate`. */
export function rotateVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('rotate').description(
    'Close the file of records and begin another in its place; no exchange is lost or in both',
  )
  return doVerb<ConnectionFlags, RotateRecordingResponse>(
    command,
    {
      ask: (to) => to.call(to.client.rotateRecording, {}),
      json: (answer) => RotateRecordingResponse.toJSON(answer),
      lines: ({ closed, current }) =>
        facts([
          ['closed', `${closed?.file}: part ${closed?.part}, ${closed?.records} records`],
          ['recording', `${current?.file}: part ${current?.part}`],
        ]),
    },
    terminal,
    finish,
  )
}

/** Makes `ctl shutdown`. */
export function shutdownVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('shutdown')
    .description('Stop it: running exchanges may finish, then everything is on disk')
    .option('--drain-timeout <duration>', 'time they get (default: as it was started with)')
  return addConnection(command).action(
    async (flags: ConnectionFlags & { drainTimeout?: string }) => {
      const drainTimeout = flags.drainTimeout === undefined ? undefined : parse(flags.drainTimeout)
      finish(
        await Connection.use(flags, terminal, async (to) => {
          const reply = await to.call(to.client.shutdown, { drainTimeout })
          if (flags.json === true) sayJson(terminal, ShutdownResponse.toJSON(reply))
          else {
            const until = reply.deadline?.toISOString() ?? ''
            say(terminal, `rolltape stops: ${reply.inFlight} exchanges may run until ${until}`)
          }
          return EXIT.done
        }),
      )
    },
  )
}

function parse(text: string): { seconds: number; nanos: number } {
  const kind = duration('30s')
  try {
    const ms = kind.parse(text, {})
    return { seconds: Math.trunc(ms / 1_000), nanos: (ms % 1_000) * 1e6 }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    const message = `--drain-timeout: '${text}' is not ${kind.expected}; for example ${kind.example}`
    throw new RolltapeError('bad_option', message)
  }
}
