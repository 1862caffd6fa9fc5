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
const OWN: ReadonlySet<string> = new Set(['/tokens', '/sha256', '/id', '/tape', '/schema'])

/** All texts in a value that may hold a credential. */
export function* textsIn(value: unknown, pointer = '', name = ''): Generator<PlacedText> {
  if (typeof value === 'string') {
    if (value.length >= TEXT_CHARS_MIN) yield { pointer, name, text: value }
  } else if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield* textsIn(item, `${pointer}/${i}`, name)
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, member] of Object.entries(value)) {
      const place = `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
      if (!OF_TOKENS.has(key) && !OWN.has(place)) yield* textsIn(member, place, key)
    }
  }
}
