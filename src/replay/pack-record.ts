/**
 * A record as the index knows it: read as any source's line, its keys made, packed.
 */
import type { StoredRecord } from '../trajectory/jsonl.ts'
import type { IgnoreRules } from './canonical.ts'
import { NO_KEY, canonicalKeyOf, keyHead, rawKey } from './key.ts'
import {
  HAS_NO_HEAD,
  IS_GENERATION,
  IS_PARTIAL,
  IS_SHAPED,
  IS_STREAM,
  IS_TRUNCATED,
  IS_TURN_LINE,
  IS_UNUSABLE,
} from './packed.ts'
import type { Packer } from './packed.ts'
import { readSourceLine } from './source-line.ts'
import type { SourceLine } from './source-line.ts'

/** Where a record's line stands; `offset` is -1 where there is none. */
export interface LinePlace {
  readonly offset: number
  readonly length: number
}

/** Packs a record; returns why it is none that can be replayed. */
export function packRecord(
  packer: Packer,
  record: StoredRecord,
  place: LinePlace,
  ignore: IgnoreRules,
): string | undefined {
  const line = readSourceLine(record)
  if (typeof line === 'string') return line
  const head = keyHead(line.method, line.target)
  const canonical = line.request === undefined ? NO_KEY : canonicalKeyOf(head, line.request, ignore)
  const raw = line.digest === undefined ? NO_KEY : rawKey(head, line.digest)
  const { tape } = record
  packer.add({
    rawKey: raw,
    canonicalKey: canonical,
    session: line.session,
    turn: line.turn,
    seq: line.seq,
    segment: tape?.segment,
    offset: tape?.end ?? 0,
    lineOffset: place.offset,
    lineBytes: place.length,
    flags: flagsOf(line),
    status: line.status ?? 0,
    model: line.model,
  })
  return undefined
}

const SHAPED: ReadonlySet<string> = new Set([
  'openai.chat',
  'openai.completions',
  'openai.responses',
  'anthropic.messages',
])

/** True where nobody waited for the answer's end: it is served only with `replayPartial`. */
export function isPartialOutcome(outcome: string | null | undefined): boolean {
  return outcome === 'client_gone' || outcome === 'incomplete' || outcome === 'cancelled'
}

/** The flags of a line's entry. */
export function flagsOf(line: SourceLine): number {
  const { outcome } = line
  const partial = isPartialOutcome(outcome)
  return (
    (line.isGeneration ? IS_GENERATION : 0) |
    (line.isStream ? IS_STREAM : 0) |
    (partial ? IS_PARTIAL : 0) |
    (line.isCut ? IS_TRUNCATED : 0) |
    (line.response.kind === 'none' ? IS_UNUSABLE : 0) |
    (line.status === null ? HAS_NO_HEAD : 0) |
    (line.writer === 'turns' ? IS_TURN_LINE : 0) |
    (SHAPED.has(line.protocol) ? IS_SHAPED : 0)
  )
}
