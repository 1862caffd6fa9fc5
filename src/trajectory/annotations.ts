/**
 * What a trainer or an environment says about sessions: `runs/a.annotations.jsonl`, one line each,
 * only ever appended to. Exports join them to the records by session; the last word counts. That a
 * session has finished, or is frozen, stands there as well.
 *
 *   {"schema":"rolltape.annotation/1","session":"s1","at":1763640000.25,"reward":0.5,"tags":{"env":"dev"}}
 *   {"schema":"rolltape.annotation/1","session":"s1","at":1763640001.5,"closed":true,
 *    "finished":{"version":1,"turns":3,"last_seq":7,"since_seq":0},
 *    "frozen":{"id":"…","version":1,"records":3,"sha256":"…"}}
 *
 * (wrapped here, one line each in the file)
 */
import { errorText, RolltapeError } from '../errors.ts'
import type { Disk } from '../tape/disk.ts'
import { realDisk } from '../tape/disk.ts'

/** The value of every annotation's `schema` key. */
export const ANNOTATION_SCHEMA = 'rolltape.annotation/1' as const

/** What is said about a session. */
export interface AnnotationInput {
  readonly session: string
  readonly tags?: Readonly<Record<string, string>>
  readonly reward?: number
  readonly done?: boolean
  readonly note?: string
}

/** That a session has finished, as far as the recording had come by then. */
export interface Finish {
  /** Counts how often the session has finished. */
  readonly version: number
  /** Turns of the session. */
  readonly turns: number
  /** Exchanges that came later have higher numbers. */
  readonly last_seq: number
  /** The last number of the version before; 0 in the first. */
  readonly since_seq: number
}

/** A session that takes no more calls, and its records. */
export interface Snapshot {
  readonly id: string
  /** That of its finish. */
  readonly version: number
  readonly records: number
  /** In hex, of the records by `seq`: each line as it stands in the file, with its line break. */
  readonly sha256: string
}

/** What becomes of a session, beside what is said about it. */
export interface SessionMark {
  readonly closed?: true
  readonly finished?: Finish
  readonly frozen?: Snapshot
}

/** One line of the file. */
export interface Annotation extends AnnotationInput, SessionMark {
  readonly schema: typeof ANNOTATION_SCHEMA
  /** Epoch s. */
  readonly at: number
}

const LF = 0x0a

/** Where a recording's annotations are. */
export function annotationsFile(file: string): string {
  return `${file.replace(/\.jsonl$/, '')}.annotations.jsonl`
}

/** Writes annotations of one recording. */
export class AnnotationWriter {
  readonly #path: string
  readonly #disk: Disk
  readonly #synced: boolean
  #fd: number | undefined
  #bytes = 0

  /** `synced`: each line is on the disk itself before it is answered. */
  constructor(path: string, synced: boolean, disk: Disk = realDisk) {
    this.#path = path
    this.#synced = synced
    this.#disk = disk
  }

  /**
   * Appends one.
   * @throws RolltapeError `tape_unavailable` when the disk does not take it; then nothing is there.
   */
  append(input: AnnotationInput & SessionMark): Annotation {
    const annotation: Annotation = {
      schema: ANNOTATION_SCHEMA,
      at: Date.now() / 1_000,
      ...input,
    }
    try {
      this.#write(Buffer.from(`${JSON.stringify(annotation)}\n`))
    } catch (cause) {
      const message = `cannot write ${this.#path}: ${errorText(cause)}`
      throw new RolltapeError('tape_unavailable', message, { cause })
    }
    return annotation
  }

  /** Bytes of the file, once something was appended. */
  get bytes(): number {
    return this.#bytes
  }

  /** Closes the file, where it was opened. */
  close(): void {
    const fd = this.#fd
    this.#fd = undefined
    if (fd !== undefined) this.#disk.closeSync(fd)
  }

  #write(line: Buffer): void {
    const fd = (this.#fd ??= this.#open())
    let done = 0
    try {
      while (done < line.length) {
        const wrote = this.#disk.writeSync(fd, line.subarray(done), null)
        if (wrote === 0) throw new Error(`the disk took ${done} of ${line.length} bytes`)
        done += wrote
      }
      if (this.#synced) this.#disk.fdatasyncSync(fd)
    } catch (error) {
      if (done > 0) this.#disk.truncateSync(fd, this.#bytes)
      throw error
    }
    this.#bytes += line.length
  }

  /** A crash may have torn the last line: it was never answered, and is cut off. */
  #open(): number {
    const fd = this.#disk.openSync(this.#path, 'a+')
    try {
      const text = this.#disk.readFileSync(this.#path)
      const end = text.lastIndexOf(LF) + 1
      if (end < text.length) this.#disk.truncateSync(fd, end)
      this.#bytes = end
    } catch (error) {
      this.#disk.closeSync(fd)
      throw error
    }
    return fd
  }
}
