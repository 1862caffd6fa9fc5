/**
 * Credentials go to the upstream and nowhere else: not to the tape, not to the records, not to the
 * log at its most talkative, not to the state file, not to the process list. Bodies are left alone.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'

import t, { type Test } from 'tap'

import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { MAIN } from '../cli/harness.ts'
import { post, RawClient } from '../support/raw-client.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'

const BODY = '{"model":"m","messages":[{"role":"user","content":"my api_key=body-text stays"}]}'

/** Everything a client or an upstream may send that must not be kept. */
const CLIENT_SECRETS = {
  authorization: 'Bearer sk-client-1',
  'X-Api-Key': 'sk-client-2',
  'x-goog-api-key': 'sk-client-3',
  'api-key': 'sk-client-4',
  'Proxy-Authorization': 'Basic sk-client-5',
  COOKIE: 'session=sk-client-6',
}
const QUERY =
  'key=sk-query-1&api_key=sk-query-2&access_token=sk-query-3&Tenant_Key=sk-team-2&q=plain'
/** Those of an organisation of its own. */
const TEAM_SECRETS = { 'X-Team-Key': 'sk-team-1' }
const SET_COOKIE = 'id=sk-cookie-1'

/** Runs `serve` over an upstream, has `use` ask it something, and returns all that it wrote. */
async function record(t: Test, flags: string[], env: Record<string, string>) {
  const seen: string[] = []
  const upstream = await startScriptedUpstream((exchange) => {
    const { target } = exchange.head
    seen.push([target, ...exchange.head.headers.map((pair) => pair.join(': '))].join('\n'))
    const body = '{"choices":[]}'
    const head = responseHead(200, 'OK', [
      ['Content-Type', 'application/json'],
      ['Set-Cookie', SET_COOKIE],
      ['X-Team-Session', 'sk-team-3'],
      ['Content-Length', String(body.length)],
    ])
    return target.includes('reset') ? exchange.reset() : exchange.send(head, body)
  })
  t.teardown(() => upstream.close())
  const folder = makeFolder(t)
  const file = join(folder, 'a.jsonl')
  const argv = [
    'serve',
    '--port',
    '0',
    '--control',
    'off',
    '--proxy-base-url',
    upstream.url,
    '--recording-file',
    file,
  ]
  const child = spawn(process.execPath, [MAIN, ...argv, '--log-level', 'trace', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], ...env },
  })
  t.teardown(() => child.kill('SIGKILL'))
  const log = text(child.stderr)
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const url = line.split(' ')[3]!
  const headers = Object.entries({ ...CLIENT_SECRETS, ...TEAM_SECRETS }).map((pair) =>
    pair.join(': '),
  )
  const client = await RawClient.open(url)
  client.send(post(`/v1/chat/completions?${QUERY}`, BODY, headers))
  const answer = await client.answer()
  client.send(post(`/v1/reset?${QUERY}`, BODY, headers))
  await client.answer()
  client.send(post(`ftp://h/x?${QUERY}`, BODY, headers))
  const refused = await client.answer()
  client.close()
  const status = readFileSync(`/proc/${child.pid}/cmdline`, 'latin1')
  child.kill('SIGTERM')
  await exited
  const written = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
  const kept = [...written, refused.body.toString(), await log]
  return { seen, answer, records: await recordsOf(file), kept, status }
}

t.test('M27 R5: what a client sends passes, and nothing secret of it is kept', async (t) => {
  const { seen, answer, kept, records, status } = await record(t, [], {})
  for (const value of Object.values(CLIENT_SECRETS)) {
    if (!value.startsWith('Basic')) t.ok(seen[0]!.includes(value), `the upstream got ${value}`)
  }
  t.ok(seen[0]!.includes(QUERY))
  t.ok(
    answer.headers.some(([, value]) => value === SET_COOKIE),
    'the client got its cookie',
  )
  for (const place of [...kept, status]) t.notMatch(place, /sk-(?:client|query|cookie)-\d/)
  const team = kept.filter((place) => /sk-team-\d/.test(place))
  t.not(team.length, 0, 'what no list names is kept')
  t.equal(kept.filter((place) => place.includes('body-text stays')).length, 2, 'tape and record')
  t.match(records[0]!.path, /key=\[redacted\].*q=plain$/)
  t.match(records[0]!.request, { messages: [{ content: 'my api_key=body-text stays' }] })
  t.equal(records.length, 3, 'those that failed are recorded too')
})

t.test("M27 R5: a key that rolltape holds takes the place of the client's own", async (t) => {
  const keyFile = join(makeFolder(t), 'key')
  writeFileSync(keyFile, 'sk-upstream-file\n')
  for (const [reference, key] of [
    ['env:UPSTREAM', 'sk-upstream-env'],
    [`file:${keyFile}`, 'sk-upstream-file'],
  ] as const) {
    const { seen, kept, status } = await record(t, ['--upstream-api-key', reference], {
      UPSTREAM: 'sk-upstream-env',
    })
    t.match(seen[0]!, `Authorization: Bearer ${key}`)
    t.notMatch(seen[0]!, /sk-client-[1236]|[?&]key=/, 'nothing of the client goes on')
    for (const place of [...kept, status]) {
      t.notMatch(place, /sk-(?:client|query|cookie|upstream)-\w/)
    }
  }
})

t.test("M27: an organisation's own headers and parameters are not kept either", async (t) => {
  const names = ['--redact-header', 'X-Team-Key,x-team-session', '--redact-query', 'tenant_key']
  const { seen, answer, kept, records, status } = await record(t, names, {})
  t.match(seen[0]!, 'X-Team-Key: sk-team-1')
  t.match(seen[0]!, 'Tenant_Key=sk-team-2')
  t.ok(answer.headers.some(([, value]) => value === 'sk-team-3'))
  for (const place of [...kept, status]) {
    t.notMatch(place, /sk-(?:client|query|cookie|team)-\d/)
  }
  t.match(records[0]!.path, /&Tenant_Key=\[redacted\]&q=plain$/)
})
