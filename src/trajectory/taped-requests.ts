/**
 * Requests that records leave to the tape (`--record-requests ref`): such a record says
 * `"request":null` and, in its `tape`, `"request":true`. Whoever needs the request reads it there,
 * through here. One that is not there any more stays null, and so does one of a tape that is not the
 * record's own: nothing is paired by its place alone.
 */
import { hash } from 'node:crypto'
import { RolltapeError } from '../errors.ts'
import type { TapedExchange } from '../tape/exchange.ts'
import { TapeFolder } from '../tape/reader.ts'
import { requestBodyOf } from './derive.ts'
import type { StoredRecord } from './jsonl.ts'
import { SeqSet } from './seq-set.ts'

/** How a record without its request begins, as derive writes it. */
const NO_REQUEST = ',"request":null,'

/** True for a record whose request is on the tape alone. */
export function isRequestTaped({ request, tape }: StoredRecord): boolean {
  return request === null && tape?.request === true
}

/** Reads requests off a tape; keeps it open until it is closed. */
export class TapedRequests {
  readonly #tape: TapeFolder
  readonly #onTrouble: ((line: string) => void) | undefined
  /** Numbers of records whose request was not there; a record may be read more than once. */
  readonly #missing = new SeqSet()
  #why = ''

  /** `onTrouble` is told at the end, in one line, how many requests were not there, and why. */
  constructor(folder: string, onTrouble?: (line: string) => void) {
    this.#tape = new TapeFolder(folder)
    this.#onTrouble = onTrouble
  }

  /** The record with its request, if that is on the tape. */
  record(record: StoredRecord): StoredRecord {
    const text = this.#textOf(record)
    if (text === undefined) return record
    return { ...record, request: JSON.parse(text.toString('utf8')) as unknown }
  }

  /** A record's line with the request's own text in its place. */
  line(text: string, record: StoredRecord): string {
    const request = this.#textOf(record)
    const at = request === undefined ? -1 : text.indexOf(NO_REQUEST)
    if (request === undefined || at < 0) return text
    const whole = request.toString('utf8').replaceAll(/[\r\n]/g, ' ')
    return `${text.slice(0, at)},"request":${whole},${text.slice(at + NO_REQUEST.length)}`
  }

  /** Closes the tape, and tells what was not on it. */
  close(): void {
    this.#tape.close()
    const count = this.#missing.size
    if (count === 0) return
    const records = count === 1 ? '1 record is' : `${count} records are`
    this.#onTrouble?.(
      `${records} without a request: it is on the tape alone, and not found: ${this.#why}`,
    )
  }

  #textOf(record: StoredRecord): Buffer | undefined {
    const { tape } = record
    if (tape === undefined || !isRequestTaped(record)) return undefined
    try {
      const exchange = this.#tape.exchange({ segment: tape.segment, offset: tape.end })
      if (isOf(record, exchange)) return requestBodyOf(exchange)?.bytes
      const other = `${this.#tape.folder} is of another recording (${exchange.begin.id} is there`
      this.#miss(record, `${other}, not ${record.id})`)
    } catch (error) {
      if (!(error instanceof RolltapeError)) throw error
      this.#miss(record, error.message)
    }
    return undefined
  }

  #miss({ seq = 1 }: StoredRecord, why: string): void {
    this.#why ||= why
    this.#missing.add(seq)
  }
}

/** The exchange at a record's place is the record's, or was asked the very same. */
function isOf({ id, sha256 }: StoredRecord, { begin, requestBody }: TapedExchange): boolean {
  return begin.id === id || hash('sha256', requestBody) === sha256?.request
}

/** Records with their requests, from a tape folder. */
export async function* withRequests(
  records: AsyncIterable<StoredRecord>,
  folder: string,
  onTrouble?: (line: string) => void,
): AsyncGenerator<StoredRecord, void, undefined> {
  const requests = new TapedRequests(folder, onTrouble)
  try {
    for await (const record of records) yield requests.record(record)
  } finally {
    requests.close()
  }
}
