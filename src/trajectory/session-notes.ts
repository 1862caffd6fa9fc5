/**
 * What a recording's annotations come to, session by session: the last word counts, key by key.
 */
import { annotationsFile } from './annotations.ts'
import type { Annotation } from './annotations.ts'
import { readRecords } from './jsonl.ts'

/** What was said about a session; null where nothing was. */
export interface SessionNote {
  readonly tags: Readonly<Record<string, string>>
  readonly reward: number | null
  readonly done: boolean | null
  readonly note: string | null
}

/** Nothing was said. */
export const NO_NOTE: SessionNote = { tags: {}, reward: null, done: null, note: null }

/** The notes of a recording, by session; `file` may be one of its closed parts. */
export async function readSessionNotes(file: string): Promise<Map<string, SessionNote>> {
  const notes = new Map<string, SessionNote>()
  const path = annotationsFile(file.replace(/\.\d{6,}\.jsonl$/, '.jsonl'))
  for await (const line of readRecords(path)) {
    const { session, tags, reward, done, note } = line as unknown as Annotation
    const before = notes.get(session) ?? NO_NOTE
    notes.set(session, {
      tags: { ...before.tags, ...tags },
      reward: reward ?? before.reward,
      done: done ?? before.done,
      note: note ?? before.note,
    })
  }
  return notes
}
