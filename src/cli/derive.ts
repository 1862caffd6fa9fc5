/**
 * `rolltape derive`: the records of a tape, made anew: for when the `.jsonl` was lost, cut, or made
 * by an older rolltape. The tape is only read.
 */
import { existsSync, realpathSync } from 'node:fs'
import { Command, Option } from 'commander'
import { RolltapeError } from '../errors.ts'
import { damageOf, gatherAll, placeOf as stretchText } from '../tape/check.ts'
import { realDisk } from '../tape/disk.ts'
import { recordedNow } from '../tape/lock.ts'
import { lineOf } from '../trajectory/check.ts'
import type { RecordRequests } from '../trajectory/derive.ts'
import { tapeFolderBeside } from '../trajectory/parts.ts'
import { openOutput, outputPlace, type Output, type OutputPlace } from './output.ts'
import { withProgress, type ReadingTold } from './progress.ts'
import { tapeFolderOf } from './source.ts'
import { breathe, framesOf } from './tape-reading.ts'
import { EXIT, tell, type Terminal } from './terminal.ts'

interface DeriveFlags {
  readonly out: string
  readonly force?: boolean
  readonly partial?: boolean
  readonly recordRequests: RecordRequests
}

const HELP = `
Lines come in the order of \`seq\`, parts that were rotated together; each is the one that was written
while recording (but for \`verify\`, which needs the recording that was compared with). Exchanges that
a crash cut have the outcome \`incomplete\`; those of a recording that is being written are left out.
What is damaged is told, as \`verify\` does, and the exit code is 1; a file that is there then stays.

  rolltape derive runs/a.tape --out runs/a.jsonl      the file was lost
  rolltape derive runs/a.tape --out - | jq .outcome`

/** Makes the command. */
export function deriveCommand(terminal: Terminal, finish: (code: number) => void): Command {
  return new Command('derive')
    .summary('make the records of a tape anew')
    .description('Make the records of a tape anew')
    .argument('<recording>', 'a tape folder, or the .jsonl beside it')
    .requiredOption('--out <file>', 'where the records go; `-` is stdout')
    .option('--force', 'replace the file if it is there; of a tape that is whole')
    .option('--partial', 'with --force: replace it with what a damaged tape still holds')
    .addOption(
      new Option('--record-requests <full|ref>', 'whether requests stand in the records')
        .choices(['full', 'ref'])
        .default('full'),
    )
    .addHelpText('after', HELP)
    .action(async (path: string, flags: DeriveFlags) => finish(await derive(path, flags, terminal)))
}

async function derive(path: string, flags: DeriveFlags, terminal: Terminal): Promise<number> {
  const folder = tapeFolderOf(path)
  if (!existsSync(folder)) {
    throw new RolltapeError('not_found', `${folder}: there is no tape`, {
      hint: 'give a tape folder such as runs/a.tape, or the .jsonl beside it',
    })
  }
  const held = recordedNow(folder, realDisk)
  const place = placeOf(flags, folder, held)
  tellOfRefs(flags, place, folder, terminal)
  const out = await openOutput(place, terminal)
  try {
    const { damage, letGo } = await withProgress(terminal, (told) =>
      run({ folder, held, requests: flags.recordRequests }, out, terminal, told),
    )
    if (damage === 0 && (letGo === 0 || !place.isThere)) {
      await out.keep()
      return EXIT.done
    }
    if (place.isThere && flags.partial !== true) {
      const why =
        damage > 0 ? 'is damaged' : 'has been let go in part, and records are all there is'
      throw new RolltapeError('tape_corrupt', `${flags.out} stays as it was: the tape ${why}`, {
        hint: 'choose another file, or say --force --partial to replace it with what is left',
      })
    }
    await out.keep()
    return damage === 0 ? EXIT.done : EXIT.failed
  } finally {
    await out.drop()
  }
}

interface DeriveOrder {
  readonly folder: string
  /** Why somebody may be recording; undefined when nobody is. */
  readonly held: string | undefined
  readonly requests: RecordRequests
}

/** Writes all lines; what could not be, for damage or because its tape was let go. */
async function run(
  { folder, held, requests }: DeriveOrder,
  out: Output,
  { stopping }: Terminal,
  { onProgress, onTrouble }: ReadingTold,
): Promise<{ damage: number; letGo: number }> {
  const frames = await framesOf(folder, stopping, { onProgress })
  const { last, open, torn } = frames
  const damage = damageOf(frames)
  if (held === undefined) {
    for (const stretch of torn) onTrouble(`torn by a crash: ${stretchText(stretch)}`)
  }
  for (const what of damage) onTrouble(`DAMAGE ${what}`)
  const wanted = held === undefined ? last : new Map([...last].filter(([seq]) => !open.has(seq)))
  if (wanted.size < last.size) {
    onTrouble(`being recorded (${held}): ${last.size - wanted.size} open exchanges are left out`)
  }
  let left = 0
  let parted = 0
  let made = 0
  for (const one of gatherAll(folder, wanted)) {
    if ('why' in one && one.isLetGo) {
      parted++
      continue
    }
    if ('why' in one) {
      left++
      onTrouble(one.why)
      continue
    }
    await out.write(lineOf(one.exchange, requests))
    onProgress(++made, wanted.size)
    await breathe(stopping)
  }
  if (left > 0) onTrouble(`${left} exchanges cannot be read, and are left out`)
  const letGo = frames.letGo.count
  if (letGo > 0) {
    const more = parted === 0 ? '' : `, and ${parted} exchanges that began in them`
    onTrouble(`${letGo} segments were let go (tape_retain): what was in them is left out${more}`)
  }
  return { damage: damage.length + left, letGo }
}

/** Where the records go; what somebody is writing, or is there already, is left alone. */
function placeOf({ out, force }: DeriveFlags, folder: string, held: string | undefined) {
  const place = outputPlace(out, { recording: folder, records: 'replaced' })
  const records = outputPlace(recordsOf(folder), { recording: folder, records: 'replaced' })
  if (held !== undefined && place.path === records.path) {
    throw new RolltapeError('recording_locked', `${out} is being recorded (${held})`, {
      hint: 'derive into another file, or stop the recorder',
    })
  }
  if (place.isThere && force !== true) {
    throw new RolltapeError('bad_option', `--out ${out} is there already`, {
      hint: 'choose another file, or say --force to replace it',
    })
  }
  return place
}

/** Who reads a file looks for requests on the tape beside it. */
function tellOfRefs(flags: DeriveFlags, place: OutputPlace, folder: string, to: Terminal): void {
  if (flags.recordRequests === 'full' || place.isStream) return
  const looked = tapeFolderBeside(place.path)
  if (existsSync(looked) && realpathSync(looked) === realpathSync(folder)) return
  const beside = `requests will be looked for in ${looked}, and they are in ${folder}`
  tell(to, `${flags.out}: ${beside}: give it that tape's name, or say --record-requests full`)
}

function recordsOf(folder: string): string {
  return `${folder.replace(/\.tape\/?$/, '')}.jsonl`
}
