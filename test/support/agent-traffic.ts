/**
 * Agents' traffic as a tape holds it, made from a seed: sessions side by side, each sending its system
 * prompt, its tools and its whole history again with every turn, and getting a streamed answer token by
 * token. The words are random, so what packs is what is said again, and JSON's own shape.
 */
import type { TapeWriter } from '../../src/tape/writer.ts'
import { KIND, formatBegin, formatEnd, formatHead } from '../../src/tape/format.ts'
import { BEGIN, END, chunksPayload, commit, newTail } from '../tape/tapes.ts'
import { seeded } from '../../src/inference/seeded.ts'

/** How much of it. */
export interface AgentTraffic {
  readonly seed: number
  readonly sessions: number
  readonly turns: number
}

interface Message {
  readonly role: string
  readonly content: string
}

/** Characters of each thing that is said. */
const CHARS = { system: 6_000, tools: 9_000, task: 1_500, answer: 1_200, result: 3_000 } as const
const VOCABULARY = 20_000
/** Written at once; the writer takes no more than it can hold. */
const PENDING_BYTES = 8 << 20

/** Lays the traffic down; each session's turns in order, sessions taking turns by chance. */
export async function layAgentTraffic(writer: TapeWriter, traffic: AgentTraffic): Promise<void> {
  const { seed, sessions, turns } = traffic
  const random = seeded(seed)
  const words = Array.from({ length: VOCABULARY }, () => wordOf(random))
  const say = (chars: number): string => {
    let text = ''
    // Half of what is said is said with few words, as in any language.
    while (text.length < chars) {
      const range = random() < 0.5 ? 200 : VOCABULARY
      text += `${words[Math.floor(random() * range)]} `
    }
    return text
  }
  const shared = { system: say(CHARS.system), tools: say(CHARS.tools) }
  const histories = Array.from({ length: sessions }, (): Message[] => [
    { role: 'system', content: shared.system },
    { role: 'user', content: say(CHARS.task) },
  ])
  for (let seq = 1; seq <= sessions * turns; seq++) {
    const running = histories.flatMap((history, n) => (history.length < 2 * turns + 2 ? [n] : []))
    const session = running[Math.floor(random() * running.length)] ?? 0
    const history = histories[session] ?? []
    const answer = say(CHARS.answer)
    layTurn(writer, { seq, session, history, tools: shared.tools, answer })
    history.push({ role: 'assistant', content: answer })
    history.push({ role: 'tool', content: say(CHARS.result) })
    if (writer.pendingBytes > PENDING_BYTES) await commit(writer)
  }
}

interface Turn {
  readonly seq: number
  readonly session: number
  readonly history: readonly Message[]
  readonly tools: string
  readonly answer: string
}

function layTurn(writer: TapeWriter, { seq, session, history, tools, answer }: Turn): void {
  const tail = newTail(seq)
  const name = `session-${session}`
  const turn = history.length / 2
  const request = { model: 'qwen3', stream: true, tools, messages: history }
  const chunks = answer.split(' ').map((content) => eventOf(`chatcmpl-${seq}`, content))
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  writer.append(tail, KIND.begin, 0, formatBegin({ ...BEGIN, session: name, turn }))
  writer.append(tail, KIND.request, 0, Buffer.from(JSON.stringify(request)))
  writer.append(
    tail,
    KIND.head,
    0,
    formatHead(1_000, 200, 'OK', ['content-type', 'text/event-stream']),
  )
  writer.append(tail, KIND.chunks, 0, chunksPayload(chunks))
  const end = { ...END, bytesReceived: bytes, bytesForwarded: bytes }
  writer.append(tail, KIND.end, 0, formatEnd(end))
}

function eventOf(id: string, content: string): string {
  const choice = {
    index: 0,
    delta: { content: `${content} ` },
    logprobs: null,
    finish_reason: null,
  }
  const chunk = { id, object: 'chat.completion.chunk', created: 1_760_000_000, model: 'qwen3' }
  return `data: ${JSON.stringify({ ...chunk, choices: [choice] })}\n\n`
}

function wordOf(random: () => number): string {
  const length = 2 + Math.floor(random() * 8)
  return Array.from({ length }, () => String.fromCharCode(97 + Math.floor(random() * 26))).join('')
}
