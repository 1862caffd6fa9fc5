/**
 * Every option of `serve`, once: key, kind (unit, range, example), default, group, help and why.
 *
 * Flags and their help, variables, YAML keys, the README's table and the validator are all made
 * from this table; the flag, the YAML key and the variable follow from the key by `names`.
 */
import {
  baseUrl,
  bytes,
  choice,
  duration,
  errorStatus,
  label,
  list,
  pairs,
  secret,
  text,
  toggle,
  whole,
  wholeOr,
  type Kind,
} from './kinds.ts'
import { LANES_MAX } from '../limits.ts'
import { CAPACITY_OPTIONS } from './capacity-definitions.ts'
import { CONTROL_OPTIONS } from './control-definitions.ts'
import { REPLAY_OPTIONS } from './replay-definitions.ts'
import { TRANSFORM_OPTIONS } from './transform-definitions.ts'
import { RESPONDER_OPTIONS } from './responder-definitions.ts'
import { REDACTION_OPTIONS, UPSTREAM_TLS_OPTIONS } from './security-definitions.ts'
import { TAPE_OPTIONS } from './tape-definitions.ts'
import type { OptionDefinition } from './definition.ts'

/** The table. Order is the order of help and README. */
export const OPTIONS = {
  host: {
    kind: text('address', '127.0.0.1'),
    default: '127.0.0.1',
    group: 'where',
    help: 'address to listen on',
    why: 'loopback only, unless somebody decides otherwise',
  },
  port: {
    kind: whole(0, 65_535, '8080'),
    default: '8080',
    group: 'where',
    help: 'port to listen on; 0 picks a free one',
    why: 'the port that was picked stands in the ready line',
  },
  insecureBind: {
    kind: toggle(),
    default: 'false',
    group: 'where',
    help: 'listen on a host that is not loopback although clients need no key',
    why: 'whoever reaches the port can use the upstream with its key',
  },
  keysFile: {
    kind: text('file', 'keys.txt'),
    default: null,
    shown: 'none: everybody who reaches the port may come in',
    group: 'where',
    help: 'keys that clients must hold, one per line: name, SHA-256 of the key, sessions=<prefix>',
    why: 'with it rolltape may listen beyond loopback; what clients show goes no further',
  },
  tlsCert: {
    kind: text('file.pem', 'rolltape.pem'),
    default: null,
    shown: 'none',
    group: 'where',
    help: 'certificate chain that clients are served with',
    why: 'bodies and keys cross a network in clear without it; a renewed file is taken up',
  },
  tlsKey: {
    kind: text('file.pem', 'rolltape-key.pem'),
    default: null,
    shown: 'none',
    group: 'where',
    help: 'key of that certificate',
    why: 'given together with the certificate',
  },
  ...CONTROL_OPTIONS,
  proxyBaseUrl: {
    kind: list(
      baseUrl,
      'one or more base URLs with http://, https:// or responder:',
      'http://127.0.0.1:8000',
    ),
    default: null,
    shown: 'none',
    group: 'upstream',
    help: 'base URL of the inference server, or `responder:`, for every model; repeat for several',
    why: 'with several, a session sticks to one of them, which keeps its prefix cache warm',
  },
  proxyRules: {
    kind: pairs(
      /./s,
      baseUrl,
      'model=url',
      'a map of models to base URLs',
      'qwen3=http://127.0.0.1:8000',
    ),
    default: null,
    shown: 'none',
    group: 'upstream',
    help: 'base URL per model; the model `default` stands for all others',
    why: 'read only where proxy_base_url is not given; costs a look into each request body',
  },
  upstreamApiKey: {
    kind: secret,
    default: null,
    shown: "none: the client's own key passes",
    group: 'upstream',
    help: "key for the upstream, in place of the client's own",
    why: 'agents then need no real key; given by reference, so that no process list shows it',
  },
  requestTimeout: {
    kind: duration('600, 600s, 250ms or 2m'),
    default: '600s',
    group: 'upstream',
    help: 'total time an exchange may take, retries included; 0 is no bound',
    why: 'a long generation is normal, a dead one should not hold its agent for ever',
  },
  connectTimeout: {
    kind: duration('30s'),
    default: '30s',
    group: 'upstream',
    help: 'time a connection to the upstream may take; 0 is no bound',
    why: 'a host that is gone shows here, long before the total',
  },
  ttfbTimeout: {
    kind: duration('120s'),
    default: '0',
    shown: 'off',
    group: 'upstream',
    help: 'time until the first byte of the answer; 0 is no bound',
    why: 'off, since a queue in front of a busy engine can be long',
  },
  stallTimeout: {
    kind: duration('60s'),
    default: '0',
    shown: 'off',
    group: 'upstream',
    help: 'time between two pieces of the answer; 0 is no bound',
    why: 'finds an engine that hangs in the middle; off, since a pause for new weights looks the same',
  },
  heartbeat: {
    kind: duration('15s'),
    default: '0',
    shown: 'off',
    group: 'upstream',
    help: 'send an SSE comment to the client after so much silence of a stream; 0 is off',
    why: 'keeps middleboxes from cutting; off, since it adds bytes the upstream did not send',
  },
  retryableStatusCodes: {
    kind: list(errorStatus, 'a list of HTTP statuses from 400 to 599', '429,503'),
    default: null,
    shown: 'none',
    group: 'upstream',
    help: 'statuses to try again; implies max_attempts 6 and retry_after_send',
    why: 'clients retry by themselves; where several attempts are on and this is not given, 408,429,500,502,503,504',
  },
  maxAttempts: {
    kind: whole(1, 100, '6'),
    default: null,
    shown: '1; 6 with retryable_status_codes',
    group: 'upstream',
    help: 'tries per request, the first included',
    why: 'one: a transparent proxy shows what the upstream said',
  },
  retryAfterSend: {
    kind: toggle(),
    default: null,
    shown: 'false; true with retryable_status_codes',
    group: 'upstream',
    help: 'also try again when the request was sent and no answer came in time',
    why: 'off, since the first try may still be generating',
  },
  onClientGone: {
    kind: choice(['cancel', 'finish'], 'cancel'),
    default: 'cancel',
    group: 'upstream',
    help: 'what becomes of the upstream request when the client leaves',
    why: 'cancel frees the engine; finish puts the whole answer on tape',
  },
  requestBodyBytesMax: {
    kind: bytes(1, '1 byte', '64MiB'),
    default: '64MiB',
    group: 'upstream',
    help: 'largest request body taken; a larger one gets 413',
    why: 'bounds what one request may hold in memory',
  },
  ...CAPACITY_OPTIONS,
  ...UPSTREAM_TLS_OPTIONS,
  ...TRANSFORM_OPTIONS,
  ...RESPONDER_OPTIONS,
  mode: {
    kind: choice(['passthrough', 'record', 'replay', 'hybrid', 'verify'], 'record'),
    default: null,
    shown: 'follows from the files',
    group: 'recording',
    help: 'what to do with requests',
    why: 'record with a recording_file, else passthrough',
  },
  recordingFile: {
    kind: text('file.jsonl', 'runs/a.jsonl'),
    default: null,
    shown: 'none',
    group: 'recording',
    help: 'where records go; the tape is the folder beside it',
    why: 'giving it turns recording on',
  },
  durability: {
    kind: choice(['memory', 'written', 'synced'], 'written'),
    default: 'written',
    group: 'recording',
    help: 'how safe an answer is on tape before its last bytes go to the client',
    why: 'written outlives a kill -9 of rolltape, synced a power loss, memory never waits',
  },
  onTapeFailure: {
    kind: choice(['refuse', 'passthrough'], 'refuse'),
    default: 'refuse',
    group: 'recording',
    help: 'what to do while the tape cannot be written',
    why: 'refuse loses no data silently, passthrough keeps the fleet running and counts the loss',
  },
  commitTimeout: {
    kind: duration('30s'),
    default: '30s',
    group: 'recording',
    help: 'time one write to the tape may take before on_tape_failure applies; 0 is no bound',
    why: 'a hanging disk must not hang every client',
  },
  ...TAPE_OPTIONS,
  ...REDACTION_OPTIONS,
  tag: {
    kind: pairs(/^[\w./-]{1,64}$/, label, 'name=text', 'a map of names to short texts', 'run=17'),
    default: null,
    shown: 'none',
    group: 'recording',
    help: 'label for every record; repeat for several',
    why: 'tells recordings apart once they are merged',
  },
  rotateBytes: {
    kind: bytes(0, '0 bytes', '1GiB'),
    default: '0',
    shown: 'never',
    group: 'recording',
    help: 'size of the file of records at which it is closed and another one begun',
    why: 'parts that can be shipped and deleted while the recording goes on',
  },
  rotateInterval: {
    kind: duration('1h'),
    default: '0',
    shown: 'never',
    group: 'recording',
    help: 'age at which the file of records is closed and another one begun',
    why: 'SIGHUP and `rolltape ctl rotate` do it when you say so',
  },
  lanes: {
    kind: wholeOr('auto', 1, LANES_MAX, 'auto'),
    default: '1',
    group: 'process',
    help: 'threads that serve, on one port; auto is one for each core but one',
    why: 'one serves thousands of streams; the kernel hashes connections over several',
  },
  recordWorkers: {
    kind: whole(1, 64, '2'),
    default: '1',
    group: 'recording',
    help: 'threads of each lane that make records from the tape',
    why: 'one keeps up with a few hundred streams; the tape waits, clients do not',
  },
  ...REPLAY_OPTIONS,
  sessionSources: {
    kind: list(
      choice(['path', 'header', 'body'], 'header'),
      'a list out of path, header and body',
      'path,header',
    ),
    default: 'path,header',
    group: 'sessions',
    help: 'where a session id is looked for, first match wins',
    why: 'body costs a look into each request body, so it is off',
  },
  sessionBodyField: {
    kind: text('key', 'session_id'),
    default: null,
    shown: 'none',
    group: 'sessions',
    help: 'top-level key of the body that holds the session id',
    why: 'needed by the source body',
  },
  drainTimeout: {
    kind: duration('30s'),
    default: '30s',
    group: 'process',
    help: 'time that running exchanges get when rolltape stops',
    why: 'what runs longer is cut and recorded as such',
  },
  logLevel: {
    kind: choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
    default: 'info',
    group: 'process',
    help: 'least serious log line that is written (to stderr)',
    why: 'debug shows each exchange',
  },
  configFile: {
    kind: text('file.yaml', 'rolltape.yaml'),
    default: null,
    shown: 'none',
    group: 'process',
    help: 'YAML file with options; flags and ROLLTAPE_* variables beat it',
    why: 'keeps a long command line in one place',
    flagOnly: true,
  },
  stateFile: {
    kind: text('file', '/run/rolltape/state.json'),
    default: null,
    shown: 'in $XDG_RUNTIME_DIR/rolltape, else ~/.rolltape',
    group: 'process',
    help: 'where a detached rolltape leaves its pid and address',
    why: 'give different ones to several detached instances of one user',
    flagOnly: true,
  },
  detach: {
    kind: toggle(),
    default: 'false',
    group: 'process',
    help: 'go on in the background once ready',
    why: '`rolltape status` and `rolltape stop` find it again',
    flagOnly: true,
  },
} as const satisfies Record<string, OptionDefinition>

/** Name of an option, as in `RolltapeOptions`. */
export type OptionKey = keyof typeof OPTIONS

/** Value of an option once parsed; null where it was left out and has no default. */
export type OptionValue<K extends OptionKey> = (typeof OPTIONS)[K] extends {
  readonly kind: Kind<infer T>
  readonly default: infer D
}
  ? D extends null
    ? T | null
    : T
  : never

/** All options parsed, before rules that span several of them. */
export type OptionValues = { readonly [K in OptionKey]: OptionValue<K> }

/** What one option is called in each source. */
export interface OptionNames {
  readonly yaml: string
  readonly flag: string
  readonly env: string
}

/** Names that follow from a key: `requestTimeout` → `request_timeout`, `--request-timeout`, … */
export function names(key: string): OptionNames {
  const yaml = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  return {
    yaml,
    flag: `--${yaml.replaceAll('_', '-')}`,
    env: `ROLLTAPE_${yaml.toUpperCase()}`,
  }
}

/** All keys, in the order of the table. */
export const OPTION_KEYS = Object.keys(OPTIONS) as OptionKey[]

/** The definition of one option, seen without its own literal types. */
export function definitionOf(key: OptionKey): OptionDefinition {
  return OPTIONS[key]
}
