/**
 * Everything a user can get wrong about options, and the whole line that they get to read.
 */
import t, { type Test } from 'tap'

import { RolltapeError } from '../../src/errors.ts'
import { resolveOptions } from '../../src/options.ts'

type Sources = Parameters<typeof resolveOptions>[0]

function refusal(sources: Sources) {
  try {
    resolveOptions(sources)
  } catch (error) {
    if (error instanceof RolltapeError) {
      return [error.code, error.message, ...(error.hint === undefined ? [] : [error.hint])]
    }
    throw error
  }
  return ['accepted']
}

function check(t: Test, cases: [string, Sources, string[]][]): void {
  for (const [name, sources, expected] of cases) t.strictSame(refusal(sources), expected, name)
}

const LIST = '`rolltape serve --help` lists all options'
const UPSTREAM = { proxyBaseUrl: 'http://a' }
const REFERENCE = [
  'the value is not a reference to a key; a key itself is not taken here, since command lines and files are read by others',
  'put the key into a variable or a file and give env:NAME or file:PATH',
]

t.test('R34: an unknown name is refused with the name that was meant', async (t) => {
  const folder = t.testdir({
    'a.yaml': 'requst_timeout: 3\n',
    'b.yaml': 'frobnicate: 3\n',
  })
  const [file, far] = [`${folder}/a.yaml`, `${folder}/b.yaml`]
  check(t, [
    [
      'file',
      { file },
      [
        'bad_option',
        `requst_timeout in ${file}: no such option, did you mean request_timeout?`,
        LIST,
      ],
    ],
    [
      'file, nothing near',
      { file: far },
      ['bad_option', `frobnicate in ${far}: no such option`, LIST],
    ],
    [
      'variable',
      { env: { ROLLTAPE_RECORDING_FIEL: 'a' } },
      [
        'bad_option',
        'ROLLTAPE_RECORDING_FIEL: no such option, did you mean ROLLTAPE_RECORDING_FILE?',
        LIST,
      ],
    ],
    [
      'option',
      { options: { prot: 1 } as object },
      ['bad_option', 'prot: no such option, did you mean port?', LIST],
    ],
  ])
  t.equal(
    resolveOptions({ options: UPSTREAM, env: { ROLLTAPE_SERVICE_ACCOUNT_TOKEN: 'x' } }).port,
    8080,
    'a variable that resembles nothing belongs to somebody else',
  )
})

t.test('an ill-typed value is refused with key, value, range and example', async (t) => {
  const file = `${t.testdir({ 'a.yaml': 'request_timeout: soon\n' })}/a.yaml`
  const bad = (flags: object, message: string, ...hint: string[]) =>
    [message, { flags } as Sources, ['bad_option', message, ...hint]] as [string, Sources, string[]]
  const duration =
    'is not a duration from 0 to 24 days (a bare number is seconds; units ms, s, m, h); for example'
  check(t, [
    bad(
      { port: '65536' },
      "--port: '65536' is not a whole number from 0 to 65535; for example 8080",
    ),
    bad({ port: '8o8o' }, "--port: '8o8o' is not a whole number from 0 to 65535; for example 8080"),
    bad(
      { host: '' },
      "--host: '' is not a text of 1 to 4096 characters without a NUL; for example 127.0.0.1",
    ),
    bad({ drainTimeout: '-1' }, `--drain-timeout: '-1' ${duration} 30s`),
    bad({ drainTimeout: '25000h' }, `--drain-timeout: '25000h' ${duration} 30s`),
    bad({ drainTimeout: '3 parsecs' }, `--drain-timeout: '3 parsecs' ${duration} 30s`),
    bad(
      { segmentBytes: '1KiB' },
      "--segment-bytes: '1KiB' is not a size of at least 64KiB (a bare number is bytes; units KB, MB, GB, KiB, MiB, GiB); for example 256MiB",
    ),
    bad(
      { durability: 'safe' },
      "--durability: 'safe' is not one of memory, written, synced; for example written",
    ),
    bad(
      { retryableStatusCodes: ['429,200'] },
      '--retryable-status-codes: ["429,200"] is not a list of HTTP statuses from 400 to 599; for example 429,503',
    ),
    bad(
      { tag: ['run'] },
      '--tag: ["run"] is not a map of names to short texts; for example run=17',
    ),
    bad(
      { proxyBaseUrl: ['localhost:8000'] },
      '--proxy-base-url: ["localhost:8000"] is not one or more base URLs with http://, https:// or responder:; for example http://127.0.0.1:8000',
    ),
    bad(
      { proxyBaseUrl: ['http://user:pass@a'] },
      '--proxy-base-url: a base URL must not hold a user name or a password',
      'give the key with --upstream-api-key env:NAME or file:PATH',
    ),
    bad(
      { proxyBaseUrl: ['http://a/v1?key=1'] },
      '--proxy-base-url: a base URL must not hold a query or a fragment',
      'requests bring their own query; leave out everything from ? or # on',
    ),
    bad({ upstreamApiKey: 'sk-1234' }, `--upstream-api-key: ${REFERENCE[0]}`, REFERENCE[1]!),
    bad(
      { upstreamApiKey: 'env:NOT_SET_AT_ALL' },
      '--upstream-api-key: the variable NOT_SET_AT_ALL is not set',
    ),
    [
      'file',
      { file },
      ['bad_option', `request_timeout in ${file}: 'soon' ${duration} 600, 600s, 250ms or 2m`],
    ],
    [
      'option',
      { options: { ...UPSTREAM, insecureBind: 'yes' } as object },
      ['bad_option', "insecureBind: 'yes' is not true or false; for example true"],
    ],
    [
      'a variable that Kubernetes makes for a service named rolltape',
      { env: { ROLLTAPE_PORT: 'tcp://10.0.0.1:80' } },
      [
        'bad_option',
        "ROLLTAPE_PORT: 'tcp://10.0.0.1:80' is not a whole number from 0 to 65535; for example 8080",
        'Kubernetes sets this for a service of that name: set enableServiceLinks: false, or unset it',
      ],
    ],
  ])
})

