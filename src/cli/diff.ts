/**
 * `rolltape diff`: the first turn at which two recordings part, per session. Sessions are paired by
 * name, and where no name is shared, by the order in which they began.
 */
import { Command } from 'commander'

import { canonicalize, type Json } from '../replay/canonical.ts'
import { diffJson } from '../replay/json-diff.ts'
import { ignoreRules } from '../replay/profiles.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { addOptions } from './options.ts'
import { withProgress } from './progress.ts'
import { openWholeRecords } from './source.ts'
import { Table } from './table.ts'
import { EXIT, say, type Terminal } from './terminal.ts'

interface DiffFlags {
  readonly ignore?: string[]
  readonly ignoreProfile?: string[]
  readonly json?: boolean
}

/** What counts of one turn: digests of both sides would do, but people want to see where. */
interface Turn {
  readonly request: string
  readonly response: string
}

/** Where two sessions part. */
interface Parting {
  readonly session: string
  readonly turns: number
  /** First turn that differs; null when none does. */
  readonly turn: number | null
  readonly what: 'request' | 'response' | 'missing in A' | 'missing in B' | 'same'
  readonly where: string
}

const COLUMNS = [
  { title: 'SESSION', width: 32 },
  { title: 'TURNS', width: 6, align: 'right' },
  { title: 'PARTS AT', width: 8, align: 'right' },
  { title: 'WHAT', width: 13 },
  { title: 'WHERE', width: 60 },
] as const

/** Makes the command. Exit code 0 when nothing differs, else 1. */
export function diffCommand(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('diff')
    .summary('tell where two recordings part')
    .description('Show, per session, the first turn at which two recordings part')
    .argument('<A>', 'a .jsonl, or a tape folder')
    .argument('<B>', 'the other')
    .option('--json', 'print one JSON object a session')
  return addOptions(command, ['ignore', 'ignoreProfile']).action(
    async (a: string, b: string, flags: DiffFlags) => finish(await diff(a, b, flags, terminal)),
  )
}

async function diff(a: string, b: string, flags: DiffFlags, terminal: Terminal): Promise<number> {
  const rules = ignoreRules(flags.ignore ?? [], flags.ignoreProfile ?? [])
  const text = (value: unknown): string => canonicalize((value ?? null) as Json, rules)
  const read = async (path: string): Promise<Map<string, Turn[]>> => {
    const sessions = new Map<string, Turn[]>()
    const records: StoredRecord[] = []
    await withProgress(terminal, async (progress) => {
      for await (const record of openWholeRecords(path, { parts: true, ...progress })) {
        if (record.turn !== null) records.push(record)
      }
    })
    for (const record of records.sort((x, y) => (x.seq ?? 0) - (y.seq ?? 0))) {
      const name = record.session ?? 'default'
      const turns = sessions.get(name) ?? []
      turns.push({ request: text(record.request), response: text(answerOf(record)) })
      sessions.set(name, turns)
    }
    return sessions
  }
  const partings = pair(await read(a), await read(b)).map(([name, mine, theirs]) =>
    part(name, mine, theirs),
  )
  const table = new Table(COLUMNS)
  if (flags.json !== true) say(terminal, table.header())
  for (const parting of partings) {
    const { session, turns, turn, what, where } = parting
    if (flags.json === true) say(terminal, JSON.stringify(parting))
    else
      say(terminal, table.row([session, `${turns}`, turn === null ? '-' : `${turn}`, what, where]))
  }
  return partings.every(({ what }) => what === 'same') ? EXIT.done : EXIT.failed
}

/** What the model said, without what is new in every answer. */
function answerOf({ response }: StoredRecord): unknown {
  if (typeof response !== 'object' || response === null) return response
  const { id: _id, created: _created, ...rest } = response as Record<string, unknown>
  return rest
}

function pair(
  a: Map<string, Turn[]>,
  b: Map<string, Turn[]>,
): [name: string, mine: Turn[] | undefined, theirs: Turn[] | undefined][] {
  if ([...a.keys()].some((name) => b.has(name))) {
    return [...new Set([...a.keys(), ...b.keys()])].map((name) => [name, a.get(name), b.get(name)])
  }
  const [mine, theirs] = [[...a], [...b]]
  return Array.from({ length: Math.max(mine.length, theirs.length) }, (_, i) => {
    const names = [mine[i]?.[0], theirs[i]?.[0]].filter((name) => name !== undefined)
    return [names.join(' ~ '), mine[i]?.[1], theirs[i]?.[1]]
  })
}

function part(session: string, mine: Turn[] = [], theirs: Turn[] = []): Parting {
  const turns = Math.max(mine.length, theirs.length)
  for (let i = 0; i < turns; i++) {
    const [one, other] = [mine[i], theirs[i]]
    const turn = i + 1
    if (one === undefined) return { session, turns, turn, what: 'missing in A', where: '' }
    if (other === undefined) return { session, turns, turn, what: 'missing in B', where: '' }
    for (const what of ['request', 'response'] as const) {
      if (one[what] === other[what]) continue
      const found = diffJson(JSON.parse(one[what]) as Json, JSON.parse(other[what]) as Json, 1)
      return { session, turns, turn, what, where: found[0]?.pointer || '(all)' }
    }
  }
  return { session, turns, turn: null, what: 'same', where: '' }
}
