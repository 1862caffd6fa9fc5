/**
 * `rolltape export`: a recording in another shape, for trainers and viewers. The same recording gives
 * the same bytes each time.
 */
import { Command, Option } from 'commander'

import { RolltapeError } from '../errors.ts'
import { ExportTally } from '../export/exporter.ts'
import { FORMATS, openExporter } from '../export/formats.ts'
import type { ExportFormat } from '../export/formats.ts'
import { ExportSource } from '../export/source.ts'
import type { Outcome } from '../trajectory/record.ts'
import { openOutput, outputPlace } from './output.ts'
import { withProgress } from './progress.ts'
import { EXIT, printable, tell, type Terminal } from './terminal.ts'

/** Flags of the command. */
interface ExportFlags {
  readonly format: ExportFormat
  readonly out: string
  readonly session?: string[]
  readonly outcome?: string[]
  readonly policyVersion?: string[]
  readonly aligned?: true
  readonly retries: 'keep' | 'drop'
}

const OUTCOMES: Readonly<Record<Outcome, true>> = {
  complete: true,
  truncated: true,
  client_gone: true,
  upstream_error: true,
  timeout: true,
  cancelled: true,
  refused: true,
  incomplete: true,
}

const HELP = `
Formats:
  samples      training sequences: token_ids, loss_mask, logprobs, policy versions; JSON lines
  parquet      the same as a table with typed columns
  openenv      turn lines, as OpenEnv's proxy writes them; rolltape replays them
  openai-chat  conversations with messages and tools; JSON lines
  sharegpt     conversations with from and value; JSON lines
  har          an HTTP Archive (1.2)

Examples:
  rolltape export runs/a.jsonl --out a.samples.jsonl
  rolltape export runs/a.jsonl --format parquet --out a.parquet --retries drop
  rolltape export runs/a.jsonl --session task-7 --policy-version step-12 | jq .token_ids
  rolltape export runs/a.jsonl --format openai-chat --outcome complete

What a sample is, and how calls become sequences: docs/training-data.md`

/** Makes the command. */
export function exportCommand(terminal: Terminal, finish: (code: number) => void): Command {
  return new Command('export')
    .summary('turn a recording into training data, or another format')
    .description('Turn a recording into training data, or another format')
    .argument('<recording>', 'a .jsonl; the parts that rotations closed before it belong to it')
    .addOption(
      new Option('--format <name>', 'what to write')
        .choices(Object.keys(FORMATS))
        .default('samples'),
    )
    .option('--out <file>', 'where to write it; - is stdout', '-')
    .option('--session <id>', 'only this session; repeat for several', gather)
    .addOption(
      new Option('--outcome <name,…>', 'only exchanges that ended so').argParser(gatherOutcomes),
    )
    .option(
      '--policy-version <version>',
      'only what was sampled wholly under this version; repeat for several',
      gather,
    )
    .option('--aligned', 'only exchanges of which every token has its id and log-prob')
    .addOption(
      new Option(
        '--retries <keep|drop>',
        'exchanges that the client asked again: linked, or left out',
      )
        .choices(['keep', 'drop'])
        .default('keep'),
    )
    .addHelpText('after', HELP)
    .action(async (path: string, flags: ExportFlags) => {
      finish(await exportTo(path, flags, terminal))
    })
}

function gather(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value]
}

function gatherOutcomes(value: string, before: string[] | undefined): string[] {
  const names = value.split(',').map((name) => name.trim())
  const unknown = names.find((name) => !Object.hasOwn(OUTCOMES, name))
  if (unknown === undefined) return [...(before ?? []), ...names]
  throw new RolltapeError('bad_option', `--outcome: '${unknown}' is no outcome`, {
    hint: `there are ${Object.keys(OUTCOMES).join(', ')}`,
  })
}

async function exportTo(path: string, flags: ExportFlags, terminal: Terminal): Promise<number> {
  const place = outputPlace(flags.out, { recording: path, records: 'kept' })
  if (flags.format === 'parquet' && flags.out === '-' && terminal.stdout.isTTY === true) {
    throw new RolltapeError('bad_option', 'a table in Parquet is nothing for a terminal', {
      hint: 'give --out FILE, or pipe it',
    })
  }
  const tally = new ExportTally()
  let sessions = 0
  await withProgress(terminal, async (told) => {
    const { stopping } = terminal
    const source = await ExportSource.open(path, filterOf(flags), { ...told, signal: stopping })
    const target = await openOutput(place, terminal).catch((error: unknown) => {
      source.close()
      throw error
    })
    try {
      const exporter = await openExporter(flags.format, target, tally)
      for (const session of source.sessions()) {
        await exporter.session(session)
        sessions++
        if (stopping.aborted) break
      }
      if (stopping.aborted) throw new RolltapeError('aborted', 'the export was interrupted')
      await exporter.end()
      await target.keep()
    } catch (error) {
      await target.drop()
      throw error
    } finally {
      source.close()
    }
  })
  const written = counted(tally.written, FORMATS[flags.format])
  tell(terminal, `${written} of ${counted(sessions, ['session', 'sessions'])}`)
  const filters = filtersOf(flags)
  if (sessions === 0 && filters !== '') {
    tell(terminal, `nothing was chosen: ${path} has no exchange for ${printable(filters)}`)
  }
  for (const [reason, count] of tally.leftOut) {
    tell(terminal, `left out: ${counted(count, ['exchange', 'exchanges'])} (${reason})`)
  }
  return EXIT.done
}

/** What chooses among the exchanges, as it was said; empty where nothing does. */
function filtersOf({ session = [], outcome = [], policyVersion = [], aligned }: ExportFlags) {
  return [
    ...session.map((id) => `--session ${id}`),
    ...(outcome.length === 0 ? [] : [`--outcome ${outcome.join(',')}`]),
    ...policyVersion.map((version) => `--policy-version ${version}`),
    ...(aligned === true ? ['--aligned'] : []),
  ].join(' ')
}

function counted(count: number, [one, several]: readonly [string, string]): string {
  return `${count} ${count === 1 ? one : several}`
}

function filterOf(flags: ExportFlags) {
  const { session, outcome, policyVersion, aligned, retries } = flags
  return {
    ...(session && { sessions: session }),
    ...(outcome && { outcomes: outcome }),
    ...(policyVersion && { policyVersions: policyVersion }),
    ...(aligned && { aligned }),
    dropRetried: retries === 'drop',
  }
}
