/**
 * Changes the top-level members of a JSON object in its bytes: what is not changed stays, byte for
 * byte, numbers with their digits and space where it was.
 *
 * Where a name stands twice the last one counts, as for `JSON.parse`, Python's json and the parsers
 * of the engines: its value is read and replaced, the ones before it stay as they are. Names are
 * compared unescaped. New members go behind the last one, all in one stretch.
 *
 *   {"model":"m", "messages":[…]}      set logprobs true, set top_logprobs 5
 *   {"model":"m", "messages":[…],"logprobs":true,"top_logprobs":5}
 */
import { scanMembers, stringAt, textStart } from './json-scan.ts'

/** A stretch of bytes that others take the place of. */
export interface Edit {
  readonly start: number
  readonly end: number
  readonly bytes: Buffer
}

interface Member {
  name: string
  readonly keyStart: number
  readonly keyEnd: number
  readonly valueStart: number
  readonly valueEnd: number
  newKey?: Buffer
  newValue?: Buffer
  isRemoved?: boolean
}

const NOTHING = Buffer.alloc(0)

/** The object a body holds, while it is changed. */
export class ObjectSplice {
  readonly #bytes: Buffer
  readonly #members: readonly Member[]
  readonly #open: number
  readonly #added = new Map<string, Buffer>()

  private constructor(bytes: Buffer, open: number, members: readonly Member[]) {
    this.#bytes = bytes
    this.#open = open
    this.#members = members
  }

  /** Reads a body; undefined when it is no JSON object as far as the scan can see. */
  static open(bytes: Buffer): ObjectSplice | undefined {
    const open = textStart(bytes)
    const members: Member[] = []
    const end = scanMembers(bytes, open, (keyStart, keyEnd, valueStart, valueEnd) => {
      const name = stringAt(bytes, keyStart, keyEnd) ?? ''
      members.push({ name, keyStart, keyEnd, valueStart, valueEnd })
    })
    if (end < 0 || bytes.subarray(end).some((byte) => byte > 0x20)) return undefined
    return new ObjectSplice(bytes, open, members)
  }

  /** The value of a name as it stands now; undefined when there is none. */
  get(name: string): Buffer | undefined {
    const member = this.#last(name)
    if (member === undefined) return this.#added.get(name)
    return member.newValue ?? this.#bytes.subarray(member.valueStart, member.valueEnd)
  }

  /** Gives a name another value, JSON text; adds it where there is none. */
  set(name: string, value: Buffer): void {
    const member = this.#last(name)
    if (member === undefined) this.#added.set(name, value)
    else member.newValue = value
  }

  /** Takes a name out, as often as it stands there. */
  remove(name: string): void {
    this.#added.delete(name)
    for (const member of this.#members) if (member.name === name) member.isRemoved = true
  }

  /** Gives the last member of a name another one; those before it go. */
  rename(from: string, to: string): void {
    const member = this.#last(from)
    if (member === undefined) return
    this.remove(from)
    member.isRemoved = false
    member.name = to
    member.newKey = Buffer.from(JSON.stringify(to))
  }

  /** The body with all changes; the very one that was given when there are none. */
  bytes(): Buffer {
    const edits: Edit[] = []
    for (const { keyStart, keyEnd, valueStart, valueEnd, ...member } of this.#members) {
      if (member.isRemoved === true) continue
      if (member.newKey) edits.push({ start: keyStart, end: keyEnd, bytes: member.newKey })
      if (member.newValue) edits.push({ start: valueStart, end: valueEnd, bytes: member.newValue })
    }
    edits.push(...removals(this.#members))
    if (this.#added.size > 0) edits.push(this.#addition())
    return applyEdits(this.#bytes, edits)
  }

  #addition(): Edit {
    const last = this.#members.at(-1)
    const isFirst = !this.#members.some(({ isRemoved }) => isRemoved !== true)
    const text = [...this.#added]
      .map(([name, value]) => `${JSON.stringify(name)}:${value.toString('latin1')}`)
      .join(',')
    const at = last?.valueEnd ?? this.#open + 1
    return { start: at, end: at, bytes: Buffer.from(isFirst ? text : `,${text}`, 'latin1') }
  }

  #last(name: string): Member | undefined {
    return this.#members.findLast((member) => member.name === name && member.isRemoved !== true)
  }
}

/** What of an object's text goes when members of it do: each with one comma. */
export function removals(
  members: readonly {
    readonly keyStart: number
    readonly valueEnd: number
    readonly isRemoved?: boolean
  }[],
): Edit[] {
  const edits: Edit[] = []
  const firstKept = members.findIndex(({ isRemoved }) => isRemoved !== true)
  for (const [index, { keyStart, valueEnd, isRemoved }] of members.entries()) {
    if (isRemoved !== true) continue
    // Before the first that stays the comma behind goes, elsewhere the one before.
    const isLeading = firstKept < 0 || index < firstKept
    const start = isLeading ? keyStart : (members[index - 1]?.valueEnd ?? keyStart)
    const end = isLeading ? (members[index + 1]?.keyStart ?? valueEnd) : valueEnd
    edits.push({ start, end, bytes: NOTHING })
  }
  return edits
}

/** The bytes with all edits made; edits may not overlap. */
export function applyEdits(bytes: Buffer, edits: readonly Edit[]): Buffer {
  if (edits.length === 0) return bytes
  const parts: Buffer[] = []
  let at = 0
  // Of two at one place the one that was noted first comes first.
  for (const { start, end, bytes: instead } of edits.toSorted((a, b) => a.start - b.start)) {
    parts.push(bytes.subarray(at, start), instead)
    at = end
  }
  parts.push(bytes.subarray(at))
  return Buffer.concat(parts)
}
