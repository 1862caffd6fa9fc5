// 1,000 sessions of 20 turns with 500 in flight: every answer names its session, and is its own.
import t from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startRolltape } from '../../src/rolltape.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'

const CHAT = '/v1/chat/completions'
const SESSIONS = 1_000
const TURNS = 20
const IN_FLIGHT = 500

/** Runs all sessions, so many at once; each turn is asked after the one before is answered. */
async function ask(url: string, prefix: string): Promise<Map<string, string[]>> {
  const answers = new Map<string, string[]>()
  let next = 0
  const worker = async (): Promise<void> => {
    const client = await RawClient.open(url)
    while (next < SESSIONS) {
      const session = `${prefix}${next++}`
      const texts: string[] = []
      for (let turn = 0; turn < TURNS; turn++) {
        client.send(post(CHAT, `{"turn":${turn}}`, [`x-session-id: ${session}`]))
        texts.push((await client.answer()).body.toString())
      }
      answers.set(session, texts)
    }
    client.close()
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker))
  return answers
}

t.test('no answer crosses sessions, whatever they are called now', async (t) => {
  const upstream = await startScriptedUpstream((x) => {
    const { turn } = JSON.parse(x.body.toString()) as { turn: number }
    const text = JSON.stringify({ session: x.header('x-session-id'), turn })
    return x.send(responseHead(200, 'OK', [['Content-Length', String(text.length)]]), text)
  })
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { durability: 'memory' })
  const recorded = await ask(recorder.url, 's')
  await recorder.finish()
  for (const prefix of ['s', 'other-']) {
    const rolltape = await startRolltape({
      port: 0,
      replayFile: recorder.file,
      logLevel: 'error',
      lanes: prefix === 's' ? 1 : 2,
    })
    const again = await ask(rolltape.url, prefix)
    const crossed = [...again.values()].filter((texts) => {
      const parsed = texts.map((text) => JSON.parse(text) as { session: string; turn: number })
      return parsed.some(({ session, turn }, i) => session !== parsed[0]!.session || turn !== i)
    })
    t.strictSame(crossed, [])
    t.equal(new Set([...again.values()].map((texts) => texts[0])).size, SESSIONS)
    if (prefix === 's') t.strictSame(again.get('s7'), recorded.get('s7'))
    t.match((await rolltape.close()).verdict, { servedExact: SESSIONS * TURNS, unused: 0 })
  }
})
