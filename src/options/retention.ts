/** How long finished segments of the tape stay (`tape_retain`). */
import { Refusal, parseMeasure, BYTE_UNIT } from './kinds.ts'
import type { Kind } from './kinds.ts'

/** When a finished segment may be let go. */
export type TapeRetain =
  | { readonly kind: 'keep' }
  | { readonly kind: 'until_derived' }
  /** When all segments together take more on the disk: the oldest go. */
  | { readonly kind: 'bytes'; readonly bytesMax: number }
  /** So long after it was last written. */
  | { readonly kind: 'age'; readonly ageMs: number }

const AGE_UNIT_MS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** `keep`, `until-derived`, a size, or an age; both with a unit, so that they are told apart. */
export function retention(example: string): Kind<TapeRetain> {
  return {
    placeholder: '<keep|until-derived|bytes|age>',
    expected: 'keep, until-derived, a size (KB to GiB) or an age (s, m, h, d), each with its unit',
    example,
    repeatable: false,
    parse(value) {
      if (value === 'keep') return { kind: 'keep' }
      if (value === 'until-derived') return { kind: 'until_derived' }
      if (typeof value !== 'string' || !/[a-z]\s*$/i.test(value)) throw new Refusal()
      const unit = value
        .replace(/^[\d.\s]+/, '')
        .trim()
        .toLowerCase()
      if (Object.hasOwn(AGE_UNIT_MS, unit)) {
        return { kind: 'age', ageMs: Math.round(parseMeasure(value, AGE_UNIT_MS, 's')) }
      }
      return { kind: 'bytes', bytesMax: Math.round(parseMeasure(value, BYTE_UNIT, '')) }
    },
  }
}

/** As it is written. */
export function formatRetain(retain: TapeRetain): string {
  if (retain.kind === 'bytes') return `${retain.bytesMax}b`
  if (retain.kind === 'age') return `${retain.ageMs / 1_000}s`
  return retain.kind === 'keep' ? 'keep' : 'until-derived'
}
