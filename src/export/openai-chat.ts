/**
 * `openai-chat`: one JSON line per conversation in the shape that fine-tuning of chat models takes:
 * `messages` up to the last answer, `tools`, and `metadata` (texts only) with where it comes from.
 */
import type { JsonObject } from '../wire/json.ts'
import { conversationsOf } from './conversations.ts'
import type { Conversation } from './conversations.ts'
import type { Exporter, ExportSink, ExportTally } from './exporter.ts'
import type { ExportSession } from './source.ts'

/** Writes conversations. */
export function openaiChatExporter(sink: ExportSink, tally: ExportTally): Exporter {
  return {
    async session(session) {
      for (const conversation of conversationsOf(session, tally)) {
        const { request, messages, answer } = conversation
        const line = {
          messages: [...messages, withoutEmpty(answer)],
          ...(request['tools'] === undefined ? {} : { tools: request['tools'] }),
          ...(request['parallel_tool_calls'] === undefined
            ? {}
            : { parallel_tool_calls: request['parallel_tool_calls'] }),
          metadata: metadataOf(conversation, session),
        }
        await sink.write(`${JSON.stringify(line)}\n`)
        tally.written++
      }
    },
    end: async () => undefined,
  }
}

/** Where a conversation comes from and what was said about it, as texts; nothing that is not known. */
export function metadataOf(
  { source, choice, finishReason }: Conversation,
  session: ExportSession,
): Record<string, string> {
  const { record, retryOf } = source
  const { reward, done, note, tags } = session.note
  const known = {
    session: session.session,
    run: session.run,
    id: record.id,
    turn: record.turn,
    choice: choice === 0 ? null : choice,
    model: record.model,
    outcome: record.outcome,
    finish_reason: finishReason,
    policy_version: record.policy?.engine ?? record.policy?.dispatch,
    retry_of: retryOf,
    reward,
    done,
    note,
    ...record.tags,
    ...tags,
  }
  return Object.fromEntries(
    Object.entries(known)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([key, value]) => [key, String(value)]),
  )
}

/** Servers write out what is not there: `refusal: null`, `tool_calls: []`. */
function withoutEmpty(message: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(message).filter(([key, value]) => {
      if (key === 'content') return true
      return value !== null && !(Array.isArray(value) && value.length === 0)
    }),
  )
}
