/**
 * Credentials in texts: those whose shape says what they are (secretlint's rules: clouds, model
 * providers, forges, private keys), and those that are named as such and look random.
 */
import { lintSource } from '@secretlint/core'
import { creator } from '@secretlint/secretlint-rule-preset-recommend'
import type { PlacedText } from './texts.ts'

/** A credential that was found. */
export interface Finding {
  readonly pointer: string
  /** What it looks like, e.g. `github`, `named_secret`. */
  readonly kind: string
  /** Its first characters; the rest is never shown. */
  readonly shown: string
  /** Characters that it has. */
  readonly chars: number
}

const PRESET = '@secretlint/secretlint-rule-preset-recommend'
const OPTIONS = { noPhysicFilePath: true, config: { rules: [{ id: PRESET, rule: creator }] } }

/** Between texts that are searched together; no rule reaches over it. */
const BREAK = '\n\n'

const SHOWN_CHARS = 4

/** Searches texts. Each finding is told once per place. */
export async function findSecrets(texts: readonly PlacedText[]): Promise<Finding[]> {
  const found = new Map<string, Finding>()
  const tell = (pointer: string, kind: string, secret: string): void => {
    const finding = {
      pointer,
      kind,
      shown: `${secret.slice(0, SHOWN_CHARS)}…`,
      chars: secret.length,
    }
    found.set(`${pointer} ${secret}`, finding)
  }
  for (const { pointer, name, text } of texts) {
    for (const secret of namedSecrets(name, text)) tell(pointer, 'named_secret', secret)
  }
  const starts: number[] = []
  let content = ''
  for (const { text } of texts) {
    starts.push(content.length)
    content += text + BREAK
  }
  const source = { filePath: '/record.txt', content, ext: '.txt', contentType: 'text' } as const
  const { messages } = await lintSource({ source, options: OPTIONS })
  for (const { ruleId, range } of messages) {
    const at = lastAtMost(starts, range[0])
    const text = texts[at]
    if (text === undefined) continue
    const kind = ruleId.replace('@secretlint/secretlint-rule-', '')
    tell(text.pointer, kind, content.slice(...range))
  }
  return [...found.values()]
}

/** Names of members that hold a credential; `max_tokens` and the like do not. */
const SECRET_NAME =
  /(?:^|[_-])(?:api[_-]?key|apikey|secret|password|passwd|access[_-]?token|auth[_-]?token|refresh[_-]?token|bearer|authorization|credentials?|private[_-]?key)(?:$|[_-])/i

/** The same in a text: `OPENAI_API_KEY=…`, `"password": "…"`, `Authorization: Bearer …`. */
const ASSIGNED =
  /\b[\w-]*(?:api[_-]?key|secret|password|passwd|access[_-]?token|auth[_-]?token|authorization)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?([\w+/=.~-]{16,})/gi

const RANDOM_CHARS_MIN = 16
/** Bits a character, of Shannon: words of a language have less, base64 of random bytes about 5. */
const RANDOM_BITS_MIN = 3.5

function namedSecrets(name: string, text: string): string[] {
  const found: string[] = []
  if (SECRET_NAME.test(name)) {
    const value = text.replace(/^(?:bearer|basic)\s+/i, '')
    if (isRandom(value)) found.push(value)
  }
  for (const [, value = ''] of text.matchAll(ASSIGNED)) if (isRandom(value)) found.push(value)
  return found
}

/** True for what looks drawn by chance: digits and letters mixed, hardly any letter twice. */
function isRandom(value: string): boolean {
  if (value.length < RANDOM_CHARS_MIN || /\s/.test(value)) return false
  if (!/\d/.test(value) || !/[a-z]/i.test(value)) return false
  const counts = new Map<string, number>()
  for (const char of value) counts.set(char, (counts.get(char) ?? 0) + 1)
  let bits = 0
  for (const count of counts.values()) {
    bits -= (count / value.length) * Math.log2(count / value.length)
  }
  return bits >= RANDOM_BITS_MIN
}

/** Index of the last number that is at most this. */
function lastAtMost(ascending: readonly number[], value: number): number {
  let low = 0
  let high = ascending.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((ascending[middle] ?? 0) <= value) low = middle + 1
    else high = middle
  }
  return low - 1
}
