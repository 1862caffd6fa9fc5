/**
 * From records to training sequences. Pure: what comes out hangs on the records alone, not on their
 * order. See `docs/training-data.md`.
 */
import type { StoredRecord } from '../trajectory/jsonl.ts'
import { compareRecords } from '../trajectory/order.ts'
import { Forest } from './forest.ts'
import { samplesOf } from './leaves.ts'
import type { Sample } from './sample.ts'

/**
 * The samples of records, sessions in the order of their first record. Each sampled token whose
 * place is known has a `loss_mask` of 1 in exactly one sample, and every record is in at least one.
 * A record that is given twice (by its `id`) counts once.
 *
 * Takes O(ids in the records) besides sorting them; what it gives is as large as its leaves are.
 */
export function buildSamples(records: Iterable<StoredRecord>): Sample[] {
  const forests = new Map<string, Forest>()
  const seen = new Set<string>()
  for (const record of [...records].sort(compareRecords)) {
    if (record.id !== undefined) {
      if (seen.has(record.id)) continue
      seen.add(record.id)
    }
    const key = sessionKey(record)
    let forest = forests.get(key)
    if (forest === undefined) forests.set(key, (forest = new Forest()))
    forest.add(record)
  }
  return [...forests.values()].flatMap((forest) => [...samplesOf(forest)])
}

/** Records of one session and run have one key. */
export function sessionKey({ session = 'default', run = 'default' }: StoredRecord): string {
  return JSON.stringify([session, run])
}
