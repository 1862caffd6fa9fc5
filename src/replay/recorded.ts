/**
 * Reads what a live answer is compared with: a record of another recording, by the place that the
 * tape names. For derive, which compares; the recording may have gone since.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { errorText } from '../errors.ts'
import type { MatchFrame, RecordedPlace, TapedExchange } from '../tape/exchange.ts'
import { isShortage } from '../tape/disk.ts'
import { TapeFolder } from '../tape/reader.ts'
import type { StoredRecord } from '../trajectory/jsonl.ts'
import type { LiveAnswer, Verification } from '../trajectory/record.ts'
import { deriveAt } from '../trajectory/tape-records.ts'
import { isObject, parseJson } from '../wire/json.ts'
import type { Json } from './canonical.ts'
import { DIFFERENCES_TOLD_MAX, compareAnswers } from './compare.ts'
import type { ComparedAnswer } from './compare.ts'
import { readSourceLine } from './source-line.ts'

/** Compares an exchange's answer with the recorded one; undefined where nothing is verified. */
export function comparisonOf({
  match,
}: TapedExchange): ((live: LiveAnswer) => Verification) | undefined {
  return match && ((live) => verify(match, live))
}

function verify({ how, recorded: place }: MatchFrame, live: LiveAnswer): Verification {
  if (place === undefined) return { how, recorded: null, same: null, differences: [] }
  const recorded = 'file' in place ? place.file : place.folder
  const named = { how, recorded: { recording: recorded, seq: place.seq } }
  try {
    const differences = compareAnswers(sideOf(readAt(place)), live, DIFFERENCES_TOLD_MAX)
    return { ...named, same: differences.length === 0, differences }
  } catch (error) {
    if (isShortage(error)) throw error
    return { ...named, same: null, differences: [], error: errorText(error) }
  }
}

function sideOf(record: StoredRecord): ComparedAnswer {
  const line = readSourceLine(record)
  if (typeof line === 'string') throw new Error(`its line ${line}`)
  const { response, status, outcome, isStream } = line
  const path = response.kind === 'member' ? response.path : undefined
  const value = path?.reduce<unknown>(
    (outer, key) => (isObject(outer) ? outer[key] : undefined),
    record,
  )
  return { status, outcome, isStream, response: (value ?? null) as Json | null }
}

function readAt(place: RecordedPlace): StoredRecord {
  if (!('file' in place)) {
    const tape = new TapeFolder(place.folder)
    try {
      return deriveAt(tape, { segment: place.segment, offset: place.offset }, place.seq)
    } finally {
      tape.close()
    }
  }
  const bytes = Buffer.allocUnsafe(place.bytes)
  const fd = openSync(place.file, 'r')
  try {
    const got = readSync(fd, bytes, 0, place.bytes, place.offset)
    if (got < place.bytes) throw new Error(`${place.file} is not what it was`)
  } finally {
    closeSync(fd)
  }
  const record = parseJson(bytes.toString('utf8'))
  const isThat = isObject(record) && (record['seq'] === undefined || record['seq'] === place.seq)
  if (!isThat) throw new Error(`${place.file} is not what it was`)
  return record as unknown as StoredRecord
}
