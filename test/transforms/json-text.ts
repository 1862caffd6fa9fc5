/** JSON texts as no encoder writes them: odd space, escaped names, names twice, numbers of any spelling. */
import * as fc from 'fast-check'

/** Space between tokens. */
export const SPACE = fc.stringMatching(/^[ \t\r\n]{0,3}$/)

const NUMBER = fc.constantFrom('0', '-0.0', '1e-05', '1.0', '9007199254740993', '-12.50E+3', '7')
const TEXT = fc.string({ unit: 'grapheme', maxLength: 8 }).map((text) => JSON.stringify(text))

/**
 * A name in quotes; some letters escaped where nobody has to. None has a backslash: V8 (Node 26.10), once
 * it has parsed one called `\\`, takes other names that begin with an escape for it.
 */
export const NAME = fc
  .tuple(
    fc.oneof(
      fc.constantFrom('model', 'logprobs', 'top_logprobs', 'max_tokens', 'stream', 'x', ''),
      fc.string({ maxLength: 6 }).filter((name) => !name.includes('\\')),
    ),
    fc.boolean(),
  )
  .map(([name, isEscaped]) =>
    isEscaped
      ? `"${[...name].map((char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`
      : JSON.stringify(name),
  )

const { value } = fc.letrec<{ value: string; object: string; list: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    NUMBER,
    TEXT,
    fc.constantFrom('true', 'false', 'null'),
    tie('object'),
    tie('list'),
  ),
  object: fc.array(fc.tuple(NAME, tie('value'), SPACE), { maxLength: 3 }).map(objectOf),
  list: fc.array(tie('value'), { maxLength: 3 }).map((items) => `[${items.join(' ,')}]`),
}))

/** Any JSON value. */
export const VALUE = value

/** Members of an object: name, value, the space around them. */
export const MEMBERS = fc.array(fc.tuple(NAME, VALUE, SPACE), { maxLength: 6 })

/** The text of an object. */
export function objectOf(members: readonly (readonly [string, string, string])[]): string {
  if (members.length === 0) return '{ }'
  return `{${members.map(([name, value, gap]) => `${gap}${name}${gap}:${gap}${value}${gap}`).join(',')}}`
}

/** Any JSON object, with space and perhaps a byte-order mark around it. */
export const OBJECT = fc
  .tuple(fc.constantFrom('', '\ufeff', ' \n'), MEMBERS, SPACE)
  .map(([before, members, after]) => `${before}${objectOf(members)}${after}`)
