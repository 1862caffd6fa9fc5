/**
 * `kill -9` at random moments under load, again and again on one recording: what a client saw end is
 * on the tape and has exactly one record, whatever else was running. Every other life goes on until
 * something has ended, however slow the machine is. LONG=1 for 200 times each.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { ExchangeRecord } from '../../src/trajectory/record.ts'
import { MAIN, rolltape } from '../cli/harness.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'

const isLong = process.env['LONG'] === '1'
const KILLS = isLong ? 200 : 8
/** Of `memory`, which promises less: how much less is seen in a few. */
const MEMORY_KILLS = isLong ? 50 : 4
const CLIENTS = 8
const KILL_MS = { min: 5, max: 250 } as const
t.setTimeout(isLong ? 1_800_000 : 120_000)

/** What a client knows of one exchange. */
interface Seen {
  readonly session: string
  /** It had all of the answer: its length, or its terminal mark. */
  readonly ended: boolean
  readonly body: Buffer
}

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
t.comment(`SEED=${seed}`)
let state = seed
/** The next number of a fixed sequence, from 0 up to 1. */
function random(): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return state / 2 ** 32
}

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

/** Records until it is killed; gives what clients saw. */
async function runOnce(life: number, file: string, durability: string): Promise<Seen[]> {
  const flags = ['--proxy-base-url', upstream.url, '--recording-file', file, '--port', '0']
  const argv = [
    MAIN,
    'serve',
    ...flags,
    '--control',
    'off',
    '--log-level',
    'error',
    '--durability',
    durability,
  ]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const url = /http:\S+/.exec(line)?.[0] ?? ''
  const seen: Seen[] = []
  const ended = Promise.withResolvers<void>()
  let isOver = false
  const rollout = async (client: number): Promise<void> => {
    for (let n = 0; !isOver; n++) {
      const session = `${life}-${client}-${n}`
      const connection = await RawClient.open(url).catch(() => undefined)
      if (connection === undefined) return
      const stream = (client + n) % 2 === 0
      const scenario = { words: 4 + (n % 40), pace_ms: n % 3 }
      const messages = [{ role: 'user', content: session }]
      const body = JSON.stringify({ model: 'demo', stream, messages, scenario })
      connection.send(post(`/sessions/${session}/v1/chat/completions`, body))
      const answer = await connection.answer().catch(() => undefined)
      connection.close()
      if (answer === undefined) seen.push({ session, ended: false, body: Buffer.alloc(0) })
      else {
        const isWhole = stream ? answer.body.includes('data: [DONE]\n\n') : answer.whole
        seen.push({ session, ended: isWhole, body: answer.body })
        if (isWhole) ended.resolve()
      }
    }
  }
  const rollouts = Promise.all(Array.from({ length: CLIENTS }, (_, client) => rollout(client)))
  if (life % 2 === 0) await ended.promise
  await delay(KILL_MS.min + random() * (KILL_MS.max - KILL_MS.min))
  child.kill('SIGKILL')
  isOver = true
  await Promise.all([exited, rollouts])
  return seen
}

/** Kills it so often, then starts it once more and ends it. */
async function live(kills: number, durability: string) {
  const file = join(makeFolder(t), 'a.jsonl')
  const seen: Seen[] = []
  for (let life = 0; life < kills; life++) seen.push(...(await runOnce(life, file, durability)))
  const last = await startRecorder(t, upstream.url, { recordingFile: file })
  const records = await last.finish()
  return { file, seen, records }
}

const sha256 = (body: Buffer): string => createHash('sha256').update(body).digest('hex')

/** Sessions with other than one record; digests that are not those of what the client got. */
function faults(seen: readonly Seen[], records: readonly ExchangeRecord[]): string[] {
  const bySession = Map.groupBy(records, ({ session }) => session)
  return seen.flatMap(({ session, ended, body }) => {
    const own = bySession.get(session) ?? []
    if (own.length > 1) return [`${session}: ${own.length} records`]
    const [record] = own
    if (!ended || record === undefined) return []
    if (record.outcome !== 'complete') return [`${session}: ended, and is ${record.outcome}`]
    return record.sha256.response === sha256(body) ? [] : [`${session}: other bytes`]
  })
}

for (const durability of ['written', 'synced']) {
  t.test(
    `killed ${KILLS} times under load, ${durability}: nothing that ended is lost`,
    async (t) => {
      const { file, seen, records } = await live(KILLS, durability)
      const ended = seen.filter((one) => one.ended)
      const known = new Set(records.map(({ session }) => session))
      t.strictSame(
        ended.filter(({ session }) => !known.has(session)).map(({ session }) => session),
        [],
        'each exchange that a client saw end has its record',
      )
      t.strictSame(faults(seen, records), [])
      t.equal(new Set(records.map(({ seq }) => seq)).size, records.length, 'no number comes twice')
      const { code, stdout } = await rolltape(['verify', file, '--json'])
      t.match([code, JSON.parse(stdout)], [0, { whole: true, doubled: [], without_record: [] }])
      const recovered = records.filter(({ flags }) => flags.includes('recovered')).length
      const cut = records.filter(({ outcome }) => outcome === 'incomplete').length
      t.comment(`${ended.length} ended, ${cut} incomplete, ${recovered} recovered`)
      t.ok(ended.length > 0, 'there was load')
      t.ok(cut > 0, 'it was killed in the middle of something')
    },
  )
}

t.test(
  `killed ${MEMORY_KILLS} times, memory: what is lost is told or not there, never wrong`,
  async (t) => {
    const { file, seen, records } = await live(MEMORY_KILLS, 'memory')
    const ended = seen.filter((one) => one.ended)
    const outcomes = new Map(records.map(({ session, outcome }) => [session, outcome]))
    const isKept = ({ session }: Seen): boolean => outcomes.get(session) === 'complete'
    // The answer was with the client before it was with the OS: then its record says incomplete.
    const cut = ended.filter(({ session }) => outcomes.get(session) === 'incomplete')
    const gone = ended.filter(({ session }) => !outcomes.has(session))
    t.comment(
      `of ${ended.length} that ended ${cut.length} are incomplete, ${gone.length} not there`,
    )
    t.equal(ended.filter(isKept).length, ended.length - cut.length - gone.length)
    t.strictSame(
      faults(
        seen.filter((one) => !one.ended || isKept(one)),
        records,
      ),
      [],
    )
    t.equal((await rolltape(['verify', file])).code, 0)
  },
)
