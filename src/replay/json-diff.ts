/**
 * Where two JSON values differ, as JSON pointers (RFC 6901). Arrays are compared by place; a place
 * that only one side has is told once, not leaf by leaf.
 */
import { JSON_DEPTH_COMPARED_MAX } from '../limits.ts'
import { canonicalize } from './canonical.ts'
import type { Json } from './canonical.ts'

/** One place where the two differ. A side that lacks the place is undefined. */
export interface Difference {
  readonly pointer: string
  readonly recorded: Json | undefined
  readonly asked: Json | undefined
}

/** The differences, at most `max` of them, in the order of the recorded side. */
export function diffJson(recorded: Json, asked: Json, max = 100): Difference[] {
  const found: Difference[] = []
  walk(recorded, asked, '', { found, max, depth: 0 })
  return found
}

function walk(
  recorded: Json | undefined,
  asked: Json | undefined,
  pointer: string,
  { found, max, depth }: { found: Difference[]; max: number; depth: number },
): void {
  if (found.length >= max || recorded === asked) return
  if (!isContainer(recorded) || !isContainer(asked)) {
    found.push({ pointer, recorded, asked })
    return
  }
  if (depth === JSON_DEPTH_COMPARED_MAX) {
    if (canonicalize(recorded) !== canonicalize(asked)) found.push({ pointer, recorded, asked })
    return
  }
  if (Array.isArray(recorded) !== Array.isArray(asked)) {
    found.push({ pointer, recorded, asked })
    return
  }
  const sides = [recorded, asked] as [Record<string, Json>, Record<string, Json>]
  for (const key of new Set([...Object.keys(recorded), ...Object.keys(asked)])) {
    const below = `${pointer}/${escapePart(key)}`
    walk(sides[0][key], sides[1][key], below, { found, max, depth: depth + 1 })
  }
}

function isContainer(value: Json | undefined): value is Json[] | { [key: string]: Json } {
  return typeof value === 'object' && value !== null
}

function escapePart(part: string): string {
  return part.replaceAll('~', '~0').replaceAll('/', '~1')
}
