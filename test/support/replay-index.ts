/** A replay index out of a few records that a test writes down. */
import { chain, joinEntries } from '../../src/replay/index-join.ts'
import { KEY_LISTS } from '../../src/replay/index-table.ts'
import type { IndexMemory } from '../../src/replay/index-table.ts'
import { NO_KEY } from '../../src/replay/key.ts'
import { Packer } from '../../src/replay/packed.ts'
import type { PackedFields } from '../../src/replay/packed.ts'

const BLANK: PackedFields = {
  rawKey: NO_KEY,
  canonicalKey: NO_KEY,
  session: 'default',
  turn: 0,
  seq: undefined,
  segment: undefined,
  offset: 0,
  lineOffset: 0,
  lineBytes: 1,
  flags: 0,
  status: 200,
  model: null,
}

/** Makes an index of records, all in one file and without a tape. */
export function makeIndex(records: readonly Partial<PackedFields>[]): IndexMemory {
  const packer = new Packer()
  for (const record of records) packer.add({ ...BLANK, ...record })
  const joined = joinEntries([{ ...packer.take(), file: 0 }], new Set())
  const tables = KEY_LISTS.map((list) => chain(joined.entries, joined.count, list))
  return { ...joined, tables }
}
