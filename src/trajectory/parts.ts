/**
 * The files of a recording's parts: `runs/a.000001.jsonl`, `runs/a.000002.jsonl`, … are closed,
 * `runs/a.jsonl` is the one that is written.
 */
import { basename, dirname, join } from 'node:path'
import type { Disk } from '../tape/disk.ts'
import { realDisk } from '../tape/disk.ts'

const DIGITS = 6

/** The name that a part gets when it is closed; `part` counts from 1. */
export function partFile(file: string, part: number): string {
  return `${stemOf(file)}.${String(part).padStart(DIGITS, '0')}.jsonl`
}

/** The closed parts of a recording, in their order. */
export function closedParts(file: string, disk: Disk = realDisk): { part: number; file: string }[] {
  const folder = dirname(file)
  const stem = basename(stemOf(file))
  const parts: { part: number; file: string }[] = []
  for (const name of disk.listSync(folder)) {
    const digits = name.slice(stem.length + 1, -'.jsonl'.length)
    const isPart = name === `${stem}.${digits}.jsonl` && /^\d{6,}$/.test(digits)
    if (isPart) parts.push({ part: Number(digits), file: join(folder, name) })
  }
  return parts.sort((a, b) => a.part - b.part)
}

/**
 * A file of records and the closed parts before it, in their order. A part that is given by its own
 * name stands alone.
 */
export function partsUpTo(file: string): string[] {
  if (!file.endsWith('.jsonl') || isClosedPart(file)) return [file]
  return [...closedParts(file).map((part) => part.file), file]
}

/** The tape folder beside a file of records: `runs/a.jsonl`, `runs/a.000001.jsonl` → `runs/a.tape`. */
export function tapeFolderBeside(file: string): string {
  return `${file.replace(/(?:\.\d{6,})?\.jsonl$/, '')}.tape`
}

/** True for the name of a part that a rotation closed. */
export function isClosedPart(file: string): boolean {
  return /\.\d{6,}\.jsonl$/.test(file)
}

/** The part that comes after those that are closed. */
export function nextPart(file: string, disk: Disk = realDisk): number {
  return (closedParts(file, disk).at(-1)?.part ?? 0) + 1
}

function stemOf(file: string): string {
  return file.replace(/\.jsonl$/, '')
}
