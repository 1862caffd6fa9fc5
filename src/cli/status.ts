/**
 * `rolltape status`: whether a detached rolltape runs and takes requests. Exit code 0 only then.
 */
import { Command } from 'commander'

import { isReady } from './detach.ts'
import { addOptions } from './options.ts'
import { readLiveState, stateFileOf } from './state.ts'
import { EXIT, say, type Terminal } from './terminal.ts'

/** Makes the command. */
export function statusCommand(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('status')
    .description('Tell whether a detached rolltape runs and is ready; exit code 0 only then')
    .summary('tell whether a detached rolltape runs')
    .option('--json', 'print one JSON object')
  return addOptions(command, ['stateFile']).action(
    async (options: { stateFile?: string; json?: boolean }) => {
      const file = stateFileOf(options.stateFile, terminal.env)
      finish(await status(file, options.json === true, terminal))
    },
  )
}

async function status(file: string, json: boolean, terminal: Terminal): Promise<number> {
  const state = readLiveState(file)
  if (state === undefined) {
    say(terminal, json ? JSON.stringify({ running: false }) : 'rolltape is not running')
    return EXIT.failed
  }
  const ready = state.url !== '' && (await isReady(state.url, terminal.stopping))
  if (json) {
    say(terminal, JSON.stringify({ running: true, ready, ...state }))
  } else {
    const facts = [
      `pid ${state.pid}`,
      state.url === '' ? 'starting' : `${ready ? 'ready' : 'not ready'} at ${state.url}`,
      ...(state.control ? [`control ${state.control}`] : []),
      `mode ${state.mode}`,
      ...(state.recording_file === null ? [] : [`recording ${state.recording_file}`]),
      `since ${state.started_at}`,
    ]
    say(terminal, `rolltape is running: ${facts.join(', ')}`)
  }
  return ready ? EXIT.done : EXIT.failed
}
