/**
 * A stored record with what it says in the wrong type left out: files come from other recorders and
 * other hands, and `"usage": 5` says no more than no usage. For readers that sum up and convert; who
 * shows or searches a line takes it as it stands.
 */
import { isObject } from '../wire/json.ts'
import type { StoredRecord } from './jsonl.ts'

type Check = (value: unknown) => boolean

/** Epoch s that a date can tell. */
const TIME_S_MAX = 8.64e12

const isText: Check = (value) => typeof value === 'string'
const isFlag: Check = (value) => typeof value === 'boolean'
const isNumber: Check = (value) => typeof value === 'number' && Number.isFinite(value)
const isCount: Check = (value) => Number.isSafeInteger(value)
const isInt: Check = (value) => Number.isInteger(value) && Math.abs(Number(value)) < 2 ** 31
const isTime: Check = (value) => isNumber(value) && Math.abs(Number(value)) <= TIME_S_MAX

const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value)
/** As for `orNull`, and it need not be there. */
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || value === null || check(value)
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check)
const mapOf =
  (check: Check): Check =>
  (value) =>
    isObject(value) && Object.values(value).every(check)
const objectOf =
  (members: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isObject(value) && Object.entries(members).every(([key, check]) => check(value[key]))

const tokensOfChoice = objectOf({
  index: optional(isInt),
  token_ids: optional(listOf(orNull(isNumber))),
  prompt_token_ids: optional(listOf(orNull(isNumber))),
  logprobs: optional(listOf(orNull(isNumber))),
  tokens: optional(listOf(orNull(isText))),
  aligned: optional(isFlag),
})

/** What readers rely on, by key; `request`, `response` and the rest may be anything. */
const CHECKS: readonly (readonly [string, Check])[] = Object.entries({
  model: orNull(isText),
  stream: isFlag,
  status: isText,
  response_time: isNumber,
  start_time: isTime,
  end_time: isTime,
  error: orNull(isText),
  id: isText,
  seq: isCount,
  session: isText,
  turn: orNull(isInt),
  run: isText,
  protocol: isText,
  method: isText,
  path: isText,
  http_status: orNull(isInt),
  outcome: isText,
  partial: isFlag,
  flags: listOf(isText),
  finish_reasons: listOf(orNull(isText)),
  tokens: orNull(listOf(tokensOfChoice)),
  usage: orNull(
    objectOf({
      normalized: objectOf({
        input: isNumber,
        output: isNumber,
        cache_read: isNumber,
        cache_write: isNumber,
      }),
    }),
  ),
  timings: objectOf({
    ttfb_ms: optional(isNumber),
    ttft_ms: optional(isNumber),
    duration_ms: optional(isNumber),
    chunks: optional(isNumber),
  }),
  policy: objectOf({
    dispatch: optional(isText),
    first_byte: optional(isText),
    end: optional(isText),
    engine: optional(isText),
  }),
  upstream: orNull(isText),
  key_hmac: orNull(isText),
  group: isText,
  client_retry: isNumber,
  sha256: objectOf({ request: isText }),
  tags: mapOf(isText),
} satisfies Partial<Record<keyof StoredRecord, Check>>)

/** The record itself where it is sound, else a copy in which each member of a wrong type is absent. */
export function soundRecord(record: StoredRecord): StoredRecord {
  const members = record as unknown as Readonly<Record<string, unknown>>
  const odd = CHECKS.filter(([key, check]) => members[key] !== undefined && !check(members[key]))
  if (odd.length === 0) return record
  const keys = new Set(odd.map(([key]) => key))
  const kept = Object.entries(members).filter(([key]) => !keys.has(key))
  return Object.fromEntries(kept) as unknown as StoredRecord
}
