/** `ctl sessions`, `session`, `close` and `annotate`: what sessions come to, and what is said of them. */
import { Command } from 'commander'

import {
  AnnotateSessionResponse,
  CloseSessionResponse,
  Mode,
  Outcome,
  Session,
} from '../../control/gen/rolltape/control/v1/control.ts'
import { RolltapeError } from '../../errors.ts'
import { Table } from '../table.ts'
import { EXIT, say, type Terminal } from '../terminal.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { sayCursors } from './cursors.ts'
import { facts, sayJson } from './output.ts'

const SESSIONS = new Table([
  { title: 'SESSION', width: 36 },
  { title: 'EXCHANGES', width: 9, align: 'right' },
  { title: 'TURNS', width: 6, align: 'right' },
  { title: 'TOKENS IN', width: 10, align: 'right' },
  { title: 'OUT', width: 10, align: 'right' },
  { title: 'LAST', width: 24 },
  { title: 'OUTCOMES', width: 40 },
])

interface CloseFlags extends ConnectionFlags {
  readonly freeze?: boolean
}

interface AnnotateFlags extends ConnectionFlags {
  readonly tag: readonly string[]
  readonly reward?: string
  readonly done?: boolean
  readonly note?: string
}

/** Makes `ctl sessions`. */
export function sessionsVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('sessions').description(
    'List sessions: exchanges, turns, tokens and outcomes since the start',
  )
  return addConnection(command).action(async (flags: ConnectionFlags) => {
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const json = flags.json === true
        if (!json) say(terminal, SESSIONS.header())
        for (let pageToken = '', more = true; more; more = pageToken !== '') {
          const page = await to.call(to.client.listSessions, { pageSize: 0, pageToken })
          for (const session of page.sessions) {
            if (json) sayJson(terminal, Session.toJSON(session))
            else say(terminal, sessionRow(session))
          }
          pageToken = page.nextPageToken
        }
        return EXIT.done
      }),
    )
  })
}

/** Makes `ctl session`. */
export function sessionVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('session')
    .description('Tell what one session came to')
    .argument('<id>', 'the session')
  return addConnection(command).action(async (id: string, flags: ConnectionFlags) => {
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const { session } = await to.call(to.client.getSession, { session: id })
        if (session === undefined) return EXIT.failed
        if (flags.json === true) sayJson(terminal, Session.toJSON(session))
        else for (const line of sessionFacts(session)) say(terminal, line)
        return EXIT.done
      }),
    )
  })
}

/** Makes `ctl close`. */
export function closeVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('close')
    .description('End a session: take back what it has of its own, tell what it left unused')
    .argument('<id>', 'the session')
    .option('--freeze', 'it takes no more calls, for good; waits for those in flight')
  return addConnection(command).action(async (id: string, flags: CloseFlags) => {
    const request = { session: id, freeze: flags.freeze === true }
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const reply = await to.call(to.client.closeSession, request)
        if (flags.json === true) sayJson(terminal, CloseSessionResponse.toJSON(reply))
        else sayClosed(terminal, reply)
        return EXIT.done
      }),
    )
  })
}

function sayClosed(terminal: Terminal, reply: CloseSessionResponse): void {
  const { session, cursors, unused, snapshot } = reply
  for (const line of session ? sessionFacts(session) : []) say(terminal, line)
  if (cursors.length > 0) sayCursors(terminal, cursors)
  if (snapshot !== undefined) {
    const { id, version, records, sha256 } = snapshot
    const frozen = `${id}, version ${version}, ${records} records, sha256 ${sha256}`
    for (const line of facts([['frozen', frozen]])) say(terminal, line)
  }
  say(terminal, `closed; ${unused} records of it nobody has asked for`)
}

/** Makes `ctl annotate`. */
export function annotateVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('annotate')
    .description('Write down beside the recording what a session was worth')
    .argument('<id>', 'the session')
    .option('--tag <k=v>', 'a label; may be repeated', gather, [])
    .option('--reward <number>', 'what it was worth')
    .option('--done', 'it is over')
    .option('--note <text>', 'a remark')
  return addConnection(command).action(async (id: string, flags: AnnotateFlags) => {
    const request = {
      session: id,
      tags: Object.fromEntries(flags.tag.map(pairOf)),
      reward: flags.reward === undefined ? undefined : numberOf(flags.reward),
      done: flags.done,
      note: flags.note ?? '',
    }
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const reply = await to.call(to.client.annotateSession, request)
        if (flags.json === true) sayJson(terminal, AnnotateSessionResponse.toJSON(reply))
        else say(terminal, `written to ${reply.file}`)
        return EXIT.done
      }),
    )
  })
}

function gather(value: string, before: readonly string[]): string[] {
  return [...before, value]
}

function pairOf(written: string): [string, string] {
  const at = written.indexOf('=')
  if (at < 1) {
    throw new RolltapeError('bad_option', `--tag: '${written}' is no label; for example env=dev`)
  }
  return [written.slice(0, at), written.slice(at + 1)]
}

function numberOf(written: string): number {
  const value = Number(written)
  if (written.trim() !== '' && Number.isFinite(value)) return value
  throw new RolltapeError('bad_option', `--reward: '${written}' is no number; for example 0.5`)
}

function outcomesOf({ outcomes }: Session): string {
  const named = new Map(Object.entries(Outcome).map(([name, value]) => [value as number, name]))
  return outcomes
    .map(({ outcome, count }) => `${(named.get(outcome) ?? '').toLowerCase()} ${count}`)
    .join(', ')
}

function sessionRow(session: Session): string {
  const { id, exchanges, turns, inputTokens, outputTokens, lastTime } = session
  const numbers = [exchanges, turns, inputTokens, outputTokens].map(String)
  return SESSIONS.row([id, ...numbers, lastTime?.toISOString() ?? '', outcomesOf(session)])
}

function sessionFacts(session: Session): string[] {
  const mode = Object.entries(Mode).find(([, value]) => value === session.mode)?.[0]
  return facts([
    ['session', session.id],
    ['exchanges', String(session.exchanges)],
    ['turns', String(session.turns)],
    ['tokens', `${session.inputTokens} in, ${session.outputTokens} out`],
    ['outcomes', outcomesOf(session)],
    ['first', session.firstTime?.toISOString()],
    ['last', session.lastTime?.toISOString()],
    ['own mode', session.mode === Mode.UNSPECIFIED ? undefined : mode?.toLowerCase()],
  ])
}
