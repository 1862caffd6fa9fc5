/**
 * Why a request has no recorded answer: its key, the recorded request that comes nearest, where the
 * two differ, and what to ignore so that they match. Pure.
 */
import { canonicalize, parsePointer } from './canonical.ts'
import type { IgnoreRules, Json } from './canonical.ts'
import { diffJson } from './json-diff.ts'
import type { Difference } from './json-diff.ts'
import { canonicalKeyOf, formatKey, keyRules } from './key.ts'

/** A recorded request to be compared with. */
export interface Candidate {
  /** Id of its record, for people. */
  readonly id: string
  readonly session: string
  readonly turn: number | null
  /** Nobody waited for its answer, which is served only with `replayPartial`: its outcome; else null. */
  readonly unserved: string | null
  readonly request: Json
}

/** What is told of a miss. */
export interface Explanation {
  /** The request's canonical key, as 32 hex digits. */
  readonly key: string
  readonly nearest: Omit<Candidate, 'request'> | null
  /** Where the request differs from the nearest, ignored places left out. */
  readonly differences: readonly Difference[]
  /** Pointers that would make the two match when ignored; empty when they do already. */
  readonly ignore: readonly string[]
}

/** Most differences that are told. */
const DIFFERENCES_MAX = 20
/** Longest value that is shown of a difference. */
const SHOWN_CHARS_MAX = 60

/** Explains a request against candidates; the one with the fewest differences is the nearest. */
export function explain(
  asked: { readonly head: string; readonly body: Json },
  candidates: Iterable<Candidate>,
  ignored: IgnoreRules,
): Explanation {
  const rules = keyRules(asked.head, ignored)
  const key = formatKey(canonicalKeyOf(asked.head, asked.body, ignored))
  const body = JSON.parse(canonicalize(asked.body, rules)) as Json
  let nearest: Candidate | undefined
  let differences: Difference[] = []
  for (const candidate of candidates) {
    const recorded = JSON.parse(canonicalize(candidate.request, rules)) as Json
    const found = diffJson(recorded, body)
    const isServed = candidate.unserved === null
    const isNearer =
      nearest === undefined ||
      found.length < differences.length ||
      (found.length === differences.length && nearest.unserved !== null && isServed)
    if (!isNearer) continue
    nearest = candidate
    differences = found
    if (found.length === 0 && isServed) break
  }
  if (nearest === undefined) return { key, nearest: null, differences: [], ignore: [] }
  const { id, session, turn, unserved } = nearest
  return {
    key,
    nearest: { id, session, turn, unserved },
    differences: differences.slice(0, DIFFERENCES_MAX),
    ignore: pointersFor(differences),
  }
}

/** An explanation in a few lines, for people and for the 404 that a client gets. */
export function formatExplanation({ key, nearest, differences, ignore }: Explanation): string {
  if (nearest === null) return `key ${key}; nothing is recorded for this method and path`
  const turn = nearest.turn === null ? '' : `, turn ${nearest.turn}`
  const where = `nearest is ${nearest.id} (session "${nearest.session}"${turn})`
  if (differences.length === 0) {
    const why =
      nearest.unserved === null
        ? 'it has been used'
        : `its outcome is ${nearest.unserved}, and such are served only with --replay-partial`
    return `key ${key}; ${where} and does not differ: ${why}`
  }
  const lines = differences.map(({ pointer, recorded, asked }) => {
    return `  ${pointer || '(all)'}: recorded ${shown(recorded)}, asked ${shown(asked)}`
  })
  const rule = ignore.map((pointer) => `--ignore '${pointer}'`).join(' ')
  return [`key ${key}; ${where}; it differs at`, ...lines, `to match it: ${rule}`].join('\n')
}

/** The fewest pointers that cover the differences: places in lists are one with `*`. */
function pointersFor(differences: readonly Difference[]): string[] {
  const pointers = new Set<string>()
  for (const { pointer } of differences) {
    if (pointer === '') continue
    const parts = parsePointer(pointer).map((part) => (/^\d+$/.test(part) ? '*' : part))
    pointers.add(
      `/${parts.map((part) => part.replaceAll('~', '~0').replaceAll('/', '~1')).join('/')}`,
    )
  }
  return [...pointers]
}

function shown(value: Json | undefined): string {
  if (value === undefined) return 'nothing'
  const text = canonicalize(value)
  return text.length > SHOWN_CHARS_MAX ? `${text.slice(0, SHOWN_CHARS_MAX)}…` : text
}
