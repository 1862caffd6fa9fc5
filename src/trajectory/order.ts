/**
 * The order in which records arrived, whatever order they were written in.
 */
import type { StoredRecord } from './jsonl.ts'

/** What tells when a record arrived. */
export type Arrived = Pick<StoredRecord, 'start_time'> & Partial<Pick<StoredRecord, 'seq' | 'id'>>

/** By `seq`; records of other recorders, which have none, come behind, by their start. */
export function compareRecords(a: Arrived, b: Arrived): number {
  if (a.seq !== b.seq) return (a.seq ?? Infinity) - (b.seq ?? Infinity)
  const byTime = (a.start_time ?? 0) - (b.start_time ?? 0)
  if (byTime !== 0 && !Number.isNaN(byTime)) return byTime
  if (a.id === b.id) return 0
  return (a.id ?? '') < (b.id ?? '') ? -1 : 1
}
