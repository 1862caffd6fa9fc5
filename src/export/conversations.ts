/**
 * Which chat calls end a conversation: those whose messages, answer included, no later call begins
 * with. Told from texts, so that it holds for recordings without token ids too; a message counts by
 * role, text and calls, as agents write the rest anew.
 *
 * Takes one pass over the messages; memory holds a digest per choice.
 */
import { hash } from 'node:crypto'
import { isRequestTaped } from '../trajectory/taped-requests.ts'
import { isObject, listAt, objectAt } from '../wire/json.ts'
import type { JsonObject } from '../wire/json.ts'
import type { ExportTally } from './exporter.ts'
import type { ExportRecord, ExportSession } from './source.ts'

/** A conversation from its first message to the answer that ends it. */
export interface Conversation {
  readonly source: ExportRecord
  readonly request: JsonObject
  readonly messages: readonly JsonObject[]
  readonly answer: JsonObject
  readonly choice: number
  readonly finishReason: string | null
}

/** The conversations of a session, by their last calls. What is none is counted. */
export function* conversationsOf(
  session: ExportSession,
  tally: ExportTally,
): Generator<Conversation> {
  const ends = endsOf(session)
  for (const source of session.records()) {
    const choices = chatChoices(source, tally)
    for (const { place, conversation } of choices) if (ends.has(place)) yield conversation
  }
}

/** Places of the answers that nothing goes on from: the record's `id` or line, and the choice. */
function endsOf(session: ExportSession): Set<string> {
  const ends = new Set<string>()
  /** By the digest of all messages up to the answer: the answers that are such. */
  const answers = new Map<string, string[]>()
  for (const source of session.records()) {
    const choices = chatChoices(source)
    const [first] = choices
    if (first === undefined) continue
    let digest = ''
    for (const message of first.conversation.messages) {
      digest = digestOf(digest, message)
      for (const place of answers.get(digest) ?? []) ends.delete(place)
    }
    for (const { place, conversation } of choices) {
      const whole = digestOf(digest, conversation.answer)
      const same = answers.get(whole)
      if (same === undefined) answers.set(whole, [place])
      else same.push(place)
      ends.add(place)
    }
  }
  return ends
}

interface Choice {
  readonly place: string
  readonly conversation: Conversation
}

function chatChoices(source: ExportRecord, tally?: ExportTally): Choice[] {
  const { record, text } = source
  const { request, response, protocol = 'openai.chat' } = record
  if (protocol !== 'openai.chat') {
    tally?.leave('no chat completions')
    return []
  }
  const answers = isObject(response) ? listAt(response, 'choices').filter(isObject) : []
  const told = answers.filter((choice) => objectAt(choice, 'message') !== undefined)
  if (isRequestTaped(record)) {
    tally?.leave('chat completions whose request is on the tape alone, and not found there')
    return []
  }
  if (!isObject(request) || told.length === 0) {
    tally?.leave('chat completions without an answer')
    return []
  }
  const messages = listAt(request, 'messages').filter(isObject)
  return told.map((choice, at) => {
    const { index, finish_reason: reason } = choice
    const number = typeof index === 'number' ? index : at
    const conversation: Conversation = {
      source,
      request,
      messages,
      answer: { role: 'assistant', ...objectAt(choice, 'message') },
      choice: number,
      finishReason: typeof reason === 'string' ? reason : null,
    }
    return { place: `${record.id ?? hash('sha1', text)} ${number}`, conversation }
  })
}

function digestOf(before: string, message: JsonObject): string {
  const calls = listAt(message, 'tool_calls').map((call) => {
    const named = objectAt(isObject(call) ? call : undefined, 'function')
    return [named?.['name'], named?.['arguments']]
  })
  const said = [message['role'], textOf(message['content']), calls, message['tool_call_id']]
  return hash('sha1', before + JSON.stringify(said))
}

/** Text parts and a text are the same; so are null and an empty one, and blanks around it. */
function textOf(content: unknown): unknown {
  if (content === null || content === undefined) return ''
  if (typeof content === 'string') return content.trim()
  if (!Array.isArray(content)) return content
  const texts = content.map((part: unknown) =>
    isObject(part) && part['type'] === 'text' ? part['text'] : undefined,
  )
  return texts.every((text) => typeof text === 'string') ? texts.join('').trim() : content
}
