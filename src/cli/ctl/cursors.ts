/** `ctl cursors`, `seek`, `reset` and `fork`: how far a replay has come, and moving it. */
import { Command } from 'commander'

import { Cursor } from '../../control/gen/rolltape/control/v1/control.ts'
import { RolltapeError } from '../../errors.ts'
import { Table } from '../table.ts'
import { EXIT, say, type Terminal } from '../terminal.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { sayJson } from './output.ts'

const CURSORS = new Table([
  { title: 'RUN', width: 16 },
  { title: 'SESSION', width: 30 },
  { title: 'RECORDED', width: 30 },
  { title: 'POSITION', width: 12, align: 'right' },
  { title: 'USED', width: 6, align: 'right' },
  { title: 'CLAIMED', width: 7, align: 'right' },
])

interface RunFlags extends ConnectionFlags {
  readonly run?: string
}

interface SeekFlags extends RunFlags {
  readonly expected?: string
}

/** Prints cursors as a table. */
export function sayCursors(terminal: Terminal, cursors: readonly Cursor[]): void {
  say(terminal, CURSORS.header())
  for (const cursor of cursors) say(terminal, rowOf(cursor))
}

/** Makes `ctl cursors`. */
export function cursorsVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('cursors')
    .description('List how far each run has come in each session of the recording')
    .argument('[session]', 'only this one')
    .option('--run <run>', 'only of this run')
  return addConnection(command).action(async (session: string | undefined, flags: RunFlags) => {
    const run = flags.run ?? ''
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const json = flags.json === true
        if (session !== undefined) {
          const { cursor } = await to.call(to.client.getCursor, { run, session })
          tell(terminal, json, cursor)
          return EXIT.done
        }
        if (!json) say(terminal, CURSORS.header())
        for (let pageToken = '', more = true; more; more = pageToken !== '') {
          const page = await to.call(to.client.listCursors, { run, pageSize: 0, pageToken })
          for (const cursor of page.cursors) {
            if (json) sayJson(terminal, Cursor.toJSON(cursor))
            else say(terminal, rowOf(cursor))
          }
          pageToken = page.nextPageToken
        }
        return EXIT.done
      }),
    )
  })
}

/** Makes `ctl seek`. */
export function seekVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('seek')
    .description('Move a cursor: records before the position count as used, the others are free')
    .argument('<session>', 'who asks, or the recorded session')
    .argument('<position>', 'where to, from 0')
    .option('--run <run>', 'the run', 'default')
    .option('--expected <position>', 'move it only if it stands there')
  return addConnection(command).action(
    async (session: string, position: string, flags: SeekFlags) => {
      const request = {
        run: flags.run ?? '',
        session,
        position: wholeOf('position', position),
        expectedPosition:
          flags.expected === undefined ? undefined : wholeOf('--expected', flags.expected),
      }
      finish(
        await Connection.use(flags, terminal, async (to) => {
          const { cursor } = await to.call(to.client.seekCursor, request)
          tell(terminal, flags.json === true, cursor)
          return EXIT.done
        }),
      )
    },
  )
}

/** Makes `ctl reset`. */
export function resetVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('reset')
    .description("Begin a session's replay anew, or with none named that of a whole run")
    .argument('[session]', 'who asks, or the recorded session')
    .option('--run <run>', 'the run', 'default')
  return addConnection(command).action(async (session: string | undefined, flags: RunFlags) => {
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const request = { run: flags.run ?? '', session: session ?? '' }
        const { cursor } = await to.call(to.client.resetCursors, request)
        if (cursor !== undefined) tell(terminal, flags.json === true, cursor)
        else if (flags.json === true) sayJson(terminal, {})
        else say(terminal, `run ${flags.run ?? 'default'} begins anew`)
        return EXIT.done
      }),
    )
  })
}

/** Makes `ctl fork`. */
export function forkVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('fork')
    .description("Take a session's cursor over into another run")
    .argument('<session>', 'who asks, or the recorded session')
    .argument('<to-run>', 'the run that takes over')
    .argument('[to-session]', 'the session of it that will ask (default: the same id)')
    .option('--run <run>', 'the run', 'default')
  return addConnection(command).action(
    async (session: string, toRun: string, toSession: string | undefined, flags: RunFlags) => {
      const request = { run: flags.run ?? '', session, toRun, toSession: toSession ?? '' }
      finish(
        await Connection.use(flags, terminal, async (to) => {
          const { cursor } = await to.call(to.client.forkCursor, request)
          tell(terminal, flags.json === true, cursor)
          return EXIT.done
        }),
      )
    },
  )
}

function tell(terminal: Terminal, json: boolean, cursor: Cursor | undefined): void {
  if (cursor === undefined) return
  if (json) sayJson(terminal, Cursor.toJSON(cursor))
  else sayCursors(terminal, [cursor])
}

function rowOf({ run, session, recordedSession, position, total, used, claimed }: Cursor): string {
  const asks = session === '' ? '-' : session
  const numbers = [`${position}/${total}`, String(used), String(claimed)]
  return CURSORS.row([run, asks, recordedSession, ...numbers])
}

function wholeOf(what: string, written: string): number {
  if (/^\d{1,15}$/.test(written)) return Number(written)
  throw new RolltapeError('bad_option', `${what}: '${written}' is no whole number from 0`)
}
