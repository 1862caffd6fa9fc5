/** The effective configuration, written to a file, is the same configuration again. */
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { stringify } from 'yaml'
import { resolveOptions } from '../../src/options.ts'
import { definitionOf, OPTION_KEYS, names } from '../../src/options/definitions.ts'
import { effectiveOptions } from '../../src/options/effective.ts'
import { makeFolder } from '../support/recorder.ts'

const YAML = `
port: 0
control: unix:/run/rolltape/c.sock
control_token_file: /etc/token
proxy_base_url: [http://a:1/v1, http://b:2]
upstream_api_key: env:KEY
request_timeout: 90500ms
heartbeat: 15
retryable_status_codes: [429, 503]
lanes: 3
engine: { http://a:1/v1: vllm, default: sglang }
require: [tokens]
max_completion_tokens: [known, x*]
max_tokens_cap: 100
policy_poll_path: /weight_info
recording_file: runs/a.jsonl
tag: { run: 17, nightly: true }
segment_bytes: 1MiB
session_override:
  s1: { mode: passthrough, pace: x2 }
  s2: { pace: "ttft=250,tps=30" }
session_sources: [header, body]
session_body_field: session_id
`

t.test('all that a file may hold comes back as it was', async (t) => {
  const folder = makeFolder(t)
  const env = { KEY: 'sk-secret' }
  const load = (text: string) => {
    writeFileSync(join(folder, 'a.yaml'), text)
    return resolveOptions({ file: join(folder, 'a.yaml'), env })
  }
  const first = load(YAML)
  const shown = effectiveOptions(first)
  t.strictSame(
    shown.map(({ key }) => key),
    OPTION_KEYS.map((key) => names(key).yaml),
  )
  t.notMatch(JSON.stringify(shown), 'sk-secret')
  t.match(
    shown.find(({ key }) => key === 'upstream_api_key'),
    { value: 'env:KEY', origin: 'file' },
  )
  const flagOnly = OPTION_KEYS.filter((key) => definitionOf(key).flagOnly === true)
  const kept = shown.filter(({ key }) => !flagOnly.some((one) => names(one).yaml === key))
  const again = load(stringify(Object.fromEntries(kept.map(({ key, value }) => [key, value]))))
  const plain = (config: typeof first) => ({
    ...config,
    origins: undefined,
    upstreamApiKey: config.upstreamApiKey?.reveal(),
  })
  t.strictSame(plain(again), plain(first))
})
