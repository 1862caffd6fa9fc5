/**
 * A recording as exports read it: session after session, each in the order of arrival, whatever the
 * order of its lines. Two passes: the first notes where each record stands and whether it is asked
 * for, the second reads the lines of one session after the other. Memory holds the index (45 bytes
 * a record), the names of the sessions, and what a format keeps of one session.
 */
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { RolltapeError } from '../errors.ts'
import { policyOf } from '../samples/call.ts'
import { sessionKey } from '../samples/samples.ts'
import { readRecordLines } from '../trajectory/jsonl.ts'
import type { StoredRecord, TornLine } from '../trajectory/jsonl.ts'
import { isClosedPart, partsUpTo, tapeFolderBeside } from '../trajectory/parts.ts'
import { askedBy } from '../trajectory/retries.ts'
import { NO_NOTE, readSessionNotes } from '../trajectory/session-notes.ts'
import type { SessionNote } from '../trajectory/session-notes.ts'
import { soundRecord } from '../trajectory/sound.ts'
import { TapedRequests, isRequestTaped } from '../trajectory/taped-requests.ts'
import { Entries } from './entries.ts'

/** Which records are exported; all where nothing is said. */
export interface ExportFilter {
  readonly sessions?: readonly string[]
  readonly outcomes?: readonly string[]
  /** Only records whose tokens were all sampled under one of these. */
  readonly policyVersions?: readonly string[]
  /** Only records with tokens, each with its id and log-prob. */
  readonly aligned?: boolean
  /** Leave out records that a later one asks again. */
  readonly dropRetried?: boolean
}

/** What a reading tells while it goes on. */
export interface ExportTold {
  readonly signal?: AbortSignal
  /** Bytes of both passes. */
  readonly onProgress?: (done: number, total: number) => void
  readonly onTrouble: (line: string) => void
}

/** One record, as a format gets it. */
export interface ExportRecord {
  readonly record: StoredRecord
  /** Its line, as it stands in the file. */
  readonly text: string
  /** The record that it asks again. */
  readonly retryOf: string | null
}

/** The records of one session. */
export interface ExportSession {
  readonly session: string
  readonly run: string
  /** What a trainer said about it. */
  readonly note: SessionNote
  /** In the order of arrival; may be read more than once. */
  records(): Iterable<ExportRecord>
}

interface SessionName {
  readonly session: string
  readonly run: string
}

/** A recording, indexed. */
export class ExportSource {
  readonly #files: readonly number[]
  readonly #entries: Entries
  readonly #names: readonly SessionName[]
  readonly #notes: ReadonlyMap<string, SessionNote>
  readonly #dropRetried: boolean
  readonly #told: ExportTold
  /** Requests that records leave to the tape. */
  readonly #requests: TapedRequests
  #bytes: number
  readonly #bytesTotal: number

  private constructor(
    index: Pass,
    notes: ReadonlyMap<string, SessionNote>,
    dropRetried: boolean,
    told: ExportTold,
    path: string,
  ) {
    this.#files = index.files
    this.#requests = new TapedRequests(tapeFolderBeside(path), told.onTrouble)
    this.#entries = index.entries
    this.#names = index.names
    this.#notes = notes
    this.#dropRetried = dropRetried
    this.#told = told
    this.#bytes = index.bytes
    this.#bytesTotal = 2 * index.bytes
  }

  /**
   * Indexes a file of records, and the parts that rotations closed before it.
   * @throws RolltapeError `not_found`, `bad_option` for a folder, `record_malformed`, `wrong_state`
   *   when a rotation came between, `snapshot_changed`.
   */
  static async open(path: string, filter: ExportFilter, told: ExportTold): Promise<ExportSource> {
    // Before the records: what is frozen by then has them all.
    const notes = await readSessionNotes(path)
    const index = await firstPass(path, filter, told)
    index.entries.arrange(index.names.length)
    const source = new ExportSource(index, notes, filter.dropRetried === true, told, path)
    try {
      // A part that is named alone has a part of a session.
      if (!isClosedPart(path)) source.#checkFrozen()
      return source
    } catch (error) {
      source.close()
      throw error
    }
  }

  /** The sessions, by the first record of each. */
  *sessions(): Generator<ExportSession, void, undefined> {
    for (const { session, entries } of this.#entries.bySession()) {
      const name = this.#names[session] ?? { session: 'default', run: 'default' }
      yield {
        ...name,
        note: this.#notes.get(name.session) ?? NO_NOTE,
        records: () => this.#read(entries),
      }
    }
  }

