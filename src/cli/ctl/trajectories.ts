/**
 * `ctl trajectories`: what has finished; with `--follow` each trajectory as it finishes, as one line
 * of JSON, acknowledged once it is written.
 */
import { Command } from 'commander'

import { Trajectory, TrajectoryEnd } from '../../control/gen/rolltape/trajectory/v1/trajectory.ts'
import type { StreamTrajectoriesResponse } from '../../control/gen/rolltape/trajectory/v1/trajectory.ts'
import { Table } from '../table.ts'
import { EXIT, say, type Terminal } from '../terminal.ts'
import { write } from '../writing.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { sayJson } from './output.ts'

const TRAJECTORIES = new Table([
  { title: 'FINISHED', width: 24 },
  { title: 'SESSION', width: 36 },
  { title: 'VERSION', width: 7, align: 'right' },
  { title: 'REWARD', width: 10, align: 'right' },
  { title: 'FROZEN AS', width: 32 },
])

interface TrajectoriesFlags extends ConnectionFlags {
  readonly follow?: boolean
  readonly once?: boolean
  readonly consumer?: string
}

/** Makes `ctl trajectories`. */
export function trajectoriesVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('trajectories')
    .description(
      'List sessions that have finished; with --follow or --once give their records as JSON lines, ' +
        'and acknowledge each',
    )
    .option('--follow', 'give what has finished and is not acknowledged, then what finishes')
    .option('--once', 'the same, and end when all has been given')
    .option('--consumer <name>', 'whose place is kept (default: default)')
  return addConnection(command).action(async (flags: TrajectoriesFlags) => {
    const gives = flags.follow === true || flags.once === true
    finish(
      await Connection.use(flags, terminal, (to) =>
        gives ? give(to, flags, terminal) : list(to, flags, terminal),
      ),
    )
  })
}

async function list(
  to: Connection,
  { json }: TrajectoriesFlags,
  terminal: Terminal,
): Promise<number> {
  if (json !== true) say(terminal, TRAJECTORIES.header())
  for (let pageToken = '', more = true; more; more = pageToken !== '') {
    const page = await to.call(to.trajectories.listTrajectories, { pageSize: 0, pageToken })
    for (const trajectory of page.trajectories) {
      if (json === true) sayJson(terminal, Trajectory.toJSON(trajectory))
      else say(terminal, row(trajectory))
    }
    pageToken = page.nextPageToken
  }
  return EXIT.done
}

async function give(
  to: Connection,
  { consumer = '', once }: TrajectoriesFlags,
  terminal: Terminal,
): Promise<number> {
  const asked = { consumer, resumeToken: '', once: once === true }
  const stream = to.stream(to.trajectories.streamTrajectories, asked)
  const line = new TrajectoryLine()
  const stop = (): void => stream.cancel()
  terminal.stopping.addEventListener('abort', stop)
  if (terminal.stopping.aborted) stop()
  try {
    for await (const message of stream) {
      const { event } = message as StreamTrajectoriesResponse
      for (const text of line.take(event)) await write(terminal, text)
      if (event?.$case !== 'end' || terminal.stopping.aborted) continue
      await to.call(to.trajectories.ackTrajectories, { consumer, token: event.value.token })
    }
  } catch (error) {
    if (!terminal.stopping.aborted) throw error
  } finally {
    // What comes again with the next stream shall not be joined to this.
    if (line.isTorn) say(terminal, '')
    terminal.stopping.removeEventListener('abort', stop)
  }
  return EXIT.done
}

/**
 * Makes `{"trajectory":{…},"records":[…],"end":{…}}` of what a stream gives. Records are passed on as
 * they come, so that a trajectory of any size takes no room.
 */
export class TrajectoryLine {
  /** True in the middle of one. */
  isTorn = false
  #isBehindRecord = false

  /** What to write. */
  take(event: StreamTrajectoriesResponse['event']): readonly (string | Uint8Array)[] {
    if (event?.$case === 'records') {
      return this.#isBehindRecord ? [',', this.#joined(event.value)] : [this.#joined(event.value)]
    }
    this.#isBehindRecord = false
    this.isTorn = event?.$case === 'head'
    if (event?.$case === 'head') {
      return [`{"trajectory":${JSON.stringify(Trajectory.toJSON(event.value))},"records":[`]
    }
    if (event?.$case !== 'end') return []
    return [`],"end":${JSON.stringify(TrajectoryEnd.toJSON(event.value))}}\n`]
  }

  /** Line breaks stand between records alone, and become commas. */
  #joined(piece: Buffer): Buffer {
    this.#isBehindRecord = piece.at(-1) === LF
    const bytes = Buffer.from(this.#isBehindRecord ? piece.subarray(0, -1) : piece)
    for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) bytes[at] = COMMA
    return bytes
  }
}

const LF = 0x0a
const COMMA = 0x2c

function row({ finishTime, session, version, annotations, snapshot }: Trajectory): string {
  const { reward } = annotations ?? {}
  return TRAJECTORIES.row([
    finishTime?.toISOString() ?? '',
    session,
    String(version),
    reward === undefined ? '-' : String(reward),
    snapshot?.id ?? '-',
  ])
}
