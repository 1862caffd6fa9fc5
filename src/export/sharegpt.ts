/**
 * `sharegpt`: one JSON line per conversation, with `conversations` of `{from, value}` (`system`,
 * `human`, `gpt`, `function_call`, `observation`) and `tools` as a JSON text, as LLaMA-Factory and
 * others read them. What is no text (images) stands there as JSON.
 */
import { isObject, listAt, objectAt } from '../wire/json.ts'
import type { JsonObject } from '../wire/json.ts'
import { conversationsOf } from './conversations.ts'
import type { Exporter, ExportSink, ExportTally } from './exporter.ts'
import { metadataOf } from './openai-chat.ts'

interface Said {
  readonly from: string
  readonly value: string
}

const SPEAKERS: Readonly<Record<string, string>> = {
  system: 'system',
  developer: 'system',
  user: 'human',
  assistant: 'gpt',
  tool: 'observation',
  function: 'observation',
}

/** Writes conversations. */
export function sharegptExporter(sink: ExportSink, tally: ExportTally): Exporter {
  return {
    async session(session) {
      for (const conversation of conversationsOf(session, tally)) {
        const { request, messages, answer, source, choice } = conversation
        const { tools } = request
        const line = {
          id: `${source.record.id ?? session.session}${choice === 0 ? '' : `-${choice}`}`,
          conversations: [...messages, answer].flatMap(saidIn),
          ...(tools === undefined ? {} : { tools: JSON.stringify(tools) }),
          metadata: metadataOf(conversation, session),
        }
        await sink.write(`${JSON.stringify(line)}\n`)
        tally.written++
      }
    },
    end: async () => undefined,
  }
}

/** What a message says, then each call that it makes. */
function saidIn(message: JsonObject): Said[] {
  const role = String(message['role'])
  const text = textOf(message['content'])
  const calls = listAt(message, 'tool_calls').map((call): Said => {
    const named = objectAt(isObject(call) ? call : undefined, 'function') ?? {}
    const value = JSON.stringify({ name: named['name'], arguments: parsed(named['arguments']) })
    return { from: 'function_call', value }
  })
  if (text === '' && calls.length > 0) return calls
  return [{ from: SPEAKERS[role] ?? role, value: text }, ...calls]
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (content === null || content === undefined) return ''
  if (!Array.isArray(content)) return JSON.stringify(content)
  return content
    .map((part: unknown) =>
      isObject(part) && typeof part['text'] === 'string' ? part['text'] : JSON.stringify(part),
    )
    .join('')
}

/** Arguments are a text that holds JSON; one that does not stays a text. */
function parsed(text: unknown): unknown {
  try {
    return JSON.parse(String(text)) as unknown
  } catch {
    return text
  }
}
