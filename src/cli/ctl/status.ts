/** `ctl status`, `ctl config` and `ctl reload`: how a rolltape is, and how it is configured. */
import { setTimeout as wait } from 'node:timers/promises'

import { Command } from 'commander'

import {
  GetConfigResponse,
  GetStatusResponse,
  ReloadConfigResponse,
  modeToJSON,
  originToJSON,
  stateToJSON,
} from '../../control/gen/rolltape/control/v1/control.ts'
import type {
  Capacity,
  RecordingStatus,
  ReplayStatus,
} from '../../control/gen/rolltape/control/v1/control.ts'
import { formatBytes, formatMs, Table } from '../table.ts'
import { EXIT, say, type Terminal } from '../terminal.ts'
import { pauseText } from './admission.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { facts, ms, sayJson, word } from './output.ts'
import { doVerb } from './verb.ts'

/** Between two looks of `--watch`. */
const WATCH_MS = 1_000
const CLEAR = '\u001b[H\u001b[2J'

const OPTIONS = new Table([
  { title: 'OPTION', width: 24 },
  { title: 'FROM', width: 8 },
  { title: 'VALUE', width: 60 },
])

interface StatusFlags extends ConnectionFlags {
  readonly watch?: boolean
}

/** Makes `ctl status`. */
export function statusVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('status')
    .description('Tell how it is: mode, lanes, recording, replay, counters')
    .option('--watch', 'look again every second, until interrupted')
  return addConnection(command).action(async (flags: StatusFlags) => {
    finish(await Connection.use(flags, terminal, (to) => status(to, flags, terminal)))
  })
}

/** Makes `ctl config`. */
export function configVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('config')
    .description('Show the effective configuration and where each value came from')
    .option('--all', 'show what nobody has given too')
  return addConnection(command).action(async (flags: ConnectionFlags & { all?: boolean }) => {
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const reply = await to.call(to.client.getConfig, {})
        if (flags.json === true) sayJson(terminal, GetConfigResponse.toJSON(reply))
        else configLines(reply, flags.all === true).forEach((line) => say(terminal, line))
        return EXIT.done
      }),
    )
  })
}

/** Makes `ctl reload`. */
export function reloadVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('reload').description(
    'Read the configuration file anew; all of what may change now holds, or nothing changes',
  )
  return doVerb<ConnectionFlags, ReloadConfigResponse>(
    command,
    {
      ask: (to) => to.call(to.client.reloadConfig, {}),
      json: (answer) => ReloadConfigResponse.toJSON(answer),
      lines: ({ changedKeys, generation }) =>
        facts([
          ['changed', changedKeys.join(', ') || '-'],
          ['generation', String(generation)],
        ]),
    },
    terminal,
    finish,
  )
}

/** A recording as lines for people. */
export function recordingLines(recording: RecordingStatus): string[] {
  const { file, segments, records, recordBytes, tapeBytes, lagExchanges, lagBytes } = recording
  const { part, partRecords } = recording
  return facts([
    ['recording', file],
    ['segments', segments.join(', ')],
    ['part', `${part}: ${partRecords} records, ${formatBytes(recordBytes)}`],
    ['records', `${records} since the start`],
    ['tape', `${formatBytes(tapeBytes)} since the start${recording.writable ? '' : ', FAILING'}`],
    ['behind', `${lagExchanges} exchanges, ${formatBytes(lagBytes)}`],
    ['trouble', recording.lastError || undefined],
  ])
}

async function status(to: Connection, flags: StatusFlags, terminal: Terminal): Promise<number> {
  const { stopping, stdout } = terminal
  for (;;) {
    const reply = await to.call(to.client.getStatus, {})
    const watches = flags.watch === true
    if (flags.json === true) {
      sayJson(terminal, GetStatusResponse.toJSON(reply))
    } else {
      // One write, so that a terminal never shows half of it.
      const screen = `${statusLines(reply).join('\n')}\n`
      stdout.write(watches && stdout.isTTY === true ? CLEAR + screen : screen)
    }
    if (!watches) return EXIT.done
    await wait(WATCH_MS, undefined, { signal: stopping }).catch(() => undefined)
    if (stopping.aborted) return EXIT.done
  }
}

function statusLines(reply: GetStatusResponse): string[] {
  const { url, pid, version, generation, lanes, recording, replay, counters, pauses } = reply
  const head = facts([
    ['rolltape', `${version}, pid ${pid}, ${url}`],
    ['state', `${word(stateToJSON(reply.state))} for ${formatMs(ms(reply.uptime))}`],
    ['mode', `${word(modeToJSON(reply.mode))}, generation ${generation}`],
    ['policy', reply.policyVersion || undefined] as const,
    ['paused', pauses.length === 0 ? undefined : pauses.map(pauseText).join(', ')] as const,
    ['capacity', capacityText(reply.capacity)] as const,
    ...lanes.map((of) => {
      const { lane, inFlight, held, queued, eventLoopDelay, eventLoopUtilization, responsive } = of
      const loop = `loop ${(eventLoopUtilization * 100).toFixed(0)} % busy, ${formatMs(ms(eventLoopDelay))} late`
      const waits = `${held === 0 ? '' : `, ${held} held`}${queued === 0 ? '' : `, ${queued} queued`}`
      const told = `${inFlight} in flight${waits}, ${loop}${responsive ? '' : ', SILENT'}`
      return [`lane ${lane}`, told] as const
    }),
  ])
  const counted = Object.entries(counters ?? {}).filter(([, count]) => count > 0)
  return [
    ...head,
    ...(recording === undefined ? [] : recordingLines(recording)),
    ...(replay === undefined ? [] : replayLines(replay)),
    ...facts([['counters', counted.map(([name, count]) => `${name} ${count}`).join(', ') || '-']]),
  ]
}

/** What runs of what may; nothing where nothing is bounded. */
function capacityText(capacity: Capacity | undefined): string | undefined {
  if (capacity === undefined) return undefined
  const { inFlight, inFlightMax, inFlightBytes, inFlightBytesMax, queued, queuedMax } = capacity
  if (inFlightMax === 0 && inFlightBytesMax === 0) return undefined
  const count = inFlightMax === 0 ? `${inFlight}` : `${inFlight} of ${inFlightMax}`
  const bytes = inFlightBytesMax === 0 ? '' : ` of ${formatBytes(inFlightBytesMax)}`
  const waits = queued === 0 ? '' : `, ${queued} of ${queuedMax} queued`
  return `${count} in flight, ${formatBytes(inFlightBytes)}${bytes}${waits}`
}

function replayLines({ file, records, sessions, egress, verdict }: ReplayStatus): string[] {
  const counted = Object.entries(verdict ?? {}).filter(
    (entry): entry is [string, number] => typeof entry[1] === 'number' && entry[1] > 0,
  )
  return facts([
    ['replay', `${file}: ${records} records, ${sessions} sessions`],
    ['verdict', counted.map(([name, count]) => `${name} ${count}`).join(', ') || '-'],
    ['egress', String(egress)],
  ])
}

function configLines({ entries }: GetConfigResponse, all: boolean): string[] {
  const shown = entries
    .map(({ key, value, origin }) => [key, word(originToJSON(origin)), JSON.stringify(value)])
    .filter(([, origin]) => all || origin !== 'default')
  return [OPTIONS.header(), ...shown.map((row) => OPTIONS.row(row.map((cell) => cell ?? '')))]
}
