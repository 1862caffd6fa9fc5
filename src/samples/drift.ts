/**
 * How a prompt departs from the completion it should repeat, told from ids alone: is a stretch left
 * out, put in or spelled otherwise, and does the completion go on behind it.
 */
import type { DriftClass } from './sample.ts'

/** Ids that have to follow one another again for the completion to have come back. */
const RUN = 4

/** Ids that may stand before the completion comes back, besides as many as it has itself. */
const PUT_IN_MAX = 256

/**
 * The class of a departure: `rest` is the completion from the first id that differs on, `next` the
 * prompt from there on. O(`rest`).
 */
export function classifyDrift(rest: Int32Array, next: Int32Array): DriftClass {
  if (rest.length <= RUN) return 'tail'
  const met = meetAgain(rest, next)
  if (met === undefined) return 'rewritten'
  if (met.skipped === 0) return 'put_in'
  return met.added === 0 ? 'left_out' : 'respelled'
}

/** Where `next` first goes on like `rest` does somewhere; undefined where it never does. */
export function meetAgain(
  rest: Int32Array,
  next: Int32Array,
): { readonly skipped: number; readonly added: number } | undefined {
  const places = new Map<number, number>()
  for (let at = rest.length - RUN; at >= 0; at--) places.set(runHash(rest, at), at)
  const last = Math.min(next.length - RUN, rest.length + PUT_IN_MAX)
  for (let added = 0; added <= last; added++) {
    const skipped = places.get(runHash(next, added))
    if (skipped !== undefined && isRun(rest, skipped, next, added)) return { skipped, added }
  }
  return undefined
}

function runHash(ids: Int32Array, from: number): number {
  let hash = 0
  for (let at = from; at < from + RUN; at++) hash = (Math.imul(hash, 31) + (ids[at] ?? 0)) | 0
  return hash
}

function isRun(a: Int32Array, atA: number, b: Int32Array, atB: number): boolean {
  for (let i = 0; i < RUN; i++) if (a[atA + i] !== b[atB + i]) return false
  return true
}
