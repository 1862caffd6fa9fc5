/** A verb of `ctl` that makes calls and tells their answer: as JSON, or in lines for people. */
import type { Command } from 'commander'

import { printable, say, EXIT, type Terminal } from '../terminal.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { sayJson } from './output.ts'

/** What a verb does. */
export interface Verb<F extends ConnectionFlags, A> {
  /** Asks; refusals end the command with their exit code. */
  ask(to: Connection, flags: F, words: readonly string[]): Promise<A>
  json(answer: A): unknown
  lines(answer: A, flags: F): readonly string[]
}

/** Gives a command what its verb does. */
export function doVerb<F extends ConnectionFlags, A>(
  command: Command,
  verb: Verb<F, A>,
  terminal: Terminal,
  finish: (code: number) => void,
): Command {
  return addConnection(command).action(async () => {
    const flags = command.opts<F>()
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const answer = await verb.ask(to, flags, command.args)
        if (flags.json === true) sayJson(terminal, verb.json(answer))
        else for (const line of verb.lines(answer, flags)) say(terminal, printable(line))
        return EXIT.done
      }),
    )
  })
}
