/**
 * An agent of ten turns, with a title, a sub-agent, a call that failed, one that got lost, and a
 * compaction; asked through rolltape by the real SDK.
 */
import OpenAI from 'openai'
import type { Test } from 'tap'
import type { ExchangeRecord } from '../../src/trajectory/record.ts'
import { startRecorder } from './recorder.ts'
import { startTokenEngine } from './token-engine.ts'

/** What was recorded. */
export interface RecordedAgent {
  readonly file: string
  readonly records: readonly ExchangeRecord[]
  /** Tokens that the engine sent. */
  readonly sampled: number
  /** Names the record with an id by its call; `m5!` is the attempt at `m5` that was in vain. */
  nameOf(id: string | null): string
}

type Message = OpenAI.ChatCompletionMessageParam

const SYSTEM: Message = { role: 'system', content: 'You fix bugs.' }
const TOOLS: OpenAI.ChatCompletionTool[] = [
  { type: 'function', function: { name: 'run', parameters: { type: 'object' } } },
]

/** Runs the agent and reads what was recorded. */
export async function recordAgent(t: Test, session = 'task-7'): Promise<RecordedAgent> {
  const asked = new Map<string, number>()
  const engine = await startTokenEngine(t, ({ user = '' }) => {
    const times = (asked.get(user) ?? 0) + 1
    asked.set(user, times)
    if (user === 'm4' && times === 1) return { content: '', status: 500 }
    if (user === 'm5' && times === 1) return { content: `lost words of ${user} `, silentAfter: 3 }
    if (user === 'm3') return { content: 'I run it.', call: ['run', '{"cmd": "make test"}'] }
    return { content: `This is what ${user} says.` }
  })
  const recorder = await startRecorder(t, engine.url, { tag: { env: 'dev' } })
  const client = new OpenAI({
    baseURL: `${recorder.url}/v1`,
    apiKey: 'k',
    defaultHeaders: { 'x-session-id': session },
  })
  const ask = async (user: string, messages: Message[], more: object = {}): Promise<Message> => {
    const body = { model: 'demo', user, messages, logprobs: true, return_token_ids: true, ...more }
    const { choices } = await client.chat.completions.create(body)
    return choices[0]!.message as Message
  }
  const stream = async (user: string, messages: Message[], leaveAfter = Infinity) => {
    const capture = { logprobs: true, return_token_ids: true } as const
    const body = { model: 'demo', user, messages, tools: TOOLS, stream: true, ...capture } as const
    const chunks = await client.chat.completions.create(body)
    let content = ''
    let seen = 0
    for await (const { choices } of chunks) {
      content += choices[0]?.delta.content ?? ''
      if (++seen > leaveAfter) chunks.controller.abort()
    }
    return { role: 'assistant', content } as Message
  }
  const tools = { tools: TOOLS }
  const user = (content: string): Message => ({ role: 'user', content })

  await ask('t1', [{ role: 'system', content: 'You make titles.' }, user('Fix bug 7')])
  const history: Message[] = [SYSTEM, user('Fix bug 7')]
  history.push(await ask('m1', history, tools), user('go on'))
  history.push(await stream('m2', history), user('go on'))
  history.push(await ask('m3', history, tools))
  const helper: Message[] = [{ role: 'system', content: 'You search.' }, user('Find it')]
  helper.push(await ask('s1', helper), user('more'))
  await ask('s2', helper)
  history.push({ role: 'tool', tool_call_id: 'call_1', content: 'all fine' })
  history.push(await ask('m4', history, tools), user('go on'))
  await stream('m5', history, 3)
  history.push(await stream('m5', history), user('go on'))
  history.push(await ask('m6', history, tools), user('Sum up what you did'))
  const sum = await ask('m7', history, tools)
  const anew: Message[] = [SYSTEM, user(`So far: ${String(sum.content)}`)]
  anew.push(await ask('m8', anew, tools), user('go on'))
  anew.push(await stream('m9', anew), user('go on'))
  await ask('m10', anew, tools)

  const records = await recorder.finish()
  const names = new Map(
    records.map(({ id, request, status }) => {
      const { user: name = '' } = request as { user?: string }
      return [id, status === 'success' ? name : `${name}!`]
    }),
  )
  return {
    file: recorder.file,
    records,
    sampled: engine.sampled,
    nameOf: (id) => names.get(id ?? '') ?? '',
  }
}
