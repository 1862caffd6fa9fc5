/**
 * Whether a recording's records and its tape say the same: each exchange has one record, each record
 * its exchange, and what the record says is what the tape holds.
 */
import { hash } from 'node:crypto'
import type { TapedExchange } from '../tape/exchange.ts'
import { ANSWER_LIMITS } from './answer.ts'
import { deriveRecord } from './derive.ts'
import type { RecordRequests } from './derive.ts'
import type { StoredRecord } from './jsonl.ts'
import { SeqSet } from './seq-set.ts'

/** What is known of records without their content. */
export interface RecordsSeen {
  readonly count: number
  /** Numbers with a record. */
  readonly seqs: SeqSet
  /** Numbers with more than one. */
  readonly doubled: readonly number[]
  /** Records without a number: of another recorder, say. */
  readonly unnumbered: number
  /** By number, what the record says of its request, first 12 hex digits of the SHA-256. */
  readonly digests: ReadonlyMap<number, string>
}

const DIGEST_CHARS = 12

/** Takes records in, one after the other. */
export class RecordCheck implements RecordsSeen {
  count = 0
  unnumbered = 0
  readonly seqs = new SeqSet()
  readonly doubled: number[] = []
  readonly digests = new Map<number, string>()
  /** Numbers whose record names a segment that was let go. */
  readonly letGo = new SeqSet()
  readonly #isLetGo: (segment: string) => boolean

  constructor(isLetGo: (segment: string) => boolean) {
    this.#isLetGo = isLetGo
  }

  /** Takes one record. */
  add(record: StoredRecord): void {
    this.count++
    const { seq, sha256, tape } = record
    if (typeof seq !== 'number') {
      this.unnumbered++
      return
    }
    if (!this.seqs.add(seq)) this.doubled.push(seq)
    if (tape !== undefined && this.#isLetGo(tape.segment)) this.letGo.add(seq)
    if (typeof sha256?.request === 'string') {
      this.digests.set(seq, sha256.request.slice(0, DIGEST_CHARS))
    }
  }

  /** True when the record of this exchange tells of another request than the tape. */
  differs({ begin, requestBody }: TapedExchange): boolean {
    const told = this.digests.get(begin.seq)
    if (told === undefined) return false
    return !hash('sha256', requestBody, 'hex').startsWith(told)
  }
}

/** The line of an exchange as derive makes it now, with its line break. */
export function lineOf(exchange: TapedExchange, requests: RecordRequests): Buffer {
  const { line } = deriveRecord(exchange, ANSWER_LIMITS, undefined, requests)
  return Buffer.concat([line, Buffer.from('\n')])
}
