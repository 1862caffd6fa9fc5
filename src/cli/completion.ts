/**
 * `rolltape completion <shell>`: a script that completes commands, flags and their words, made from
 * the commands themselves, so that nothing is listed twice.
 */
import { Command, type Option } from 'commander'

import { EXIT, say, type Terminal } from './terminal.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

/** One place on the command line: what may stand there. */
interface Place {
  /** `ctl tail`; empty for the program itself. */
  readonly path: string
  readonly commands: readonly Word[]
  readonly flags: readonly Flag[]
}

interface Word {
  readonly name: string
  readonly help: string
}

interface Flag extends Word {
  readonly takesValue: boolean
  /** Words that its value is one of; none when it is free, a file say. */
  readonly values: readonly string[]
}

/** Makes the command. */
export function completionCommand(
  terminal: Terminal,
  finish: (code: number) => void,
  program: Command,
): Command {
  return new Command('completion')
    .summary('print a script that completes commands in a shell')
    .description(
      'Print a script that completes commands and flags. bash: `source <(rolltape completion bash)`; ' +
        'zsh: `source <(rolltape completion zsh)`; fish: `rolltape completion fish | source`',
    )
    .argument('<shell>', SHELLS.join(', '))
    .action((shell: string) => {
      const found = SHELLS.find((known) => known === shell)
      if (found === undefined) {
        program.error(`error: '${shell}' is no shell that is known (${SHELLS.join(', ')})`)
      }
      say(terminal, SCRIPTS[found](placesOf(program, [])).trimEnd())
      finish(EXIT.done)
    })
}

const SCRIPTS: Readonly<Record<Shell, (places: readonly Place[]) => string>> = { bash, zsh, fish }

function placesOf(command: Command, above: readonly string[]): Place[] {
  const { commands } = command
  const flags = [...command.createHelp().visibleOptions(command)].flatMap(flagOf)
  const own: Place = {
    path: above.join(' '),
    commands: commands.map((each) => ({ name: each.name(), help: lineOf(each.summary()) })),
    flags,
  }
  return [own, ...commands.flatMap((each) => placesOf(each, [...above, each.name()]))]
}

function flagOf(option: Option): Flag[] {
  const { long, flags, description } = option
  if (long === undefined || long === null) return []
  const choices = /<([\w-]+(?:\|[\w-]+)+)(?:,…)?>/.exec(flags)?.[1]?.split('|') ?? []
  const takesValue = option.required || option.optional
  return [{ name: long, help: lineOf(description), takesValue, values: choices }]
}

/** The first words of a help text, with nothing in them that a shell would read. */
function lineOf(text: string): string {
  return (text.split(/[:;(]/, 1)[0] ?? '').replace(/[^\w\s.,<>/=-]/g, '').trim()
}

/** A walk over the words before the cursor, in the syntax that bash and zsh share. */
function walk(places: readonly Place[], words: string): string {
  const known = places.flatMap(({ path, commands }) =>
    commands.map(({ name }) => `${path} ${name}`.trim()),
  )
  return [
    `  local place='' word`,
    `  for word in "\${${words}}"; do`,
    `    case "\${place:+$place }$word" in`,
    `      ${known.map((path) => `'${path}'`).join('|')}) place="\${place:+$place }$word" ;;`,
    `    esac`,
    `  done`,
  ].join('\n')
}

/** What is offered at each place, and behind each flag that takes words. */
function cases(places: readonly Place[], offer: (words: readonly string[]) => string): string {
  const lines = places.map(({ path, commands, flags }) => {
    const words = [...commands, ...flags].map(({ name }) => name)
    const behind = flags
      .filter(({ takesValue }) => takesValue)
      .map(({ name, values }) => {
        return `        ${name}) ${values.length > 0 ? `${offer(values)}; ` : ''}return ;;`
      })
    return [
      `    '${path}')`,
      ...(behind.length > 0 ? [`      case "$previous" in`, ...behind, `      esac`] : []),
      `      ${offer(words)} ;;`,
    ].join('\n')
  })
  return [`  case "$place" in`, ...lines, `  esac`].join('\n')
}

function bash(places: readonly Place[]): string {
  const offer = (words: readonly string[]): string =>
    `COMPREPLY=($(compgen -W '${words.join(' ')}' -- "$current"))`
  return `# bash completion of rolltape: source <(rolltape completion bash)
_rolltape() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
${walk(places, 'COMP_WORDS[@]:1:COMP_CWORD-1')}
  COMPREPLY=()
${cases(places, offer)}
}
complete -o default -F _rolltape rolltape
`
}

function zsh(places: readonly Place[]): string {
  const offer = (words: readonly string[]): string =>
    `compadd -- ${words.map((word) => `'${word}'`).join(' ')}`
  const files = cases(places, offer).replaceAll(/\) return ;;/g, ') _files; return ;;')
  return `#compdef rolltape
# zsh completion of rolltape: source <(rolltape completion zsh)
_rolltape() {
  local previous="\${words[CURRENT-1]}"
${walk(places, '(@)words[2,CURRENT-1]')}
${files}
  [[ "\${words[CURRENT]}" == -* ]] || _files
}
compdef _rolltape rolltape
`
}

function fish(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, commands, flags }) => {
    const at = `complete -c rolltape -n '__rolltape_at "${path}"'`
    return [
      ...commands.map(({ name, help }) => `${at} -f -a ${name} -d '${help}'`),
      ...flags.map(({ name, help, takesValue, values }) => {
        const value = values.length > 0 ? ` -x -a '${values.join(' ')}'` : takesValue ? ' -r' : ''
        return `${at} -l ${name.slice(2)}${value} -d '${help}'`
      }),
    ]
  })
  const paths = places.filter(({ path }) => path !== '').map(({ path }) => `'${path}'`)
  return `# fish completion of rolltape: rolltape completion fish | source
function __rolltape_at
  set -l place
  for word in (commandline -opc)[2..]
    set -l next (string trim "$place $word")
    contains -- "$next" ${paths.join(' ')}; and set place $next
  end
  test "$place" = "$argv[1]"
end
${lines.join('\n')}
`
}
