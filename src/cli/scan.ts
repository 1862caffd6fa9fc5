/**
 * `rolltape scan`: credentials that slipped into a recording. Headers and queries are redacted before
 * the tape; bodies are not, and agents do paste keys into prompts and tool results.
 */
import { existsSync, statSync } from 'node:fs'
import { Command } from 'commander'
import { RolltapeError } from '../errors.ts'
import type { Finding } from '../scan/secrets.ts'
import { textsIn } from '../scan/texts.ts'
import { gatherAll } from '../tape/check.ts'
import type { TapedExchange } from '../tape/exchange.ts'
import { deriveRecord } from '../trajectory/derive.ts'
import { withProgress, type ReadingTold } from './progress.ts'
import { openRecords } from './source.ts'
import { Table } from './table.ts'
import { breathe, framesOf } from './tape-reading.ts'
import { EXIT, printable, say, tell, type Terminal } from './terminal.ts'

const FINDINGS = new Table([
  { title: 'SEQ', width: 8, align: 'right' },
  { title: 'SESSION', width: 20 },
  { title: 'KIND', width: 16 },
  { title: 'STARTS', width: 7 },
  { title: 'CHARS', width: 6, align: 'right' },
  { title: 'WHERE', width: 40 },
])

const HELP = `
Of a .jsonl the records are searched, with the parts closed before it; of a tape folder also the
headers and targets. Found are keys whose shape tells what they are (clouds, model providers, forges,
private keys), and values that are named as secrets and look random. Log-probs and token ids are left
out. No key is shown whole. Exit code 1 when something was found.

  rolltape scan runs/a.jsonl --json | jq -r '[.seq, .kind, .pointer] | @tsv'`

/** Makes the command. */
export function scanCommand(terminal: Terminal, finish: (code: number) => void): Command {
  return new Command('scan')
    .summary('find credentials that slipped into a recording')
    .description('Find credentials that slipped into a recording')
    .argument('<recording>', 'a .jsonl, or a tape folder')
    .option('--json', 'one JSON object per finding, for scripts')
    .addHelpText('after', HELP)
    .action(async (path: string, { json }: { json?: boolean }) => {
      finish(await scan(path, json === true, terminal))
    })
}

/** What is searched at once: one exchange. */
interface Searched {
  readonly seq: number | null
  readonly session: string
  readonly value: unknown
}

async function scan(path: string, json: boolean, terminal: Terminal): Promise<number> {
  if (!existsSync(path)) {
    throw new RolltapeError('not_found', `${path}: no such file`, {
      hint: 'give a .jsonl, or the tape folder beside it',
    })
  }
  // Its rules take a while to load, so that is done only for those who need them.
  const { findSecrets } = await import('../scan/secrets.ts')
  let findings = 0
  let searched = 0
  await withProgress(terminal, async (told) => {
    const isTape = statSync(path).isDirectory()
    const source = isTape ? ofTape(path, terminal, told) : ofRecords(path, terminal, told)
    for await (const one of source) {
      searched++
      for (const finding of await findSecrets([...textsIn(one.value)])) {
        if (!json && findings === 0) say(terminal, FINDINGS.header())
        findings++
        say(terminal, json ? JSON.stringify(jsonOf(one, finding)) : rowOf(one, finding))
      }
    }
    // What was not searched may hold one.
    await breathe(terminal.stopping)
  })
  const what = findings === 0 ? 'no credential was found' : `${findings} credentials were found`
  tell(terminal, `${searched} exchanges searched; ${what}`)
  return findings === 0 ? EXIT.done : EXIT.failed
}

async function* ofRecords(
  path: string,
  { stopping }: Terminal,
  told: ReadingTold,
): AsyncGenerator<Searched> {
  for await (const record of openRecords(path, { parts: true, signal: stopping, ...told })) {
    yield { seq: record.seq ?? null, session: record.session ?? 'default', value: record }
  }
}

async function* ofTape(
  folder: string,
  { stopping }: Terminal,
  { onProgress, onTrouble }: ReadingTold,
): AsyncGenerator<Searched> {
  const { last } = await framesOf(folder, stopping, { onProgress })
  let done = 0
  for (const one of gatherAll(folder, last)) {
    if ('why' in one) onTrouble(one.why)
    else yield searchedOf(one.exchange)
    onProgress(++done, last.size)
    await breathe(stopping)
  }
}

function searchedOf(exchange: TapedExchange): Searched {
  const { begin, head, trailers } = exchange
  const record = JSON.parse(deriveRecord(exchange).line.toString('utf8')) as object
  const headers = {
    target: begin.target,
    request_headers: membersOf(begin.headers),
    response_headers: membersOf([...(head?.headers ?? []), ...trailers]),
  }
  return { seq: begin.seq, session: begin.session, value: { ...headers, ...record } }
}

function membersOf(pairs: TapedExchange['trailers']): Record<string, string[]> {
  const members: Record<string, string[]> = {}
  for (const [name, value] of pairs) (members[name] ??= []).push(value)
  return members
}

function rowOf({ seq, session }: Searched, { pointer, kind, shown, chars }: Finding): string {
  const cells = [String(seq ?? '-'), session, kind, shown, String(chars), pointer]
  return FINDINGS.row(cells.map(printable))
}

function jsonOf({ seq, session }: Searched, { pointer, kind, shown, chars }: Finding): object {
  return { seq, session, kind, starts: shown, chars, pointer }
}
