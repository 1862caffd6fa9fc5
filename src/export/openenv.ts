/**
 * `openenv`: turn lines, as the reference's interception proxy writes them, one per generation
 * request. Request and response are spliced in as they stand in the record. The lines can be
 * replayed (`src/replay/source-line.ts` reads them), so what a replay needs stands beside the
 * reference's keys:
 *
 *   {"turn":1,"session":"s1","request":{…},"response":{…},"logprobs":[…],"completion_tokens":["…"],
 *    "completion_token_ids":[…],"per_token_logps":[…],"prompt_token_ids":[…],"finish_reason":"stop",
 *    "latency_s":0.8,"timestamp":1760000000.5,"recorder":"rolltape","method":"POST","path":"/v1/…",…}
 */
import { RawJson, formatLine } from '../trajectory/line.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { memberText } from '../wire/json-span.ts'
import { isObject, listAt, objectAt } from '../wire/json.ts'
import { annotationOf } from './exporter.ts'
import type { Exporter, ExportSink, ExportTally } from './exporter.ts'
import type { ExportRecord, ExportSession } from './source.ts'

/** Writes turn lines. */
export function openenvExporter(sink: ExportSink, tally: ExportTally): Exporter {
  return {
    async session(session) {
      let turn = 0
      for (const each of session.records()) {
        if (each.record.turn === null) {
          tally.leave('no generation request, so without a turn')
          continue
        }
        turn = each.record.turn ?? turn + 1
        await sink.write(Buffer.concat([turnLine(each, session, turn), LF]))
        tally.written++
      }
    },
    end: async () => undefined,
  }
}

const LF = Buffer.from('\n')

function turnLine(
  { record, text, retryOf }: ExportRecord,
  session: ExportSession,
  turn: number,
): Buffer {
  const tokens = record.tokens?.[0]
  const status = record.http_status ?? null
  return formatLine({
    turn,
    session: session.session,
    request: new RawJson(memberText(text, 'request') ?? 'null'),
    response: new RawJson(memberText(text, 'response') ?? 'null'),
    logprobs: logprobsOf(record),
    completion_tokens: tokens?.tokens ?? [],
    completion_token_ids: tokens?.token_ids ?? [],
    per_token_logps: tokens?.logprobs ?? [],
    prompt_token_ids: tokens?.prompt_token_ids ?? [],
    finish_reason: record.finish_reasons?.[0] ?? null,
    latency_s: record.response_time,
    timestamp: record.end_time,
    recorder: 'rolltape',
    id: record.id,
    seq: record.seq,
    run: session.run,
    method: record.method,
    path: record.path,
    stream: record.stream,
    outcome: record.outcome,
    partial: record.partial,
    ...(status !== null && status >= 400 ? { upstream_status: status } : {}),
    retry_of: retryOf,
    policy: record.policy,
    ...annotationOf(session),
    tags: { ...record.tags, ...session.note.tags },
  })
}

/**
 * The entries of the first choice as the server sent them to the client; where it was not to get
 * any, what is known of them. A token that is not spelled is told by its id, as vLLM does.
 */
function logprobsOf({ response, tokens }: StoredRecord): readonly unknown[] | null {
  const [choice] = listAt(isObject(response) ? response : undefined, 'choices')
  const logprobs = objectAt(isObject(choice) ? choice : undefined, 'logprobs')
  const content = listAt(logprobs, 'content')
  if (content.length > 0) return content
  const [known] = tokens ?? []
  const told = known?.logprobs?.map((logprob, at) => ({
    token: known.tokens?.[at] ?? `token_id:${known.token_ids?.[at] ?? ''}`,
    logprob,
  }))
  return told ?? null
}
