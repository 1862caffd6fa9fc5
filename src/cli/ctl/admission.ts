/** `ctl pause`, `ctl resume` and `ctl policy`: what a trainer does around a weight update. */
import { Command, Option } from 'commander'

import {
  AdmissionPolicy,
  PauseAdmissionResponse,
  ResumeAdmissionResponse,
  SetPolicyVersionResponse,
  admissionPolicyToJSON,
  type AdmissionPause,
} from '../../control/gen/rolltape/control/v1/control.ts'
import type { Terminal } from '../terminal.ts'
import type { ConnectionFlags } from './connection.ts'
import { facts } from './output.ts'
import { doVerb } from './verb.ts'

interface ScopeFlags extends ConnectionFlags {
  readonly upstream?: string
  readonly model?: string
}

interface PauseFlags extends ScopeFlags {
  readonly reject?: boolean
  readonly drain?: boolean
  readonly abort?: boolean
}

/** Makes `ctl pause`. */
export function pauseVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('pause')
    .description('Pause admission: new requests wait, or are rejected, until `ctl resume`')
    .addOption(new Option('--reject', 'new requests get 429').conflicts(['drain', 'abort']))
    .addOption(
      new Option('--drain', 'wait for what is in flight, up to --timeout').conflicts(['abort']),
    )
    .option('--abort', 'cancel what is in flight')
  return doVerb<PauseFlags, PauseAdmissionResponse>(
    addScope(command),
    {
      ask: (to, flags) =>
        to.call(to.client.pauseAdmission, { policy: policyOf(flags), scope: scopeOf(flags) }),
      json: (answer) => PauseAdmissionResponse.toJSON(answer),
      lines: (answer, { abort }) =>
        facts([...stateFacts(answer), ['aborted', abort ? String(answer.aborted) : undefined]]),
    },
    terminal,
    finish,
  )
}

/** Makes `ctl resume`. */
export function resumeVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('resume').description(
    'Take back the pause of this upstream or model, or all pauses; what was held goes on',
  )
  return doVerb<ScopeFlags, ResumeAdmissionResponse>(
    addScope(command),
    {
      ask: (to, flags) => to.call(to.client.resumeAdmission, { scope: scopeOf(flags) }),
      json: (answer) => ResumeAdmissionResponse.toJSON(answer),
      lines: (answer) => facts(stateFacts(answer)),
    },
    terminal,
    finish,
  )
}

/** Makes `ctl policy`. */
export function policyVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('policy')
    .description('Stamp requests from now on with this policy version; an empty one stamps none')
    .argument('<version>', 'up to 256 bytes')
  return doVerb<ConnectionFlags, SetPolicyVersionResponse>(
    command,
    {
      ask: (to, _, [policyVersion = '']) => to.call(to.client.setPolicyVersion, { policyVersion }),
      json: (answer) => SetPolicyVersionResponse.toJSON(answer),
      lines: ({ policyVersion, previousPolicyVersion }) =>
        facts([
          ['policy', policyVersion || '-'],
          ['before', previousPolicyVersion || '-'],
        ]),
    },
    terminal,
    finish,
  )
}

/** A pause as people read it: `hold`, `reject qwen3 at http://gpu:8000`. */
export function pauseText({ policy, scope }: AdmissionPause): string {
  const model = scope?.model ? ` model ${scope.model}` : ''
  const upstream = scope?.upstream ? ` at ${scope.upstream}` : ''
  const name = admissionPolicyToJSON(policy).replace('ADMISSION_POLICY_', '').toLowerCase()
  return `${name}${model}${upstream}`
}

function addScope(command: Command): Command {
  return command
    .option('--upstream <url>', 'only requests that go to this base URL')
    .option('--model <name>', 'only requests for this model')
}

function scopeOf({ upstream, model }: ScopeFlags) {
  if (upstream === undefined && model === undefined) return undefined
  return { upstream: upstream ?? '', model: model ?? '' }
}

function policyOf({ reject, drain, abort }: PauseFlags): AdmissionPolicy {
  if (reject) return AdmissionPolicy.REJECT
  if (drain) return AdmissionPolicy.DRAIN
  return abort ? AdmissionPolicy.ABORT : AdmissionPolicy.HOLD
}

function stateFacts({ pauses, inFlight, held }: ResumeAdmissionResponse): [string, string][] {
  return [
    ['paused', pauses.map(pauseText).join(', ') || '-'],
    ['in flight', String(inFlight)],
    ['held', String(held)],
  ]
}