t.test('R34: a file that is missing, broken or no map is refused', async (t) => {
  const folder = t.testdir({ 'broken.yaml': 'a: [1\n', 'list.yaml': '- port\n' })
  const readable = 'give a readable YAML file with --config-file, or leave it out'
  t.strictSame(refusal({ file: `${folder}/none.yaml` }), [
    'config_unreadable',
    `configuration ${folder}/none.yaml cannot be read: ENOENT: no such file or directory, open '${folder}/none.yaml'`,
    readable,
  ])
  t.match(refusal({ file: `${folder}/broken.yaml` }), [
    'config_unreadable',
    /^configuration .*broken\.yaml cannot be read: .*\bat line 2, column 1$/,
    readable,
  ])
  t.strictSame(refusal({ flags: { configFile: `${folder}/list.yaml` } }), [
    'config_unreadable',
    `configuration ${folder}/list.yaml is not a map of options`,
    'write one `key: value` per line, such as `port: 8080`',
  ])
})

t.test('R31: what does not go together is refused with the way out', async (t) => {
  const of = (options: object): Sources => ({ options })
  check(t, [
    [
      'no upstream',
      of({ recordingFile: 'a.jsonl' }),
      [
        'bad_option',
        'mode record forwards requests, and no upstream is given',
        'give --proxy-base-url (proxy_base_url), such as http://127.0.0.1:8000, or proxy_rules',
      ],
    ],
    [
      'no file',
      of({ ...UPSTREAM, mode: 'record' }),
      [
        'bad_option',
        'mode record needs a file, and none is given',
        'give --recording-file (recording_file), such as runs/b.jsonl',
      ],
    ],
    [
      'R31: both files',
      of({ ...UPSTREAM, recordingFile: 'a.jsonl', replayFile: 'b.jsonl' }),
      [
        'recording_conflict',
        'recording_file a.jsonl and replay_file b.jsonl are both given, and mode replay either records or replays',
        'leave one of them out, or give --mode hybrid or --mode verify',
      ],
    ],
    [
      'replay without a recording',
      of({ mode: 'replay' }),
      [
        'bad_option',
        'mode replay needs a recording, and none is given',
        'give --replay-file (replay_file), such as runs/a.jsonl',
      ],
    ],
    [
      'hybrid without an upstream',
      of({ mode: 'hybrid', recordingFile: 'a.jsonl', replayFile: 'b.jsonl' }),
      [
        'bad_option',
        'mode hybrid forwards requests, and no upstream is given',
        'give --proxy-base-url (proxy_base_url), such as http://127.0.0.1:8000, or proxy_rules',
      ],
    ],
    [
      'R31: hybrid into the recording it answers from',
      of({ ...UPSTREAM, mode: 'hybrid', recordingFile: 'x/../a.jsonl', replayFile: 'a.tape' }),
      [
        'recording_conflict',
        'recording_file x/../a.jsonl is the recording that replay_file a.tape answers from',
        'record into another file',
      ],
    ],
    [
      'R31: verify into a part of the recording it compares with',
      of({ ...UPSTREAM, mode: 'verify', recordingFile: 'a.jsonl', replayFile: './a.000001.jsonl' }),
      [
        'recording_conflict',
        'recording_file a.jsonl is the recording that replay_file ./a.000001.jsonl answers from',
        'record into another file',
      ],
    ],
    [
      'verify without a file for what differs',
      of({ ...UPSTREAM, mode: 'verify', replayFile: 'a.jsonl' }),
      [
        'bad_option',
        'mode verify needs a file for what differs, and none is given',
        'give --recording-file (recording_file), such as runs/b.jsonl',
      ],
    ],
    [
      'a miss that goes live in replay',
      of({ replayFile: 'a.jsonl', onMiss: 'passthrough' }),
      [
        'bad_option',
        'on_miss passthrough asks an upstream, and mode replay does not',
        'give --mode hybrid, or leave it out',
      ],
    ],
    [
      'the end of a recording that goes live in replay',
      of({ replayFile: 'a.jsonl', onExhausted: 'live' }),
      [
        'bad_option',
        'on_exhausted live asks an upstream, and mode replay does not',
        'give --mode hybrid, or leave it out',
      ],
    ],
    [
      'hybrid that never goes live',
      of({ ...UPSTREAM, mode: 'hybrid', replayFile: 'a.jsonl', onMiss: 'error' }),
      [
        'bad_option',
        'on_miss error never asks an upstream, which is what mode replay does',
        'give --mode replay, or --on-miss record or passthrough',
      ],
    ],
    [
      'hybrid that records nowhere',
      of({ ...UPSTREAM, mode: 'hybrid', replayFile: 'a.jsonl', onMiss: 'record' }),
      [
        'bad_option',
        'on_miss record needs a file, and none is given',
        'give --recording-file (recording_file), such as runs/b.jsonl',
      ],
    ],
    [
      'turns to replay where nothing goes live',
      of({ replayFile: 'a.jsonl', replayTurns: 2 }),
      [
        'bad_option',
        'replay_turns goes live after some turns, and mode replay does not',
        'give --mode hybrid, or leave it out',
      ],
    ],
    [
      'a session with a mode that lacks its recording',
      of({ ...UPSTREAM, sessionOverride: { s1: { mode: 'replay' } } }),
      [
        'bad_option',
        'session s1 has mode replay, which needs a replay_file',
        'give --replay-file (replay_file)',
      ],
    ],
    [
      'a session setting that there is not',
      of({ replayFile: 'a.jsonl', sessionOverride: { s1: { speed: 'x2' } } } as never),
      [
        'bad_option',
        'sessionOverride: speed is no setting of a session',
        'a session has mode, pace, shape and replay-turns (replay_turns) of its own',
      ],
    ],
    [
      'no session field',
      of({ ...UPSTREAM, sessionSources: ['body'] }),
      [
        'bad_option',
        'session_sources holds body, and no field is named',
        'give --session-body-field (session_body_field), such as session_id',
      ],
    ],
    [
      'a session field that nobody reads',
      of({ ...UPSTREAM, sessionBodyField: 'sid' }),
      [
        'bad_option',
        'session_body_field sid is read only where session_sources holds body',
        'give --session-sources path,header,body, or leave the field out',
      ],
    ],
  ])
})

