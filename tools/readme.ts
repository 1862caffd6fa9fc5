/**
 * Fills the parts of README.md that are made from elsewhere: options and errors from the code, the
 * lines of the control API from docs/control.md.
 *
 *   node tools/readme.ts
 *
 * Each part stands between `<!-- name -->` and `<!-- /name -->`; all else is left as it is.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { HTTP_STATUS, type ErrorCode } from '../src/errors.ts'
import { optionsTable } from '../src/options/table.ts'
import { ROOT } from './tree.ts'

const ADDRESS = '127.0.0.1:50051'
const SERVICE = 'rolltape.control.v1.ControlService'

/** What each code means and what to do; null for what no client is ever answered. */
const ADVICE: Readonly<Record<ErrorCode, string | null>> = {
  bad_session:
    'The session or run id cannot be used. 1 to 256 bytes of UTF-8, no control characters',
  bad_request: 'The request target is no path. Send an origin-form or `http://` target',
  bad_model:
    '`proxy_rules` choose by `model`, and the body is no JSON object. Send one, or configure `proxy_base_url`',
  no_route: 'No rule for this model, and no `default`. Add one of them',
  request_too_large: 'Over `request_body_bytes_max`. Raise it',
  request_stalled: 'Nothing more of the body came for `client_body_timeout`. Send it in one go',
  upgrade_unsupported: 'WebSocket and other upgrades are not forwarded',
  over_capacity:
    'As much runs as may (`max_in_flight`, `max_in_flight_bytes`) and no place came free within `queue_timeout`, or `max_queue` wait already: retry in a moment. Or the recording knows as many sessions as it can: begin another one',
  admission_paused: 'An operator has paused requests to this upstream or model. Retry in a moment',
  aborted: 'An operator has cancelled what was in flight. Retry',
  upstream_unreachable: 'No connection to the upstream. Is it up, is its address right?',
  upstream_reset: 'The upstream closed the connection. Look at its log; `max_attempts` tries again',
  upstream_invalid: 'The upstream does not speak sound HTTP, or its head is too long',
  upstream_timeout_connect: 'Over `connect_timeout`',
  upstream_timeout_ttfb: 'Over `ttfb_timeout`',
  upstream_timeout_stall: 'Over `stall_timeout`; before the head only, later the answer is cut',
  upstream_timeout_total: 'Over `request_timeout`; before the head only, later the answer is cut',
  responder_queue_full:
    'As many requests wait for responders as may. Retry in a moment; more responders, or `--responder-queue`',
  responder_missing:
    'No responder took the request within `--responder-wait`. Is one connected, has it credits left?',
  responder_timeout: 'The same, with `--on-no-responder 504`',
  responder_failed: 'The responder gave no answer, or none that can be passed on',
  responder_lost:
    'Several responders died over this request, one after the other. Look at their logs',
  session_ended: 'The session was closed, or its process is gone. Do not retry',
  tape_miss: 'Replay has no answer to this request. `--ignore` what differs, or record it',
  tape_exhausted: 'Replay has given all its answers to this request. See `--on-exhausted`',
  tape_record_unusable: 'The record that fits has no answer to give. Record it anew',
  tape_unavailable:
    'The tape cannot be written: is the disk full? Retry; or serve unrecorded with `on_tape_failure: passthrough`',
  session_frozen: 'The session is frozen and takes no more calls. Do not retry; begin another one',
  capture_unavailable:
    'The engine gives no token ids in this kind of answer. Ask without `stream`, or `--sglang-streams logprobs`',
  draining: 'rolltape is stopping. Retry at its successor',
  internal_error: 'A fault of rolltape’s own. Its log says more',
  bad_option: null,
  config_unreadable: null,
  recording_unwritable: null,
  recording_locked: null,
  recording_conflict: null,
  tape_corrupt: null,
  tape_let_go: null,
  record_malformed: null,
  snapshot_changed: null,
  not_found: null,
  listen_failed: null,
  already_running: null,
  not_running: null,
  generation_conflict: null,
  stream_replaced: null,
  mode_unavailable: null,
  lane_lost: null,
  bad_argument: null,
  wrong_state: null,
  unauthenticated:
    'No key, or none of those in `keys_file`. Ask whoever runs this rolltape for one',
  session_forbidden: 'The key is for other sessions. Use ids with its prefix, or another key',
  deadline_passed: null,
}

/** The README with its made parts as they should be. */
export function readme(): string {
  const text = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const parts = { control: controlLines(), options: optionsTable(), errors: errorsTable() }
  return Object.entries(parts).reduce((made, [name, part]) => fill(made, name, part), text)
}

/** One line per call: the verb of `rolltape ctl`, and what docs/control.md has for `grpcurl`. */
function controlLines(): string {
  const page = readFileSync(join(ROOT, 'docs/control.md'), 'utf8')
  const pairs = [...page.matchAll(/```sh\ngrpcurl (.*)\n(rolltape ctl .*)\n```/g)]
  const lines = pairs.map(([, asked = '', verb = '']) => {
    const call = asked.replace(ADDRESS, '$at').replace(`${SERVICE}/`, '$rt/')
    return [verb, `grpcurl ${call}`] as const
  })
  const width = Math.max(...lines.map(([verb]) => verb.length))
  const shown = lines.map(([verb, call]) => `${verb.padEnd(width)}  # ${call}`)
  return ['```sh', `at=${ADDRESS} rt=${SERVICE}`, ...shown, '```', ''].join('\n')
}

function errorsTable(): string {
  const rows = Object.entries(ADVICE)
    .filter(([, advice]) => advice !== null)
    .map(([code, advice]) => `| \`${code}\` | ${HTTP_STATUS[code as ErrorCode]} | ${advice} |`)
  return ['| code | HTTP | what it means, what to do |', '|---|---|---|', ...rows, ''].join('\n')
}

function fill(text: string, name: string, made: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const from = text.indexOf(open)
  const to = text.indexOf(close)
  if (from < 0 || to < from) throw new Error(`README.md has no part ${name}`)
  return `${text.slice(0, from)}${open}\n\n${made.trimEnd()}\n\n${text.slice(to)}`
}

if (import.meta.main) writeFileSync(join(ROOT, 'README.md'), readme())
