/**
 * How many tools an answer calls, in each protocol's own way of saying so.
 */
import { isObject, listAt, objectAt } from '../wire/json.ts'
import type { JsonObject } from '../wire/json.ts'
import type { StoredRecord } from './jsonl.ts'

/** Calls of Responses that a client is to make; the others the server makes itself. */
const RESPONSES_CALLS = new Set(['function_call', 'custom_tool_call', 'local_shell_call'])

/** The calls in a record's answer that its client is to make, over all choices. */
export function countToolCalls({ response, protocol }: StoredRecord): number {
  if (!isObject(response)) return 0
  switch (protocol ?? 'openai.chat') {
    case 'openai.chat':
      return sum(objectsIn(response, 'choices'), callsOfChoice)
    case 'openai.responses':
      return sum(objectsIn(response, 'output'), ({ type }) =>
        one(RESPONSES_CALLS.has(String(type))),
      )
    case 'anthropic.messages':
      return sum(
        [...objectsIn(response, 'content'), ...eventsOf(response).map(blockOf)],
        ({ type }) => one(type === 'tool_use'),
      )
    case 'gemini.generate':
      return sum([response, ...eventsOf(response)], callsOfGemini)
    case 'openai.completions':
    case 'raw':
      return 0
  }
}

function callsOfChoice(choice: JsonObject): number {
  const message = objectAt(choice, 'message')
  const calls = listAt(message, 'tool_calls').length
  return calls > 0 ? calls : one(objectAt(message, 'function_call') !== undefined)
}

/** Streams of Messages open a block for each call. */
function blockOf(event: JsonObject): JsonObject {
  const isStart = event['type'] === 'content_block_start'
  return (isStart ? objectAt(event, 'content_block') : undefined) ?? {}
}

function callsOfGemini(answer: JsonObject): number {
  return sum(objectsIn(answer, 'candidates'), (candidate) =>
    sum(objectsIn(objectAt(candidate, 'content'), 'parts'), (part) =>
      one(objectAt(part, 'functionCall') !== undefined),
    ),
  )
}

function eventsOf(response: JsonObject): JsonObject[] {
  return objectsIn(response, 'events')
}

function objectsIn(from: JsonObject | undefined, key: string): JsonObject[] {
  return listAt(from, key).filter(isObject)
}

function sum(items: readonly JsonObject[], count: (item: JsonObject) => number): number {
  return items.reduce((total, item) => total + count(item), 0)
}

function one(is: boolean): number {
  return is ? 1 : 0
}
