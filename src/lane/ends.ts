/** Places on a lane's tape where exchanges end: their order, and how many of them make a batch. */
import { DERIVE_BATCH_BYTES, DERIVE_BATCH_MAX } from '../limits.ts'
import type { TapePosition } from '../tape/exchange.ts'
import { parseSegmentName } from '../tape/format.ts'

/** How many of these make a batch: many where they are small, so that each costs its lane little. */
export function batchOf(hints: readonly TapePosition[]): number {
  const [first] = hints
  const isNear = ({ segment, offset }: TapePosition): boolean =>
    segment === first?.segment && Math.abs(offset - first.offset) <= DERIVE_BATCH_BYTES
  const far = hints.findIndex((hint, i) => i >= DERIVE_BATCH_MAX || (i > 0 && !isNear(hint)))
  return far < 0 ? hints.length : far
}

/** The one of two places in a lane's segments that comes first. */
export function earlier(one: TapePosition, other: TapePosition | undefined): TapePosition {
  if (other === undefined) return one
  return order(one, other) < 0 ? one : other
}

/** Negative when `one` comes before `other` on the tape of a lane. */
export function order(one: TapePosition, other: TapePosition): number {
  return numberOf(one) - numberOf(other) || one.offset - other.offset
}

/** Exchanges that follow each other end in the same segment, mostly. */
let known = { segment: '', number: 0 }

/** Number of its segment. */
export function numberOf({ segment }: TapePosition): number {
  if (known.segment !== segment) known = { segment, number: parseSegmentName(segment)?.number ?? 0 }
  return known.number
}
