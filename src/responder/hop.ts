/**
 * What a lane tells the bridge of a request beside the request itself, as headers of one hop: both
 * its ends stand here. Clients cannot send them, since a lane passes no `x-rolltape-*` on.
 */
import { DEFAULT_QUEUE } from './address.ts'

/** Whose request it is. */
export interface Asker {
  readonly session: string
  readonly run: string
  /** From 1; 0 when it is none of the session's generation requests, or nothing is recorded. */
  readonly turn: number
  /** Its number in the recording; 0 when it goes to none. */
  readonly seq: number
}

/** What the bridge is told. */
export interface Hop extends Asker {
  readonly queue: string
  /** Time until the client gives up, in ms; Infinity when there is no bound. */
  readonly leftMs: number
}

const PREFIX = 'x-rolltape-'

/** Headers of this hop and others that no responder is told of. */
const OF_HOP = new Set(['host', 'connection', 'keep-alive', 'content-length', 'transfer-encoding'])

/** Header pairs, name and value in turn. */
export function formatHop({ queue, session, run, turn, seq, leftMs }: Hop): string[] {
  return [
    `${PREFIX}queue`,
    queue,
    `${PREFIX}session`,
    encodeURIComponent(session),
    `${PREFIX}run`,
    encodeURIComponent(run),
    `${PREFIX}turn`,
    String(turn),
    `${PREFIX}seq`,
    String(seq),
    `${PREFIX}left-ms`,
    String(leftMs),
  ]
}

/** The other half: what was told, and the headers that are the client's own. */
export function parseHop(raw: readonly string[]): Hop & { readonly flat: readonly string[] } {
  const told = new Map<string, string>()
  const flat: string[] = []
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] as string
    const value = raw[i + 1] as string
    const lower = name.toLowerCase()
    if (lower.startsWith(PREFIX)) told.set(lower.slice(PREFIX.length), value)
    else if (!OF_HOP.has(lower)) flat.push(name, value)
  }
  return {
    queue: told.get('queue') ?? DEFAULT_QUEUE,
    session: decode(told.get('session')),
    run: decode(told.get('run')),
    turn: Number(told.get('turn') ?? 0),
    seq: Number(told.get('seq') ?? 0),
    leftMs: Number(told.get('left-ms') ?? Infinity),
    flat,
  }
}

function decode(value = ''): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}
