/**
 * A second signal ends a drain at once, with the exit code that shells have for it, and tears no
 * record: what clients saw end is there once, the rest is told. LONG=1 for 50 times each.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { MAIN, rolltape } from '../cli/harness.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'

const isLong = process.env['LONG'] === '1'
const ROUNDS = isLong ? 50 : 1
const [STALLED, PACED] = [5, 20]
/** Far longer than any round takes: a drain that was waited for would show. */
const DRAIN_S = 600
t.setTimeout(isLong ? 900_000 : 120_000)

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

/** Starts one that records to this file. */
async function serve(file: string) {
  const flags = ['--port', '0', '--control', 'off', '--proxy-base-url', upstream.url]
  const more = ['--recording-file', file, '--drain-timeout', `${DRAIN_S}`, '--log-level', 'error']
  const child = spawn(process.execPath, [MAIN, 'serve', ...flags, ...more], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return { child, exited, url: new URL(/http:\S+/.exec(line)?.[0] ?? '') }
}

function ask(url: URL, session: string, scenario: object): Promise<Response> {
  const messages = [{ role: 'user', content: 'Hi' }]
  return fetch(`${url.origin}/sessions/${session}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ model: 'demo', stream: true, messages, scenario }),
  })
}

/**
 * Resolves once so many exchanges have begun on the tape. Nobody waits for what stands before an
 * answer to be written: it may take a moment more.
 */
async function haveBegun(file: string, count: number): Promise<void> {
  for (let begun = 0; begun < count;) {
    const { stdout } = await rolltape(['verify', file, '--json'])
    begun = (JSON.parse(stdout) as { exchanges: number }).exchanges
  }
}

/** Resolves once no connection is taken any more: the drain has begun. */
async function drains(url: URL): Promise<void> {
  for (;;) {
    const socket = connect(Number(url.port), url.hostname)
    const refused = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(false)).once('error', () => resolve(true))
    })
    socket.destroy()
    if (refused) return
  }
}

for (const [signal, exitCode] of [
  ['SIGTERM', 143],
  ['SIGINT', 130],
] as const) {
  t.test(
    `${signal} twice, ${ROUNDS} times: exit code ${exitCode}, no record is torn`,
    async (t) => {
      const file = join(makeFolder(t), 'a.jsonl')
      const ended: string[] = []
      const cut: string[] = []
      for (let round = 0; round < ROUNDS; round++) {
        const { child, exited, url } = await serve(file)
        const run = async (session: string, scenario: object): Promise<void> => {
          try {
            const text = await (await ask(url, session, scenario)).text()
            ;(text.includes('[DONE]') ? ended : cut).push(session)
          } catch {
            cut.push(session)
          }
        }
        const stalls = Array.from({ length: STALLED }, async (_, i) => {
          const session = `${round}-stalled-${i}`
          const response = await ask(url, session, { stall_after: 2 })
          cut.push(session)
          return response
        })
        const stalled = (await Promise.all(stalls)).map((one) => one.text().catch(() => undefined))
        const paced = Array.from({ length: PACED }, (_, i) =>
          run(`${round}-${i}`, { words: 5 * i, pace_ms: i % 8 }),
        )
        await Promise.all([paced[0], paced[1]])
        // What comes when it drains is refused, and that is another matter.
        await haveBegun(file, (round + 1) * (STALLED + PACED))
        child.kill(signal)
        await drains(url)
        child.kill(signal)
        t.strictSame(await exited, [exitCode, null], 'the drain is not waited for')
        await Promise.all([...stalled, ...paced])
        const text = readFileSync(file, 'utf8')
        t.ok(text === '' || text.endsWith('\n'), 'the last record is whole')
        for (const line of text.split('\n')) if (line !== '') JSON.parse(line)
      }
      const records = await (await startRecorder(t, upstream.url, { recordingFile: file })).finish()
      const outcomes = new Map(records.map(({ session, outcome }) => [session, outcome]))
      t.equal(outcomes.size, records.length, 'one record each')
      const lost = ended.filter((session) => outcomes.get(session) !== 'complete')
      t.strictSame(lost, [], 'what a client saw end is complete')
      t.strictSame(
        new Set(records.map(({ outcome }) => outcome)),
        new Set(['complete', 'incomplete']),
      )
      const stalled = cut.filter((session) => session.includes('stalled'))
      t.ok(stalled.every((session) => outcomes.get(session) === 'incomplete'))
      const { code, stdout } = await rolltape(['verify', file, '--json'])
      t.match([code, JSON.parse(stdout)], [0, { whole: true, doubled: [], without_record: [] }])
    },
  )
}
