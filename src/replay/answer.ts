/**
 * A recorded answer as a lane plays it: read off the tape by a worker (or made by `shape.ts`),
 * handed over in one piece of memory with the places of its chunks in it.
 */
import type { TapedExchange, TapePosition } from '../tape/exchange.ts'
import { clientSide } from '../trajectory/client-side.ts'
import { REDACTION } from '../lane/redaction.ts'
import type { IgnoreRules } from './canonical.ts'
import type { ExplainTask } from './explain-task.ts'

/** A head to be sent; flat name and value pairs. */
export interface PlayedHead {
  readonly status: number
  readonly reason: string
  readonly flat: string[]
  /** µs since the request's arrival when it was recorded. */
  readonly atUs: number
}

/** All that is needed to give an answer again. */
export interface PlayedAnswer {
  readonly interim: readonly PlayedHead[]
  readonly head: PlayedHead
  /** The body's chunks one after the other. */
  readonly body: Uint8Array
  /** Length of each chunk. */
  readonly lengths: Uint32Array
  /** Arrival of each chunk, µs since the request's. */
  readonly timesUs: Float64Array
  readonly trailers: string[]
  /** µs since the request's arrival when the answer ended. */
  readonly endUs: number
  /** False when it broke off: after its bytes the client's socket is destroyed. */
  readonly whole: boolean
}

/** The form an answer is asked in. */
export interface AskedForm {
  readonly isStream: boolean
  readonly includeUsage: boolean
  /** A stream is to be one chunk although the tape has its own; chat and completions only. */
  readonly single: boolean
}

/** Where a record's line stands. */
export interface LinePosition {
  /** Number of its file among the source's. */
  readonly file: number
  readonly offset: number
  readonly length: number
}

/**
 * An answer to be read, in its own form or in another; the canonical key of a long body to be made;
 * a miss to be explained.
 */
export type PlayTask =
  | {
      readonly position: TapePosition
      /** Number of the exchange that must be there. */
      readonly seq: number
      readonly form?: AskedForm | undefined
      /** What to go by where the tape was let go meanwhile; undefined when there is no such line. */
      readonly otherwise?: { readonly line: LinePosition; readonly form: AskedForm } | undefined
    }
  | { readonly line: LinePosition; readonly form: AskedForm }
  | { readonly explain: ExplainTask }
  | {
      readonly canonical: {
        readonly head: string
        readonly body: string
        readonly ignore: IgnoreRules
      }
    }

/** Headers left out because their values are not on the tape. */
function withoutRedacted(pairs: readonly (readonly [string, string])[]): string[] {
  return pairs.flatMap(([name, value]) => (value === REDACTION ? [] : [name, value]))
}

/** Headers that tell of a body's bytes: of no use where the body is made anew. */
const OF_THE_BYTES = /^(?:content-.*|transfer-encoding|cache-control|etag|trailer|.*digest)$/i

/** An answer made anew with the other headers of the one that was recorded. */
export function withRecordedHead(answer: PlayedAnswer, { head }: TapedExchange): PlayedAnswer {
  if (head === undefined) return answer
  const kept = head.headers.filter(([name]) => !OF_THE_BYTES.test(name))
  const flat = [...withoutRedacted(kept), ...answer.head.flat]
  return { ...answer, head: { ...answer.head, reason: head.reason, flat } }
}

/** An answer off the tape as its client got it; a text says why there is none. */
export function tapedAnswer(exchange: TapedExchange): PlayedAnswer | string {
  const { interim, head, chunks: all, trailers, end } = clientSide(exchange).exchange
  if (head === undefined) return 'it ended before it had an answer'
  // Of what a client got nothing of, nothing is played: an empty chunk would end the body.
  const chunks = all.filter((chunk) => chunk.bytes.length > 0)
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.bytes.length, 0)
  const body = Buffer.allocUnsafeSlow(bytes)
  const lengths = new Uint32Array(chunks.length)
  const timesUs = new Float64Array(chunks.length)
  let at = 0
  for (const [i, chunk] of chunks.entries()) {
    at += chunk.bytes.copy(body, at)
    lengths[i] = chunk.bytes.length
    timesUs[i] = chunk.atUs
  }
  const whole = end === undefined ? false : end.cause === 'upstream_end' || head.own
  return {
    interim: interim.map((one) => ({ ...one, flat: withoutRedacted(one.headers), headers: [] })),
    head: {
      status: head.status,
      reason: head.reason,
      flat: withoutRedacted(head.headers),
      atUs: head.atUs,
    },
    body,
    lengths,
    timesUs,
    trailers: withoutRedacted(trailers),
    endUs: end?.atUs ?? timesUs.at(-1) ?? head.atUs,
    whole,
  }
}
