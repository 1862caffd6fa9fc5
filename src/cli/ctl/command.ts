/**
 * `rolltape ctl`: a verb per call of the control API. The client is loaded with this file, so
 * `program.ts` loads it only when it is needed.
 */
import { Command } from 'commander'

import type { Terminal } from '../terminal.ts'
import { pauseVerb, policyVerb, resumeVerb } from './admission.ts'
import { EXIT_HELP } from './connection.ts'
import { cursorsVerb, forkVerb, resetVerb, seekVerb } from './cursors.ts'
import { annotateVerb, closeVerb, sessionsVerb, sessionVerb } from './sessions.ts'
import { loadVerb, unloadVerb } from './load.ts'
import { explainVerb, upstreamsVerb } from './look.ts'
import { modeVerb } from './mode.ts'
import { configVerb, reloadVerb, statusVerb } from './status.ts'
import { flushVerb, rotateVerb, shutdownVerb } from './steer.ts'
import { tailVerb } from './tail.ts'
import { trajectoriesVerb } from './trajectories.ts'

const HELP = `
The address is --control, else ROLLTAPE_CONTROL, else that of the detached rolltape that its state
file tells of, else 127.0.0.1:50051. The token is that in --control-token-file, else in the file that
ROLLTAPE_CONTROL_TOKEN_FILE names, else the one that the state file tells of.

  rolltape ctl status --watch
  rolltape ctl tail --failed --session task-7
  rolltape ctl mode replay --session task-7 --pace x4
  rolltape ctl pause --drain --timeout 300 && ./update-weights && rolltape ctl resume
  rolltape ctl flush && wc -l runs/a.jsonl
  rolltape ctl --help, rolltape ctl tail --help
${EXIT_HELP}`

/** Makes the command with all its verbs. */
export function ctlCommand(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('ctl')
    .summary('steer a running rolltape, and see how it is')
    .description('Steer a running rolltape over its control API, and see how it is')
    .addHelpText('after', HELP)
    .helpCommand(false)
  const verbs = [
    statusVerb,
    configVerb,
    reloadVerb,
    modeVerb,
    loadVerb,
    unloadVerb,
    pauseVerb,
    resumeVerb,
    policyVerb,
    rotateVerb,
    flushVerb,
    shutdownVerb,
    upstreamsVerb,
    explainVerb,
    tailVerb,
    sessionsVerb,
    sessionVerb,
    closeVerb,
    annotateVerb,
    trajectoriesVerb,
    cursorsVerb,
    seekVerb,
    resetVerb,
    forkVerb,
  ]
  for (const verb of verbs) command.addCommand(verb(terminal, finish))
  return command
}
