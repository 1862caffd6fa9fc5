/**
 * Calling the command line wrongly: one clear line on stderr, exit code 2, nothing on stdout.
 */
import t from 'tap'

import { names, OPTION_KEYS } from '../../src/options/definitions.ts'
import { rolltape } from './harness.ts'

t.test('R34: one line and exit code 2 for each mistake', async (t) => {
  const UP = ['--proxy-base-url', 'http://a']
  const cases: [string[], string][] = [
    [['serv'], "unknown command 'serv', did you mean serve? (`rolltape --help` lists all)"],
    [
      ['serve', '--recrding-file', 'a'],
      "unknown option '--recrding-file', did you mean --recording-file? (`rolltape serve --help` lists all)",
    ],
    [
      ['serve', '--port'],
      "option '--port <n>' argument missing (`rolltape serve --help` lists all)",
    ],
    [
      ['serve', ...UP, '--port', '80a'],
      "--port: '80a' is not a whole number from 0 to 65535; for example 8080",
    ],
    [
      ['serve', ...UP, '--config-file', '/no/such.yaml'],
      "configuration /no/such.yaml cannot be read: ENOENT: no such file or directory, open '/no/such.yaml' (give a readable YAML file with --config-file, or leave it out)",
    ],
    [
      ['serve'],
      'mode passthrough forwards requests, and no upstream is given (give --proxy-base-url (proxy_base_url), such as http://127.0.0.1:8000, or proxy_rules)',
    ],
    [
      ['serve', ...UP, '--recording-file', 'a.jsonl', '--replay-file', 'a.jsonl'],
      'recording_file a.jsonl and replay_file a.jsonl are both given, and mode replay either records or replays (leave one of them out, or give --mode hybrid or --mode verify)',
    ],
    [['inspect'], "missing required argument 'recording' (`rolltape inspect --help` lists all)"],
  ]
  for (const [argv, line] of cases) {
    t.strictSame(
      await rolltape(argv),
      { code: 2, stdout: '', stderr: `rolltape: ${line}\n` },
      argv.join(' '),
    )
  }
})

t.test('the help of serve names every option under its heading', async (t) => {
  const { code, stdout } = await rolltape(['serve', '--help'])
  t.equal(code, 0)
  for (const key of OPTION_KEYS) t.match(stdout, `  ${names(key).flag} `, key)
  const headings = stdout.split('\n').filter((line) => /^\w.*:$/.test(line))
  t.strictSame(headings, [
    'Where it listens:',
    'Control:',
    'Upstream:',
    'Capacity:',
    'Transforms and token capture:',
    'Responder:',
    'Recording:',
    'Replay:',
    'Sessions:',
    'Process:',
    'Options:',
  ])
})

t.test('help and version go to stdout, help for no command at all to stderr', async (t) => {
  const version = await rolltape(['--version'])
  t.strictSame(version, { code: 0, stdout: '0.1.0\n', stderr: '' })
  const none = await rolltape([])
  t.equal(none.code, 2)
  t.match(none.stderr, /^Usage: rolltape/)
})
