/**
 * What a recording's annotations come to, session by session: the last word counts, key by key.
 */
import { annotationsFile } from './annotations.ts'
import type { Annotation, Snapshot } from './annotations.ts'
import { readRecords } from './jsonl.ts'

/** What was said about a session; null where nothing was. */
export interface SessionNote {
  readonly tags: Readonly<Record<string, string>>
  readonly reward: number | null
  readonly done: boolean | null
  readonly note: string | null
  /** What it is frozen as. */
  readonly frozen: Snapshot | null
}

/** Nothing was said. */
export const NO_NOTE: SessionNote = {
  tags: {},
  reward: null,
  done: null,
  note: null,
  frozen: null,
}

/** The notes of a recording, by session; `file` may be one of its closed parts. */
export async function readSessionNotes(file: string): Promise<Map<string, SessionNote>> {
  const notes = new Map<string, SessionNote>()
  const path = annotationsFile(file.replace(/\.\d{6,}\.jsonl$/, '.jsonl'))
  for await (const line of readRecords(path)) {
    const annotation = line as unknown as Annotation
    const { session } = annotation
    notes.set(session, noteAfter(notes.get(session) ?? NO_NOTE, annotation))
  }
  return notes
}

/** What a note comes to with one more annotation. */
export function noteAfter(
  before: SessionNote,
  { tags, reward, done, note, frozen }: Annotation,
): SessionNote {
  return {
    tags: { ...before.tags, ...tags },
    reward: reward ?? before.reward,
    done: done ?? before.done,
    note: note ?? before.note,
    frozen: frozen ?? before.frozen,
  }
}
