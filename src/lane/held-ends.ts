/**
 * Ends that belong to the next part of a recording while the one before is still being finished:
 * they lie in segments that were begun after it ended. So many are kept; beyond that only the
 * earliest is remembered, from which the tape is walked.
 */
import { HINTS_MAX } from '../limits.ts'
import type { TapePosition } from '../tape/exchange.ts'

/** An end, and the bytes that the tape had when it came. */
export interface HeldEnd {
  readonly position: TapePosition
  readonly tapeBytes: number
}

/** Holds ends. */
export class HeldEnds {
  /** Ends in segments after this one are held; undefined when none are. */
  #after: number | undefined
  #ends: HeldEnd[] = []
  #dropped: HeldEnd | undefined

  /** Holds ends in segments after this one from now on. */
  hold(segment: number): void {
    this.#after = segment
  }

  /** True when an end in a segment of this number is to be held. */
  holds(segment: number): boolean {
    return this.#after !== undefined && segment > this.#after
  }

  /** Takes an end; false when it is not kept, and has to be found by a walk. */
  add(end: HeldEnd): boolean {
    if (this.#ends.length < HINTS_MAX) {
      this.#ends.push(end)
      return true
    }
    this.walkFrom(end)
    return false
  }

  /** Ends from this place on have to be found by a walk. */
  walkFrom(place: HeldEnd): void {
    this.#dropped = this.#dropped === undefined ? place : earliest(this.#dropped, place)
  }

  /** Gives back what was held; `dropped` is where a walk has to begin. */
  release(): { readonly ends: readonly HeldEnd[]; readonly dropped: HeldEnd | undefined } {
    const held = { ends: this.#ends, dropped: this.#dropped }
    this.#after = undefined
    this.#ends = []
    this.#dropped = undefined
    return held
  }
}

function earliest(one: HeldEnd, other: HeldEnd): HeldEnd {
  const [a, b] = [one.position, other.position]
  if (a.segment !== b.segment) return a.segment < b.segment ? one : other
  return a.offset <= b.offset ? one : other
}
