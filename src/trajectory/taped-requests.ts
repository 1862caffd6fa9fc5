/**
 * Requests that records leave to the tape (`--record-requests ref`): such a record says
 * `"request":null` and, in its `tape`, `"request":true`. Whoever needs the request reads it there,
 * through here. One that is not there any more stays null.
 */
import { RolltapeError } from '../errors.ts'
import { TapeFolder } from '../tape/reader.ts'
import { requestBodyOf } from './derive.ts'
import type { StoredRecord } from './jsonl.ts'

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
  #told = false

  /** `onTrouble` is told once, in one line, when a request is not there. */
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

  /** Closes the tape. */
  close(): void {
    this.#tape.close()
  }

  #textOf(record: StoredRecord): Buffer | undefined {
    const { tape } = record
    if (tape === undefined || !isRequestTaped(record)) return undefined
    try {
      return requestBodyOf(this.#tape.exchange({ segment: tape.segment, offset: tape.end }))?.bytes
    } catch (error) {
      if (!(error instanceof RolltapeError)) throw error
      if (!this.#told) this.#onTrouble?.(`a request that is on the tape alone: ${error.message}`)
      this.#told = true
      return undefined
    }
  }
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
