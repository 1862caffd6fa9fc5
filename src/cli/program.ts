/**
 * The command line: which commands there are, and how a mistake in calling them is told.
 */
import { Command, CommanderError } from 'commander'

import { nearest } from '../options/suggest.ts'
import { version } from '../version.ts'
import { completionCommand } from './completion.ts'
import { demoCommand } from './demo.ts'
import { deriveCommand } from './derive.ts'
import { diffCommand } from './diff.ts'
import { explainCommand } from './explain.ts'
import { exportCommand } from './export.ts'
import { inspectCommand } from './inspect.ts'
import { runCommand } from './run.ts'
import { scanCommand } from './scan.ts'
import { serveCommand } from './serve.ts'
import { showCommand } from './show.ts'
import { statsCommand } from './stats.ts'
import { statusCommand } from './status.ts'
import { stopCommand } from './stop.ts'
import { verifyCommand } from './verify.ts'
import { EXIT, report, tell, type Terminal } from './terminal.ts'

/** Runs one command line and gives its exit code. */
export async function run(terminal: Terminal): Promise<number> {
  const { argv } = terminal
  let code: number = EXIT.done
  const program = new Command('rolltape')
    .description('Record/replay proxy for LLM traffic')
    .version(version(), '-V, --version')
    .helpCommand(false)
    .enablePositionalOptions()
  const finish = (done: number) => {
    code = done
  }
  for (const make of [
    serveCommand,
    runCommand,
    stopCommand,
    statusCommand,
    inspectCommand,
    showCommand,
    explainCommand,
    diffCommand,
    exportCommand,
    statsCommand,
    verifyCommand,
    deriveCommand,
    scanCommand,
    demoCommand,
  ]) {
    program.addCommand(make(terminal, finish))
  }
  program.addCommand(await ctl(terminal, finish))
  program.addCommand(completionCommand(terminal, finish, program))
  for (const command of allOf(program)) {
    command.exitOverride().configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      writeErr: (text) => void terminal.stderr.write(text),
      // One line, told by `misuse` below.
      outputError: () => undefined,
      getOutHelpWidth: () => terminal.stdout.columns ?? 100,
      getErrHelpWidth: () => terminal.stderr.columns ?? 100,
    })
  }
  if (argv.length === 0) {
    program.outputHelp({ error: true })
    return EXIT.misused
  }
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return code
  } catch (error) {
    return error instanceof CommanderError
      ? misuse(error, program, terminal)
      : report(terminal, error)
  }
}

/** Its client takes a while to load, so that is done only for those who need it. */
async function ctl(terminal: Terminal, finish: (code: number) => void): Promise<Command> {
  const needed = ['ctl', 'completion'].includes(terminal.argv[0] ?? '')
  if (!needed) return new Command('ctl').summary('steer a running rolltape, and see how it is')
  const { ctlCommand } = await import('./ctl/command.ts')
  return ctlCommand(terminal, finish)
}

function allOf(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allOf)]
}

function misuse(error: CommanderError, program: Command, terminal: Terminal): number {
  if (error.exitCode === 0) return EXIT.done
  const [written, command] = wordsOf(error, program, terminal.argv)
  const line = error.message.replace(/^error: /, '').split('\n', 1)[0] ?? ''
  const known =
    error.code === 'commander.unknownOption'
      ? (command?.options ?? []).flatMap(({ long }) => (long === undefined ? [] : [long]))
      : (command ?? program).commands.map((each) => each.name())
  const suggestion = written === undefined ? undefined : nearest(written, known)
  const meant = suggestion === undefined ? '' : `, did you mean ${suggestion}?`
  const help = `${namesOf(command ?? program).join(' ')} --help`
  tell(terminal, `rolltape: ${line}${meant} (\`${help}\` lists all)`)
  return EXIT.misused
}

/** The word that was not understood, and the command that it was given to. */
function wordsOf(
  error: CommanderError,
  program: Command,
  argv: readonly string[],
): [string | undefined, Command | undefined] {
  let command: Command | undefined
  for (const word of argv) {
    const next = (command ?? program).commands.find((each) => each.name() === word)
    if (next === undefined) break
    command = next
  }
  const unknown = ['commander.unknownOption', 'commander.unknownCommand'].includes(error.code)
  return [unknown ? /'([^'=]+)/.exec(error.message)?.[1] : undefined, command]
}

/** `rolltape`, `ctl`, `tail`. */
function namesOf(command: Command): string[] {
  return [...(command.parent === null ? [] : namesOf(command.parent)), command.name()]
}
