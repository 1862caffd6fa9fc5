/** `ctl tail`: exchanges as they begin and end, one line each, until interrupted. */
import { Command } from 'commander'

import {
  Outcome,
  outcomeToJSON,
  WatchExchangesResponse,
} from '../../control/gen/rolltape/control/v1/control.ts'
import type { ExchangeEnded } from '../../control/gen/rolltape/control/v1/control.ts'
import { formatMs, Table } from '../table.ts'
import { EXIT, say, tell, type Terminal } from '../terminal.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { ms, sayJson } from './output.ts'

const EVENTS = new Table([
  { title: 'TIME (UTC)', width: 12 },
  { title: 'SEQ', width: 7, align: 'right' },
  { title: 'SESSION', width: 20 },
  { title: 'WHAT', width: 14 },
  { title: 'HTTP', width: 4, align: 'right' },
  { title: 'REQUEST', width: 32 },
  { title: 'MODEL', width: 16 },
  { title: 'TTFT', width: 8, align: 'right' },
  { title: 'DURATION', width: 8, align: 'right' },
])

/** All outcomes but the good one. */
const FAILED = Object.values(Outcome).filter(
  (outcome) => outcome !== Outcome.UNSPECIFIED && outcome !== Outcome.COMPLETE,
)

interface TailFlags extends ConnectionFlags {
  readonly failed?: boolean
  readonly session?: string
  readonly model?: string[]
  readonly resume?: string
}

/** Makes `ctl tail`. */
export function tailVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('tail')
    .description('Show exchanges as they begin and end, until interrupted')
    .option('--failed', 'only ends of exchanges that did not complete')
    .option('--session <id>', 'only this session')
    .option('--model <name...>', 'only ends of exchanges with these models')
    .option('--resume <token>', 'go on behind the event that had this resume token')
  return addConnection(command).action(async (flags: TailFlags) => {
    finish(await Connection.use(flags, terminal, (to) => tail(to, flags, terminal)))
  })
}

async function tail(to: Connection, flags: TailFlags, terminal: Terminal): Promise<number> {
  const stream = to.stream(to.client.watchExchanges, {
    session: flags.session ?? '',
    outcomes: flags.failed === true ? FAILED : [],
    models: flags.model ?? [],
    resumeToken: flags.resume ?? '',
  })
  const stop = (): void => stream.cancel()
  terminal.stopping.addEventListener('abort', stop)
  if (terminal.stopping.aborted) stop()
  try {
    if (flags.json !== true) say(terminal, EVENTS.header())
    for await (const event of stream) show(event as WatchExchangesResponse, flags, terminal)
  } catch (error) {
    if (!terminal.stopping.aborted) throw error
  } finally {
    terminal.stopping.removeEventListener('abort', stop)
  }
  return EXIT.done
}

function show(message: WatchExchangesResponse, flags: TailFlags, terminal: Terminal): void {
  if (flags.json === true) return sayJson(terminal, WatchExchangesResponse.toJSON(message))
  const { event } = message
  if (event?.$case === 'gap') {
    const lost = event.value.lost === 0 ? 'some events' : `${event.value.lost} events`
    return tell(terminal, `rolltape: ${lost} were lost here`)
  }
  if (event?.$case === 'ended') return say(terminal, endRow(event.value))
  if (event?.$case !== 'began') return
  const { seq, session, method, path, time } = event.value
  say(terminal, EVENTS.row([clock(time), number(seq), session, 'begins', '', `${method} ${path}`]))
}

function endRow(end: ExchangeEnded): string {
  const { seq, session, method, path, time, httpStatus, duration, outcome, record } = end
  return EVENTS.row([
    clock(time),
    number(seq),
    session,
    outcome === Outcome.UNSPECIFIED
      ? 'ends'
      : outcomeToJSON(outcome).replace('OUTCOME_', '').toLowerCase(),
    number(httpStatus),
    `${method} ${path}`,
    record?.model ?? '',
    formatMs(ms(record?.ttft)),
    formatMs(ms(duration)),
  ])
}

function number(value: number): string {
  return value === 0 ? '-' : String(value)
}

function clock(time: Date | undefined): string {
  return time?.toISOString().slice(11, 23) ?? ''
}
