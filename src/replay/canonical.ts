/**
 * JSON in its canonical form (RFC 8785): members sorted by UTF-16 code units, numbers and strings
 * as ECMAScript writes them, no white space. What a declared ignore list names is left out first.
 */

/** A value as `JSON.parse` gives it. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** A place to leave out: a JSON pointer (RFC 6901) in its parts; `*` stands for any one part. */
export type PointerParts = readonly string[]

/** Text within strings that does not count, e.g. dates: each match is replaced by nothing. */
export interface IgnoreRules {
  readonly pointers: readonly PointerParts[]
  readonly texts: readonly RegExp[]
}

/** Nothing is left out. */
export const IGNORE_NOTHING: IgnoreRules = { pointers: [], texts: [] }

/**
 * Reads a JSON pointer, `*` allowed as a part.
 * @throws TypeError when it neither is empty nor begins with `/`.
 */
export function parsePointer(pointer: string): string[] {
  if (pointer === '') return []
  if (!pointer.startsWith('/')) throw new TypeError(`"${pointer}" is no JSON pointer`)
  return pointer
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}

/** A list or an object whose beginning is written, and how far it has come. */
interface Open {
  readonly value: Json[] | { [key: string]: Json }
  /** Names in their order; undefined for a list. */
  readonly keys: readonly string[] | undefined
  readonly pointers: readonly PointerParts[]
  at: number
  isEmpty: boolean
}

/**
 * The canonical text of a value, without what the rules name. However deep it is nested: anybody can
 * send a body that a function calling itself would not come back from.
 */
export function canonicalize(value: Json, rules: IgnoreRules = IGNORE_NOTHING): string {
  const open: Open[] = []
  let text = ''
  const write = (one: Json, pointers: readonly PointerParts[]): void => {
    if (typeof one === 'string') {
      text += JSON.stringify(strip(one, rules.texts))
    } else if (one === null || typeof one !== 'object') {
      text += JSON.stringify(one)
    } else {
      const keys = Array.isArray(one) ? undefined : Object.keys(one).sort()
      text += keys === undefined ? '[' : '{'
      open.push({ value: one, keys, pointers, at: 0, isEmpty: true })
    }
  }
  write(value, rules.pointers)
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const { value: within, keys } = top
    const at = top.at++
    if (at >= (keys ?? (within as Json[])).length) {
      text += keys === undefined ? ']' : '}'
      open.pop()
      continue
    }
    const key = keys?.[at] ?? String(at)
    const below = descend(top.pointers, key)
    const member = (within as Record<string, Json>)[key]
    if (below === undefined || member === undefined) continue
    if (!top.isEmpty) text += ','
    top.isEmpty = false
    if (keys !== undefined) text += `${JSON.stringify(key)}:`
    write(member, below)
  }
  return text
}

/** What is left of the pointers one level down; undefined when this very place is left out. */
function descend(
  pointers: readonly PointerParts[],
  part: string,
): readonly PointerParts[] | undefined {
  if (pointers.length === 0) return pointers
  const below: PointerParts[] = []
  for (const [first, ...rest] of pointers) {
    if (first !== '*' && first !== part) continue
    if (rest.length === 0) return undefined
    below.push(rest)
  }
  return below
}

function strip(text: string, texts: readonly RegExp[]): string {
  let out = text
  for (const pattern of texts) out = out.replace(pattern, '')
  return out
}
