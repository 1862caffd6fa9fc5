/**
 * Which record asks again what an earlier one of its session asked: an SDK that tries again, or an
 * agent whose first answer got lost. Told by the digest of the body and by how the earlier ended.
 */
import type { StoredRecord } from './jsonl.ts'

/** What is needed of a record to tell. */
export interface Asked {
  /** The same for the same request; undefined for what cannot be a retry. */
  readonly digest: string | undefined
  /** Its answer never came whole, or was an error. */
  readonly failed: boolean
  /** The client itself says that it tries again. */
  readonly marked: boolean
}

/** Reads that from a record; `client_retry` is the client's own count of its tries. */
export function askedBy(record: StoredRecord): Asked {
  const isGeneration = record.turn !== null && record.turn !== undefined
  const digest = record.sha256?.request
  const retry = (record as { readonly client_retry?: unknown }).client_retry
  return {
    digest:
      isGeneration && digest !== undefined && digest !== ''
        ? `${record.method ?? ''} ${record.path ?? ''} ${digest}`
        : undefined,
    failed: record.status === 'failure' || (record.outcome ?? 'complete') !== 'complete',
    marked: typeof retry === 'number' && retry > 0,
  }
}

/** Links the records of one session, given in the order of their arrival. `Key` names a record. */
export class RetryLinks<Key> {
  readonly #asked = new Map<string, { readonly key: Key; readonly failed: boolean }>()

  /** Takes a record in and gives the one that it asks again; undefined when it asks something new. */
  follow(key: Key, { digest, failed, marked }: Asked): Key | undefined {
    if (digest === undefined) return undefined
    const before = this.#asked.get(digest)
    this.#asked.set(digest, { key, failed })
    return before !== undefined && (before.failed || marked) ? before.key : undefined
  }
}
