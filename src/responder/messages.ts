/** Requests and ends of sessions as responders are told of them. */
import { SessionEnd as SESSION_END } from '../control/gen/rolltape/responder/v1/responder.ts'
import type {
  Header,
  ServeResponse,
  SessionEnd as SessionEndMessage,
  SessionEnded,
} from '../control/gen/rolltape/responder/v1/responder.ts'
import { RESPONDER_PART_BYTES } from '../limits.ts'
import type { Asked } from './bridge.ts'
import type { SessionEnd } from './refusals.ts'

type Told = NonNullable<ServeResponse['message']>

const WHY: Readonly<Record<SessionEnd, SessionEndMessage>> = {
  closed: SESSION_END.CLOSED,
  process_gone: SESSION_END.PROCESS_GONE,
  command_ended: SESSION_END.COMMAND_ENDED,
}

/** A request, and what of its body does not fit one message. */
export function requestMessages(asked: Asked, delivery: number): Told[] {
  const { id, session, run, turn, seq, method, path, flat, body, deadlineMs } = asked
  const value = {
    id,
    delivery,
    session,
    run,
    turn,
    seq,
    method,
    path,
    headers: headersOf(flat),
    bodyBytes: body.length,
    body: body.subarray(0, RESPONDER_PART_BYTES),
    deadline: Number.isFinite(deadlineMs) ? new Date(deadlineMs) : undefined,
  }
  const messages: Told[] = [{ $case: 'request', value }]
  for (let at = RESPONDER_PART_BYTES; at < body.length; at += RESPONDER_PART_BYTES) {
    const data = body.subarray(at, at + RESPONDER_PART_BYTES)
    messages.push({ $case: 'requestBody', value: { id, data } })
  }
  return messages
}

/** The end of a session. */
export function sessionEndedMessage(session: string, why: SessionEnd): SessionEnded {
  return { session, why: WHY[why] }
}

/** Headers as name and value in turn. */
export function flatOf(headers: readonly Header[]): string[] {
  return headers.flatMap(({ name, value }) => [name, value])
}

function headersOf(flat: readonly string[]): Header[] {
  const headers: Header[] = []
  for (let i = 0; i + 1 < flat.length; i += 2) {
    headers.push({ name: flat[i] as string, value: flat[i + 1] as string })
  }
  return headers
}
