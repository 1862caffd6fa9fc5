/**
 * `rolltape run -- <command …>`: starts rolltape, points the base-URL variables of the common
 * clients at it, runs the command, tears down, and passes its exit code on.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'

import { Command } from 'commander'

import { RolltapeError, errorText } from '../errors.ts'
import { resolveOptions } from '../options.ts'
import { addOptions } from './options.ts'
import { tellClose } from './serve.ts'
import { EXIT, type Terminal } from './terminal.ts'

/** Makes the command. */
export function runCommand(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('run')
    .description(
      'Run a command with rolltape as its model: OPENAI_BASE_URL, ANTHROPIC_BASE_URL and the like ' +
        'lead to it. Exit code: that of the command, or 1 when --fail-on applies',
    )
    .summary('run a command with rolltape as its model')
    .argument('<command...>', 'the command and its arguments, after --')
    .passThroughOptions()
  return addOptions(command).action(async (words: string[], flags: Record<string, unknown>) => {
    finish(await run(words, flags, terminal))
  })
}

async function run(
  [file = '', ...args]: readonly string[],
  flags: Record<string, unknown>,
  terminal: Terminal,
): Promise<number> {
  // Whoever runs one command wants no ports of their own, unless they say so.
  const own = { port: '0', control: 'off' }
  const config = resolveOptions({ flags: { ...own, ...flags }, env: terminal.env })
  const { startRolltape } = await import('../rolltape.ts')
  const rolltape = await startRolltape(config)
  try {
    const env = { ...terminal.env, ...clientVariables(rolltape.url, terminal.env) }
    const lost = rolltape.failed.then((error) => Promise.reject(error))
    const code = await Promise.race([spawned(file, args, env, terminal), lost])
    rolltape.endSessions()
    const closed = tellClose(await rolltape.close('run'), rolltape.config.failOn, terminal)
    return code === EXIT.done ? closed : code
  } finally {
    await rolltape.close('run')
  }
}

/** Runs the command with the terminal's own streams; its exit code, 128 + n for signal n. */
async function spawned(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<number> {
  const child = spawn(file, args, { stdio: 'inherit', env })
  const stop = (): void => void child.kill('SIGTERM')
  terminal.stopping.addEventListener('abort', stop)
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
    return code ?? 128 + (signal === null ? 0 : constants.signals[signal])
  } catch (cause) {
    throw new RolltapeError('not_found', `cannot run ${file}: ${errorText(cause)}`, { cause })
  } finally {
    terminal.stopping.removeEventListener('abort', stop)
  }
}

/** Variables that the common clients read their base URL from, and keys they will not run without. */
export function clientVariables(
  url: string,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const versioned = `${url}/v1`
  return {
    OPENAI_BASE_URL: versioned,
    OPENAI_API_BASE: versioned,
    LLM_BASE_URL: versioned,
    ANTHROPIC_BASE_URL: url,
    GOOGLE_GEMINI_BASE_URL: url,
    OPENAI_API_KEY: env['OPENAI_API_KEY'] ?? 'rolltape',
    ANTHROPIC_API_KEY: env['ANTHROPIC_API_KEY'] ?? 'rolltape',
    GEMINI_API_KEY: env['GEMINI_API_KEY'] ?? 'rolltape',
  }
}
