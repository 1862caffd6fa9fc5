/**
 * `parquet`: the samples as a table, one row each, with typed columns; DuckDB, pandas and others read
 * it. Rows gather in memory until a row group is full; what is written goes to the sink at once.
 */
import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import type { BasicType, SchemaElement } from 'hyparquet-writer'
import { PARQUET_GROUP_ROWS_MAX, PARQUET_GROUP_TOKENS_MAX } from '../limits.ts'
import { version } from '../version.ts'
import type { Exporter, ExportSink, ExportTally } from './exporter.ts'
import { annotatedSamples } from './samples.ts'
import type { AnnotatedSample } from './samples.ts'

/** Lists of lists of what a struct holds, by the names of its members. */
type Members = Readonly<Record<string, BasicType>>

/** A column: its values' type, or a list of one type, or a list of structs. */
type Type = BasicType | readonly [BasicType] | Members

/** The columns, in their order; those of `Sample`, flattened where Parquet has no such shape. */
const COLUMNS: Readonly<Record<string, Type>> = {
  session: 'STRING',
  run: 'STRING',
  sample: 'INT32',
  conversation: 'INT32',
  kind: 'STRING',
  labels: ['STRING'],
  model: 'STRING',
  group: 'STRING',
  tags: 'JSON',
  reward: 'DOUBLE',
  done: 'BOOLEAN',
  note: 'STRING',
  tokens_sampled: 'INT32',
  token_ids: ['INT32'],
  loss_mask: ['INT32'],
  logprobs: ['DOUBLE'],
  policy_version: { start: 'INT32', end: 'INT32', version: 'STRING', mixed: 'BOOLEAN' },
  turns: {
    id: 'STRING',
    seq: 'INT64',
    turn: 'INT32',
    choice: 'INT32',
    start: 'INT32',
    end: 'INT32',
    trained: 'BOOLEAN',
    finish_reason: 'STRING',
    outcome: 'STRING',
    retry_of: 'STRING',
  },
  drift: { position: 'INT32', class: 'STRING', id: 'STRING', of: 'STRING', choice: 'INT32' },
}

/** Writes the table. */
export function parquetExporter(sink: ExportSink, tally: ExportTally): Exporter {
  const bytes = new ByteWriter()
  const writer = new ParquetWriter({
    writer: bytes,
    schema: schema(),
    createdBy: `rolltape ${version()}`,
  })
  const group = new RowGroup()
  const flush = async (): Promise<void> => {
    group.writeTo(writer)
    await sink.write(bytes.getBytes().slice())
    bytes.index = 0
  }
  return {
    async session(session) {
      for (const sample of annotatedSamples(session)) {
        group.add(sample)
        tally.written++
        if (group.isFull) await flush()
      }
    },
    async end() {
      if (group.rows > 0) await flush()
      await writer.finish()
      await sink.write(bytes.getBytes().slice())
    },
  }
}

/** Rows that wait for their group to be full. */
class RowGroup {
  rows = 0
  #tokens = 0
  #columns = new Map<string, unknown[]>()

  get isFull(): boolean {
    return this.rows >= PARQUET_GROUP_ROWS_MAX || this.#tokens >= PARQUET_GROUP_TOKENS_MAX
  }

  add(sample: AnnotatedSample): void {
    const { tags, turns, loss_mask: mask } = sample
    const row: Readonly<Record<string, unknown>> = {
      ...sample,
      tags,
      tokens_sampled: mask.reduce<number>((sum, each) => sum + each, 0),
      turns: turns.map((turn) => ({ ...turn, seq: turn.seq === null ? null : BigInt(turn.seq) })),
    }
    for (const name of Object.keys(COLUMNS)) {
      const column = this.#columns.get(name)
      if (column === undefined) this.#columns.set(name, [row[name]])
      else column.push(row[name])
    }
    this.rows++
    this.#tokens += mask.length
  }

  writeTo(writer: ParquetWriter): void {
    const columnData = Object.entries(COLUMNS).map(([name, type]) => ({
      name,
      data: this.#columns.get(name) ?? [],
      offsetIndex: false,
      statistics: typeof type === 'string' && type !== 'JSON',
    }))
    void writer.write({ columnData, rowGroupSize: this.rows })
    this.#columns = new Map()
    this.rows = 0
    this.#tokens = 0
  }
}

function schema(): SchemaElement[] {
  const columns = Object.entries(COLUMNS)
  return [
    { name: 'sample', num_children: columns.length },
    ...columns.flatMap(([name, type]) => elementsOf(name, type)),
  ]
}

function elementsOf(name: string, type: Type): SchemaElement[] {
  if (typeof type === 'string') return [leaf(name, type)]
  const list: SchemaElement[] = [
    { name, repetition_type: 'OPTIONAL', num_children: 1, converted_type: 'LIST' },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
  ]
  if (isList(type)) return [...list, leaf('element', type[0])]
  const members = Object.entries(type)
  const element = { name: 'element', repetition_type: 'OPTIONAL', num_children: members.length }
  return [
    ...list,
    element as SchemaElement,
    ...members.map(([member, memberType]) => leaf(member, memberType)),
  ]
}

function isList(type: readonly [BasicType] | Members): type is readonly [BasicType] {
  return Array.isArray(type)
}

function leaf(name: string, type: BasicType): SchemaElement {
  const repetition_type = 'OPTIONAL'
  if (type === 'STRING' || type === 'JSON') {
    const converted_type = type === 'STRING' ? 'UTF8' : 'JSON'
    return { name, type: 'BYTE_ARRAY', converted_type, repetition_type }
  }
  if (type === 'INT32' || type === 'INT64' || type === 'DOUBLE' || type === 'BOOLEAN') {
    return { name, type, repetition_type }
  }
  throw new TypeError(`no column has the type ${type}`)
}
