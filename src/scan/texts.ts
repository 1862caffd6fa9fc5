/**
 * The texts of a record with where they stand, for the search for credentials. Left out is what
 * tells of tokens one by one (log-probs, ids, what they spell): training data that looks random and
 * is none of anybody's keys.
 */

/** One text of a record. */
export interface PlacedText {
  /** JSON pointer (RFC 6901). */
  readonly pointer: string
  /** The name of the member that holds it; of the nearest one around it where it is in a list. */
  readonly name: string
  readonly text: string
}

/** Shorter ones hold no credential. */
const TEXT_CHARS_MIN = 12

/** Members that tell of tokens one by one. */
const OF_TOKENS: ReadonlySet<string> = new Set([
  'logprobs',
  'prompt_logprobs',
  'output_token_logprobs',
  'input_token_logprobs',
  'top_logprobs',
  'token_ids',
  'prompt_token_ids',
  'routed_experts',
  'encrypted_content',
])

/** Members of a record that rolltape makes itself. */
const OWN: ReadonlySet<string> = new Set(['tokens', 'sha256', 'id', 'tape', 'schema'])

/** A list or an object whose members are being walked. */
interface Walked {
  readonly pointer: string
  /** The name for what stands in a list. */
  readonly name: string
  readonly isList: boolean
  readonly members: Iterator<readonly [number | string, unknown]>
}

/**
 * All texts in a value that may hold a credential, in the order in which they stand. However deep
 * they are nested: the way down is kept here, not on the stack.
 */
export function* textsIn(value: unknown): Generator<PlacedText> {
  const way: Walked[] = []
  let found: PlacedText | Walked | undefined = lookAt(value, '', '')
  for (;;) {
    if (found !== undefined && 'text' in found) yield found
    else if (found !== undefined) way.push(found)
    const inside = way.at(-1)
    if (inside === undefined) return
    const next = inside.members.next()
    if (next.done === true) way.pop()
    found = next.done === true ? undefined : memberOf(inside, ...next.value)
  }
}

function memberOf({ pointer, name, isList }: Walked, key: number | string, member: unknown) {
  if (isList) return lookAt(member, `${pointer}/${key}`, name)
  const own = String(key)
  if (OF_TOKENS.has(own) || (pointer === '' && OWN.has(own))) return undefined
  return lookAt(member, `${pointer}/${own.replaceAll('~', '~0').replaceAll('/', '~1')}`, own)
}

function lookAt(value: unknown, pointer: string, name: string): PlacedText | Walked | undefined {
  if (typeof value === 'string') {
    return value.length < TEXT_CHARS_MIN ? undefined : { pointer, name, text: value }
  }
  if (typeof value !== 'object' || value === null) return undefined
  const isList = Array.isArray(value)
  const members = isList ? value.entries() : Object.entries(value).values()
  return { pointer, name, isList, members }
}
