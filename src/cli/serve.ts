/**
 * `rolltape serve`: the proxy in the foreground, until a signal; with `--detach` in the background.
 *
 * Prints exactly one line on stdout, when ready. All else goes to stderr.
 */
import { once } from 'node:events'

import { Command } from 'commander'

import { RolltapeError, toRolltapeError } from '../errors.ts'
import { resolveOptions } from '../options.ts'
import type { RolltapeConfig } from '../options.ts'
import { failures, formatVerdict, type FailOn } from '../replay/verdict.ts'
import type { Rolltape } from '../rolltape.ts'
import type { CloseReport } from '../supervisor/supervisor.ts'
import { detach } from './detach.ts'
import { addOptions } from './options.ts'
import { formatReadyLine } from './ready-line.ts'
import { EXIT, say, tell, type Terminal } from './terminal.ts'

/** Makes the command. Its exit code is 1 also when `--fail-on` applies or the tape could not be written. */
export function serveCommand(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('serve')
    .description(
      'Run the proxy until SIGINT or SIGTERM; running exchanges may finish. SIGHUP closes the file of ' +
        'records and begins another',
    )
    .summary('run the proxy')
  return addOptions(command).action(async (flags: Record<string, unknown>) => {
    finish(await serve(flags, terminal))
  })
}

async function serve(flags: Record<string, unknown>, terminal: Terminal): Promise<number> {
  const config = resolveOptions({ flags, env: terminal.env })
  if (config.detach) return detach(config, terminal)
  const { startRolltape } = await import('../rolltape.ts')
  const starting = startRolltape(config)
  terminal.onHangup?.(() => void rotated(starting, config))
  const rolltape = await starting
  const { url, mode, controlAddress: control } = rolltape
  say(terminal, formatReadyLine({ url, mode, control }))
  const closed = rolltape.closed.then(() => undefined)
  const failure = await Promise.race([stopped(terminal), rolltape.failed, closed])
  const report = await rolltape.close(failure?.code ?? String(terminal.stopping.reason))
  if (failure !== undefined) throw failure
  return tellClose(report, rolltape.config.failOn, terminal)
}

/** At a SIGHUP: says what became of it, and never fails. */
async function rotated(starting: Promise<Rolltape>, config: RolltapeConfig): Promise<void> {
  const { makeLog } = await import('../supervisor/log.ts')
  const log = makeLog(config.logLevel)
  try {
    const { closed, file, part } = await (await starting).rotate()
    log.warn({ closed, file, part }, 'SIGHUP: the next part is written')
  } catch (error) {
    const { code, message } = toRolltapeError(error)
    log[code === 'wrong_state' ? 'warn' : 'error']({ code }, `SIGHUP: ${message}`)
  }
}

async function stopped({ stopping }: Terminal): Promise<undefined> {
  if (!stopping.aborted) await once(stopping, 'abort')
}

/**
 * Tells how it went: the verdict of a replay, and whether anything asked for makes it a failure.
 * Throws `tape_unavailable` when the tape could not be written to its end.
 */
export function tellClose(
  { trouble, verdict }: CloseReport,
  failOn: readonly FailOn[],
  terminal: Terminal,
): number {
  if (trouble !== null) {
    const message = `the tape could not be written to its end: ${trouble}`
    throw new RolltapeError('tape_unavailable', message)
  }
  if (verdict === undefined) return EXIT.done
  tell(terminal, formatVerdict(verdict))
  const failed = failures(verdict, failOn)
  if (failed.length === 0) return EXIT.done
  tell(terminal, `rolltape: failed on ${failed.join(', ')} (--fail-on)`)
  return EXIT.failed
}
