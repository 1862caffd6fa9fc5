/**
 * The formats that a recording can be exported to.
 */
import type { Exporter, ExportSink, ExportTally } from './exporter.ts'
import { harExporter } from './har.ts'
import { openaiChatExporter } from './openai-chat.ts'
import { openenvExporter } from './openenv.ts'
import { samplesExporter } from './samples.ts'
import { sharegptExporter } from './sharegpt.ts'

/** What each format is made of, for people: one of it, and several. */
export const FORMATS = {
  samples: ['sample', 'samples'],
  openenv: ['turn', 'turns'],
  'openai-chat': ['conversation', 'conversations'],
  sharegpt: ['conversation', 'conversations'],
  har: ['entry', 'entries'],
  parquet: ['sample', 'samples'],
} as const

/** Name of a format. */
export type ExportFormat = keyof typeof FORMATS

/** Begins an export. Parquet's library is loaded only where it is asked for. */
export async function openExporter(
  format: ExportFormat,
  sink: ExportSink,
  tally: ExportTally,
): Promise<Exporter> {
  switch (format) {
    case 'samples':
      return samplesExporter(sink, tally)
    case 'openenv':
      return openenvExporter(sink, tally)
    case 'openai-chat':
      return openaiChatExporter(sink, tally)
    case 'sharegpt':
      return sharegptExporter(sink, tally)
    case 'har':
      return harExporter(sink, tally)
    case 'parquet': {
      const { parquetExporter } = await import('./parquet.ts')
      return parquetExporter(sink, tally)
    }
  }
}