t.test('M65: a host that is not loopback needs insecure_bind', async (t) => {
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'box.example', '127.0.0.1.example']) {
    t.strictSame(refusal({ options: { ...UPSTREAM, host } }), [
      'bad_option',
      `host ${host} is not a loopback address, and clients need no key to use rolltape`,
      'give clients keys with --keys-file (keys_file), or add --insecure-bind (insecure_bind: true) where everybody who reaches the port may use the upstream',
    ])
    t.equal(resolveOptions({ options: { ...UPSTREAM, host, insecureBind: true } }).host, host)
  }
  for (const host of ['127.0.0.1', '127.1.2.3', '::1', 'localhost']) {
    t.equal(resolveOptions({ options: { ...UPSTREAM, host } }).host, host)
  }
})

t.test('L24: a budget that the largest request does not fit in is refused', async (t) => {
  const least = (1 << 26) + (64 << 10)
  check(t, [
    ['just enough', { options: { ...UPSTREAM, maxInFlightBytes: least } }, ['accepted']],
    ['none', { options: { ...UPSTREAM, maxInFlightBytes: 0 } }, ['accepted']],
    [
      'too little',
      { options: { ...UPSTREAM, maxInFlightBytes: least - 1 } },
      [
        'bad_option',
        `max_in_flight_bytes ${least - 1} is less than the largest request takes: request_body_bytes_max ${1 << 26} and 65536 for its answer`,
        `give at least ${least}, or a smaller --request-body-bytes-max (request_body_bytes_max)`,
      ],
    ],
  ])
})
