/**
 * Takes places out of a JSON text in its bytes: members go with one comma, values become `null` or
 * `[]`, all else stays as it was. What is no JSON object as far as the scan can see stays whole.
 *
 *   {"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{…},"token_ids":[11]}]}
 *   {"choices":[{"index":0,"delta":{"content":"a"},"logprobs":null}]}
 */
import { isTextAt, scanItems, scanMembers, skipSpace, stringAt, textStart } from './json-scan.ts'
import { removals } from './splice.ts'
import type { Edit } from './splice.ts'
import type { StripRule, StripSpec } from './transform.ts'

/** Rules as a tree: by name, `*` for the items of a list. */
interface Branch {
  readonly below: Map<string, Branch>
  how: StripRule['how'] | undefined
}

const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b
const CLOSE_BRACE = 0x7d
const CLOSE_BRACKET = 0x5d
const BACKSLASH = 0x5c
const NULL = Buffer.from('null')
const EMPTY_LIST = Buffer.from('[]')

/** What is to be done to a text. */
export interface Stripping {
  readonly edits: readonly Edit[]
  /** The event goes as a whole. */
  readonly isDropped: boolean
  /** False: it is no JSON object, so nothing was looked for. */
  readonly isRead: boolean
}

const UNTOUCHED: Stripping = { edits: [], isDropped: false, isRead: false }

/** Strips texts by one set of rules. */
export class JsonStrip {
  readonly #root: Branch = { below: new Map(), how: undefined }
  readonly #spec: Pick<StripSpec, 'version' | 'dropsEmpty' | 'dropsUsage'>

  constructor(spec: Pick<StripSpec, 'version' | 'rules' | 'dropsEmpty' | 'dropsUsage'>) {
    this.#spec = spec
    for (const { path, how } of spec.rules) {
      let branch = this.#root
      for (const name of path.split('/')) {
        const next: Branch = branch.below.get(name) ?? { below: new Map(), how: undefined }
        branch.below.set(name, next)
        branch = next
      }
      branch.how = how
    }
  }

  /** What becomes of the text from `start` to the end of the bytes; `isEvent`: it may be dropped. */
  read(bytes: Buffer, start: number, isEvent: boolean): Stripping {
    const isWhole = !isEvent && this.#spec.version >= 2
    const at = isWhole ? textStart(bytes) : skipSpace(bytes, start)
    if (bytes[at] !== OPEN_BRACE) return UNTOUCHED
    const edits: Edit[] = []
    const end = walkObject(bytes, at, this.#root, edits)
    if (end < 0 || skipSpace(bytes, end) !== bytes.length) return UNTOUCHED
    return { edits, isDropped: isEvent && this.#drops(bytes, at, edits), isRead: true }
  }

  #drops(bytes: Buffer, at: number, edits: readonly Edit[]): boolean {
    const { dropsEmpty, dropsUsage } = this.#spec
    if (!dropsUsage && (!dropsEmpty || edits.length === 0)) return false
    let choices = -1
    let hasUsage = false
    scanMembers(bytes, at, (keyStart, keyEnd, valueStart, valueEnd) => {
      if (isTextAt(bytes, keyStart, keyEnd, '"choices"')) choices = valueStart
      else if (isTextAt(bytes, keyStart, keyEnd, '"usage"')) {
        hasUsage = !isTextAt(bytes, valueStart, valueEnd, 'null')
      }
    })
    if (bytes[choices] !== OPEN_BRACKET) return false
    if (bytes[skipSpace(bytes, choices + 1)] === CLOSE_BRACKET) return dropsUsage && hasUsage
    return dropsEmpty && edits.length > 0 && this.#areEmpty(bytes, choices)
  }

  /**
   * Nothing is left in any of the choices but its index and an empty delta. Log-probs are nothing: an
   * engine that sends an event for the sake of ids alone would not have sent them either, whoever
   * asked for them. Until version 2 they kept the event.
   */
  #areEmpty(bytes: Buffer, choices: number): boolean {
    const gone = this.#root.below.get('choices')?.below.get('*')?.below
    const isStrict = this.#spec.version >= 2
    let areEmpty = true
    scanItems(bytes, choices, (start) => {
      let hasEmptyDelta = false
      let hasLost = false
      scanMembers(bytes, start, (keyStart, keyEnd, valueStart, valueEnd) => {
        const name = stringAt(bytes, keyStart, keyEnd) ?? ''
        const how = gone?.get(name)?.how
        if (how === 'remove') hasLost = true
        if (name === 'index' || how !== undefined || (isStrict && name === 'logprobs')) return
        if (name === 'delta') {
          hasEmptyDelta =
            bytes[valueStart] === OPEN_BRACE &&
            bytes[skipSpace(bytes, valueStart + 1)] === CLOSE_BRACE
        } else if (!isTextAt(bytes, valueStart, valueEnd, 'null')) areEmpty = false
      })
      if (!hasEmptyDelta || (isStrict && !hasLost)) areEmpty = false
    })
    return areEmpty
  }
}

/** Notes what goes below a value; where it ends, or -1 when it does not. */
function walkObject(bytes: Buffer, at: number, branch: Branch, edits: Edit[]): number {
  const members: { keyStart: number; valueEnd: number; isRemoved: boolean }[] = []
  let hasRemovals = false
  const end = scanMembers(bytes, at, (keyStart, keyEnd, valueStart, valueEnd) => {
    const next = belowOf(branch, bytes, keyStart, keyEnd)
    const isRemoved = next?.how === 'remove'
    members.push({ keyStart, valueEnd, isRemoved })
    if (isRemoved) hasRemovals = true
    else if (next !== undefined) walkValue(bytes, valueStart, valueEnd, next, edits)
  })
  if (hasRemovals) edits.push(...removals(members))
  return end
}

/** What is below a name; a name that no rule has is seldom made into a text. */
function belowOf(branch: Branch, bytes: Buffer, start: number, end: number): Branch | undefined {
  let isLikely = false
  for (const name of branch.below.keys()) if (name.length === end - start - 2) isLikely = true
  for (let at = start; at < end && !isLikely; at++) isLikely = bytes[at] === BACKSLASH
  return isLikely ? branch.below.get(stringAt(bytes, start, end) ?? '') : undefined
}

function walkValue(bytes: Buffer, start: number, end: number, branch: Branch, edits: Edit[]): void {
  const { how, below } = branch
  if (how === 'null') {
    if (!isTextAt(bytes, start, end, 'null')) edits.push({ start, end, bytes: NULL })
  } else if (how === 'empty') {
    const isFull = bytes[start] === OPEN_BRACKET && bytes[skipSpace(bytes, start + 1)] !== 0x5d
    if (isFull) edits.push({ start, end, bytes: EMPTY_LIST })
  } else if (bytes[start] === OPEN_BRACE) {
    walkObject(bytes, start, branch, edits)
  } else if (bytes[start] === OPEN_BRACKET) {
    const items = below.get('*')
    if (items === undefined) return
    scanItems(bytes, start, (from, to) => walkValue(bytes, from, to, items, edits))
  }
}
