/**
 * An exchange of the tape as its client saw it. The tape holds what came from the upstream and, in
 * SENT, how the client's answer was made of it; here it is made again, piece by piece, so that times
 * and places of chunks stay what they were.
 */
import type { Chunk, EndFrame, HeaderPair, HeadFrame, TapedExchange } from '../tape/exchange.ts'
import { stripFor } from '../transforms/strip-answer.ts'
import type { AnswerStrip } from '../transforms/strip-answer.ts'
import { readJsonBody } from './body.ts'

/** The client's side of an exchange. */
export interface ClientSide {
  /** As many chunks as on the tape; those of which the client got nothing are empty. */
  readonly exchange: TapedExchange
  /**
   * Why nothing was taken out although something should have been, of a stream also of which events;
   * null when all was well.
   */
  readonly skipped: string | null
  /** True although something was skipped: other events were stripped. */
  readonly isStripped: boolean
}

/** The client's side; the exchange itself where nothing was to be taken out. */
export function clientSide(exchange: TapedExchange): ClientSide {
  const { sent, head } = exchange
  if (sent?.strip === undefined || head === undefined || head.own)
    return { exchange, skipped: null, isStripped: false }
  const flat = head.headers.flat()
  const strip = stripFor(sent.strip, { status: head.status, flat })
  if (typeof strip === 'string') return { exchange, skipped: strip, isStripped: false }
  const { chunks, isWhole } = strippedChunks(exchange, strip)
  const isHeadNew = isWhole || !strip.holdsHead
  return {
    exchange: {
      ...exchange,
      head: isHeadNew ? { ...head, headers: pairsOf(strip.headers(flat)) } : head,
      chunks,
      end: endOf(exchange, chunks),
    },
    skipped: strip.skipped,
    isStripped: strip.skipped === null || !strip.holdsHead,
  }
}

function strippedChunks(exchange: TapedExchange, strip: AnswerStrip) {
  const chunks = exchange.chunks.map(({ bytes, atUs }) => ({ bytes: strip.push(bytes), atUs }))
  const isWhole = exchange.end === undefined ? hasAll(exchange) : isEnded(exchange.end)
  if (!isWhole) return { chunks, isWhole }
  const rest = strip.end()
  const last = chunks.at(-1)
  if (rest.length > 0 && last !== undefined) last.bytes = Buffer.concat([last.bytes, rest])
  return { chunks, isWhole }
}

function isEnded({ cause }: EndFrame): boolean {
  return cause === 'upstream_end'
}

/** Without an END: an answer in one piece may have come whole all the same. */
function hasAll({ head, chunks }: TapedExchange): boolean {
  const length = lengthOf(head)
  if (length !== undefined) return bytesOf(chunks) >= length
  return typeof readJsonBody(Buffer.concat(chunks.map(({ bytes }) => bytes))) !== 'string'
}

function lengthOf(head: HeadFrame | undefined): number | undefined {
  const value = head?.headers.findLast(([name]) => name.toLowerCase() === 'content-length')?.[1]
  return value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined
}

/** What the tape lacks of the upstream's bytes, the client's side lacks as well. */
function endOf({ end, chunks: taped }: TapedExchange, chunks: readonly Chunk[]) {
  if (end === undefined) return undefined
  const missing = Math.max(0, end.bytesReceived - bytesOf(taped))
  return { ...end, bytesReceived: bytesOf(chunks) + missing }
}

function bytesOf(chunks: readonly Chunk[]): number {
  return chunks.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

function pairsOf(flat: readonly string[]): HeaderPair[] {
  const pairs: HeaderPair[] = []
  for (let i = 0; i + 1 < flat.length; i += 2) pairs.push([flat[i] ?? '', flat[i + 1] ?? ''])
  return pairs
}
