/** What `ctl` prints: JSON for scripts, aligned facts and tables for people. */
import type { Duration } from '../../control/gen/google/protobuf/duration.ts'
import { printable, say, type Terminal } from '../terminal.ts'

/** Prints a message as one line of JSON. */
export function sayJson(terminal: Terminal, json: unknown): void {
  say(terminal, JSON.stringify(json))
}

/** Lines of names and values; what is undefined is left out. */
export function facts(rows: readonly (readonly [string, string | undefined])[]): string[] {
  const given = rows.filter(([, value]) => value !== undefined)
  const width = Math.max(0, ...given.map(([name]) => name.length))
  return given.map(([name, value]) => `${name.padEnd(width)}  ${printable(value ?? '')}`)
}

/** A duration in ms; undefined for none. */
export function ms(duration: Duration | undefined): number | undefined {
  return duration && duration.seconds * 1_000 + duration.nanos / 1e6
}

/** `MODE_RECORD` as people write it: `record`. */
export function word(name: string): string {
  return printable(name.replace(/^[A-Z]+_/, '').toLowerCase())
}
