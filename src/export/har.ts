/**
 * `har`: HTTP Archive 1.2, for browsers' tools and other viewers. Bodies are those of the records
 * (streams assembled); what records do not keep, such as headers, is empty or -1, as the format has
 * it. What is rolltape's own stands under keys that begin with `_`.
 *
 * Format: http://www.softwareishard.com/blog/har-12-spec/
 */
import { STATUS_CODES } from 'node:http'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { memberText } from '../wire/json-span.ts'
import { version } from '../version.ts'
import type { Exporter, ExportSink, ExportTally } from './exporter.ts'
import type { ExportRecord, ExportSession } from './source.ts'

/** Writes one archive. */
export function harExporter(sink: ExportSink, tally: ExportTally): Exporter {
  let isOpen = false
  const open = async (): Promise<void> => {
    if (isOpen) return
    isOpen = true
    const creator = JSON.stringify({ name: 'rolltape', version: version() })
    await sink.write(`{"log":{"version":"1.2","creator":${creator},"entries":[`)
  }
  return {
    async session(session) {
      await open()
      for (const each of session.records()) {
        await sink.write(
          `${tally.written === 0 ? '' : ','}\n${JSON.stringify(entryOf(each, session))}`,
        )
        tally.written++
      }
    },
    async end() {
      await open()
      await sink.write('\n]}}\n')
    },
  }
}

function entryOf({ record, text, retryOf }: ExportRecord, session: ExportSession): object {
  const { timings } = record
  const time = timings?.duration_ms ?? (record.response_time ?? 0) * 1_000
  const wait = timings?.ttfb_ms ?? time
  const status = record.http_status ?? 0
  const url = urlOf(record)
  const start = Number.isFinite(record.start_time) ? record.start_time : 0
  const asked = bodyOf(text, 'request')
  const answered = bodyOf(text, 'response')
  return {
    startedDateTime: new Date(start * 1_000).toISOString(),
    time,
    request: {
      method: record.method ?? 'POST',
      url: url.href,
      httpVersion: 'HTTP/1.1',
      cookies: [],
      headers: [],
      queryString: [...url.searchParams].map(([name, value]) => ({ name, value })),
      ...(asked === null ? {} : { postData: { mimeType: 'application/json', text: asked } }),
      headersSize: -1,
      bodySize: asked === null ? 0 : Buffer.byteLength(asked),
    },
    response: {
      status,
      statusText: STATUS_CODES[status] ?? '',
      httpVersion: 'HTTP/1.1',
      cookies: [],
      headers: [],
      content: {
        size: answered === null ? 0 : Buffer.byteLength(answered),
        mimeType: answered === null ? 'x-unknown' : 'application/json',
        ...(answered === null ? {} : { text: answered }),
      },
      redirectURL: '',
      headersSize: -1,
      bodySize: -1,
    },
    cache: {},
    timings: { send: 0, wait, receive: Math.max(0, time - wait) },
    _session: session.session,
    _run: session.run,
    _turn: record.turn ?? null,
    _id: record.id ?? null,
    _outcome: record.outcome ?? null,
    _error: record.error ?? null,
    _retry_of: retryOf,
    _reward: session.note.reward,
    _done: session.note.done,
    _tags: { ...record.tags, ...session.note.tags },
  }
}

/** Targets need not be sound; the format wants a URL. */
function urlOf({ path = '/v1/chat/completions', upstream }: StoredRecord): URL {
  const server = URL.parse(upstream ?? '')
  // A responder has no address.
  const base = server?.protocol.startsWith('http') === true ? server : new URL('http://localhost')
  return URL.parse(path, base) ?? base
}

function bodyOf(text: string, key: string): string | null {
  const body = memberText(text, key)
  return body === undefined || body === 'null' ? null : body
}
