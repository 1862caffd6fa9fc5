/**
 * What every export format does: take sessions, write text or bytes, count what it wrote and what it
 * could not carry. Nothing is left out without being told.
 */
import type { ExportSession } from './source.ts'

/** Where an export goes; `write` resolves when more may come. */
export interface ExportSink {
  write(data: string | Uint8Array): Promise<void>
}

/** Writes one format. Sessions are given one after the other, `end` once behind them. */
export interface Exporter {
  session(session: ExportSession): Promise<void>
  end(): Promise<void>
}

/** What became of an export. */
export class ExportTally {
  written = 0
  /** How many exchanges a format had no place for, by the reason. */
  readonly leftOut = new Map<string, number>()

  leave(reason: string): void {
    this.leftOut.set(reason, (this.leftOut.get(reason) ?? 0) + 1)
  }
}

/** What a trainer said of a session, as the line-wise formats tell it. */
export function annotationOf({ note }: ExportSession): {
  readonly reward: number | null
  readonly done: boolean | null
  readonly note: string | null
} {
  return { reward: note.reward, done: note.done, note: note.note }
}
