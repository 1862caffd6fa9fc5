/**
 * Where `--out` leads. A regular file is written beside its name and takes it once it is whole, links
 * are followed to what they lead to; pipes and devices are written into. What a recording is made of
 * is never written over: no file of its tape, none beside it.
 */
import {
  constants,
  existsSync,
  lstatSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  statSync,
  type Stats,
} from 'node:fs'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { errorText, RolltapeError } from '../errors.ts'
import { parseSegmentFile } from '../tape/format.ts'
import { tapeFolderOf } from './source.ts'
import type { Terminal } from './terminal.ts'
import { write } from './writing.ts'

/** Something that is written from its beginning to its end. */
export interface Output {
  /** Resolves when more may come. */
  write(data: string | Uint8Array): Promise<void>
  /** All is written. */
  keep(): Promise<void>
  /** It will never be whole: leaves nothing behind, where that can be. After `keep` it does nothing. */
  drop(): Promise<void>
}

/** Where an output goes, before it is opened. */
export interface OutputPlace {
  /** As the user named it; `-` is stdout. */
  readonly named: string
  /** The file that is meant, links followed. */
  readonly path: string
  /** Stdout, a pipe, a device: written into, never replaced. */
  readonly isStream: boolean
  /** A regular file that is there, and would be replaced. */
  readonly isThere: boolean
}

/** What may be written over. */
export interface OutputRules {
  /** The recording that is read: a `.jsonl` or a tape folder. */
  readonly recording: string
  /** Whether its records may be replaced; its tape and what else is beside it never are. */
  readonly records: 'kept' | 'replaced'
}

/** Links that are followed, as Linux does. */
const LINKS_MAX = 40
/** Between looks whether a pipe has a reader. */
const READER_POLL_MS = 50
const NONBLOCKING = constants.O_WRONLY | constants.O_NONBLOCK

/**
 * Finds the place.
 * @throws RolltapeError `bad_option` for a folder, a folder that is not there, a file of a tape, or
 *   one of the recording itself.
 */
export function outputPlace(named: string, rules: OutputRules): OutputPlace {
  if (named === '-') return { named, path: named, isStream: true, isThere: false }
  try {
    const found = statSync(named, { throwIfNoEntry: false })
    if (found !== undefined && isStream(found)) {
      return { named, path: named, isStream: true, isThere: false }
    }
    const path = followLinks(named)
    refuseOwn(named, path, rules)
    if (found?.isDirectory() === true || /[/\\]$/.test(named)) throw bad(named, 'is a folder')
    return { named, path, isStream: false, isThere: found !== undefined }
  } catch (cause) {
    throw badOutput(named, cause)
  }
}

/** Opens the place. Throws `bad_option` when that cannot be, `aborted` while a pipe has no reader. */
export async function openOutput(place: OutputPlace, terminal: Terminal): Promise<Output> {
  if (place.named === '-') return new StandardOutput(terminal)
  try {
    if (place.isStream) return new FileOutput(place, await openStream(place.path, terminal))
    return new FileOutput(place, await open(besideOf(place), 'wx', 0o600))
  } catch (cause) {
    throw badOutput(place.named, cause)
  }
}

class StandardOutput implements Output {
  readonly #terminal: Terminal

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  write(data: string | Uint8Array): Promise<void> {
    return write(this.#terminal, data)
  }

  async keep(): Promise<void> {}

  async drop(): Promise<void> {}
}

class FileOutput implements Output {
  readonly #place: OutputPlace
  readonly #file: FileHandle
  #isOpen = true
  #isKept = false

  constructor(place: OutputPlace, file: FileHandle) {
    this.#place = place
    this.#file = file
  }

  async write(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done)
      done += bytesWritten
    }
  }

  async keep(): Promise<void> {
    await this.#close()
    if (!this.#place.isStream) await rename(besideOf(this.#place), this.#place.path)
    this.#isKept = true
  }

  async drop(): Promise<void> {
    await this.#close()
    if (!this.#isKept && !this.#place.isStream) await rm(besideOf(this.#place), { force: true })
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    await this.#file.close()
  }
}

function besideOf({ path }: OutputPlace): string {
  return `${path}.${process.pid}.part`
}

function isStream(found: Stats): boolean {
  return found.isFIFO() || found.isCharacterDevice() || found.isBlockDevice() || found.isSocket()
}

/**
 * A pipe without a reader would hold a thread until one comes, and the process with it. So a reader
 * is waited for first; while one is there, the second opening is at once.
 */
async function openStream(path: string, { stopping }: Terminal): Promise<FileHandle> {
  if (!statSync(path).isFIFO()) return open(path, constants.O_WRONLY)
  for (;;) {
    try {
      const asked = await open(path, NONBLOCKING)
      try {
        return await open(path, constants.O_WRONLY)
      } finally {
        await asked.close()
      }
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ENXIO') throw error
    }
    await pause(READER_POLL_MS, undefined, { signal: stopping }).catch(() => undefined)
    if (stopping.aborted) throw new RolltapeError('aborted', `nobody reads ${path}`)
  }
}

/** The file at the end of all links, whether it is there or not; its folder has to be. */
function followLinks(named: string): string {
  let path = resolve(named)
  for (let links = 0; links < LINKS_MAX; links++) {
    path = join(realpathSync(dirname(path)), basename(path))
    if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return path
    path = resolve(dirname(path), readlinkSync(path))
  }
  throw bad(named, 'leads in a circle')
}

/** Nothing is written into a tape, nor over what belongs to the recording. */
function refuseOwn(named: string, path: string, { recording, records }: OutputRules): void {
  const folder = dirname(path)
  if (readdirSync(folder).some((name) => parseSegmentFile(name) !== undefined)) {
    throw bad(named, 'is among the segments of a tape')
  }
  if (!existsSync(recording)) return
  for (const own of new Set([resolve(recording), realpathSync(recording)])) {
    const tape = realOf(tapeFolderOf(own))
    const beside = own.replace(/[/\\]+$/, '')
    const isInTape = path === tape || path.startsWith(tape + sep)
    const isBeside = folder === realOf(dirname(beside)) && belongs(beside, path, records)
    if (isInTape || isBeside) throw bad(named, 'is a file of the recording itself')
  }
}

/** Whether the name of a file in the same folder is one of the recording's. */
function belongs(own: string, path: string, records: OutputRules['records']): boolean {
  if (!/\.(?:jsonl|tape)$/.test(own)) return own === path
  const stem = basename(own).replace(/\.tape$|(?:\.\d{6,})?\.jsonl$/, '')
  const name = basename(path)
  if (!name.startsWith(`${stem}.`)) return false
  const rest = name.slice(stem.length)
  if (/^(?:\.\d{6,})?(?:\.jsonl\.index|\.annotations\.jsonl|\.consumers\.json)$/.test(rest))
    return true
  return records === 'kept' && /^(?:\.\d{6,})?\.jsonl$/.test(rest)
}

function realOf(path: string): string {
  return existsSync(path) ? realpathSync(path) : path
}

function bad(named: string, what: string): RolltapeError {
  return new RolltapeError('bad_option', `--out ${named} ${what}`, { hint: 'give another name' })
}

/** What the system says of `--out`, without the names that only we know. */
function badOutput(named: string, cause: unknown): RolltapeError {
  if (cause instanceof RolltapeError) return cause
  const [what = ''] = errorText(cause).split(', ')
  return new RolltapeError('bad_option', `--out ${named} cannot be written: ${what}`, { cause })
}