  /** Lets go of the files. */
  close(): void {
    for (const file of this.#files) closeSync(file)
    this.#requests.close()
  }

  *#read(entries: Uint32Array): Generator<ExportRecord, void, undefined> {
    const seen = new Set<string>()
    for (const at of entries) {
      if (this.#told.signal?.aborted === true) return
      if (this.#dropRetried && this.#entries.isRetried(at)) continue
      const line = this.#lineAt(at)
      const stored = JSON.parse(line) as StoredRecord
      const text = isRequestTaped(stored) ? this.#requests.line(line, stored) : line
      const record = soundRecord(text === line ? stored : (JSON.parse(text) as StoredRecord))
      if (record.id !== undefined) {
        if (seen.has(record.id)) continue
        seen.add(record.id)
      }
      const before = this.#entries.retryOf(at)
      const retryOf =
        before === undefined
          ? null
          : soundRecord(JSON.parse(this.#lineAt(before)) as StoredRecord).id
      yield { record, text, retryOf: retryOf ?? null }
      this.#bytes += text.length
      this.#told.onProgress?.(Math.min(this.#bytes, this.#bytesTotal), this.#bytesTotal)
    }
  }

  /** @throws RolltapeError `snapshot_changed` when a frozen session's records are not what they were. */
  #checkFrozen(): void {
    const numbers = new Map<string, number>()
    const groups = this.#names.map(({ session }) => {
      if ((this.#notes.get(session)?.frozen ?? null) === null) return -1
      const group = numbers.get(session) ?? numbers.size
      numbers.set(session, group)
      return group
    })
    if (numbers.size === 0) return
    const sessions = [...numbers.keys()]
    for (const { group, entries } of this.#entries.grouped(groups)) {
      const session = sessions[group] ?? ''
      const digest = createHash('sha256')
      for (const at of entries) digest.update(this.#bytesAt(at)).update('\n')
      const frozen = this.#notes.get(session)?.frozen
      if (frozen?.sha256 === digest.digest('hex')) continue
      throw new RolltapeError(
        'snapshot_changed',
        `session ${session} is frozen as ${frozen?.id}, and its records are not those of then ` +
          `(${frozen?.records} then, ${entries.length} now)`,
        { hint: 'bring the file back as it was, or choose other sessions' },
      )
    }
  }

  #lineAt(at: number): string {
    return this.#bytesAt(at).toString('utf8')
  }

  #bytesAt(at: number): Buffer {
    const { file, offset, length } = this.#entries.place(at)
    const bytes = Buffer.allocUnsafe(length)
    let done = 0
    while (done < length) {
      const read = readSync(this.#files[file] ?? -1, bytes, done, length - done, offset + done)
      if (read === 0) throw changed()
      done += read
    }
    return bytes
  }
}

interface Pass {
  readonly files: number[]
  readonly entries: Entries
  readonly names: SessionName[]
  bytes: number
}

async function firstPass(path: string, filter: ExportFilter, told: ExportTold): Promise<Pass> {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) {
    throw new RolltapeError('not_found', `${path}: no such file`, { hint: 'give a .jsonl' })
  }
  if (found.isDirectory()) {
    throw new RolltapeError('bad_option', `${path} is a folder, and exports read a .jsonl`, {
      hint: 'give the .jsonl beside the tape; `rolltape serve` makes the records a tape has and it lacks',
    })
  }
  const pass: Pass = { files: [], entries: new Entries(), names: [], bytes: 0 }
  try {
    await indexParts(pass, path, filter, told)
    return pass
  } catch (error) {
    for (const file of pass.files) closeSync(file)
    throw error
  }
}

async function indexParts(
  pass: Pass,
  path: string,
  filter: ExportFilter,
  told: ExportTold,
): Promise<void> {
  const numbers = new Map<string, number>()
  const parts = partsUpTo(path)
  const total = parts.reduce((sum, part) => sum + statSync(part).size, 0)
  for (const [file, part] of parts.entries()) {
    const before = pass.bytes
    const opened = openSync(part, 'r')
    pass.files.push(opened)
    const lines = readRecordLines(part, {
      onTorn: (torn) => told.onTrouble(tornLine(part, torn)),
      onProgress: ({ bytes }) => told.onProgress?.(before + bytes, 2 * total),
      ...(told.signal === undefined ? {} : { signal: told.signal }),
    })
    for await (const { record: each, offset, length } of lines) {
      const record = soundRecord(each)
      if (filter.sessions?.includes(record.session ?? 'default') === false) continue
      const key = sessionKey(record)
      const session = numbers.get(key) ?? numbers.size
      if (session === numbers.size) {
        numbers.set(key, session)
        const { session: name = 'default', run = 'default' } = record
        pass.names.push({ session: name, run })
      }
      const seq = record.seq ?? Infinity
      const isSelected = isWanted(record, filter)
      const start = record.start_time ?? 0
      const asked = askedBy(record)
      pass.entries.add({ session, file, offset, length, seq, start, asked, isSelected })
    }
    if (fstatSync(opened).ino !== statSync(part).ino) throw changed()
    pass.bytes = before + fstatSync(opened).size
  }
}

function isWanted(record: StoredRecord, filter: ExportFilter): boolean {
  const { outcomes, policyVersions, aligned } = filter
  if (outcomes !== undefined) {
    const outcome = record.outcome ?? (record.status === 'failure' ? 'upstream_error' : 'complete')
    if (!outcomes.includes(outcome)) return false
  }
  if (policyVersions !== undefined) {
    const { version, mixed } = policyOf(record)
    if (mixed || version === null || !policyVersions.includes(version)) return false
  }
  if (aligned !== true) return true
  return (record.tokens ?? []).length > 0 && record.tokens?.every((each) => each.aligned) === true
}

function tornLine(part: string, { line, length }: TornLine): string {
  return `${part}: line ${line} is torn after ${length} bytes, and left out`
}

function changed(): RolltapeError {
  return new RolltapeError('wrong_state', 'the recording was rotated or cut while it was read', {
    hint: 'export it again',
  })
}
