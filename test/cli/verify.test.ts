/**
 * `rolltape verify` and `rolltape derive` on a recording that was made by real traffic, a rotation
 * among it: what is whole is called whole, what is not is told, and the tape gives the records again.
 */
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { chunkOf, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { ControlClient } from '../support/control-client.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { ask } from '../support/replayer.ts'
import { rolltape } from './harness.ts'

const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const recorder = await startRecorder(t, upstream.url, { control: '127.0.0.1:0' })
for (const n of [1, 2, 3]) await ask(recorder.url, `turn ${n}`, { stream: n % 2 === 0 })
const control = new ControlClient(t, recorder.rolltape.controlAddress ?? '')
await control.call('RotateRecording')
await ask(recorder.url, 'late', { scenario: { status: 429 } })
await ask(recorder.url, 'later', { stream: true })
await recorder.finish()

/** A copy to be damaged; gives the path of its `.jsonl`. */
function copyOf(): string {
  const to = join(makeFolder(t), 'runs')
  cpSync(dirname(recorder.file), to, { recursive: true })
  return join(to, 'a.jsonl')
}

const tapeOf = (file: string): string => file.replace('.jsonl', '.tape')
const segmentOf = (file: string): string => {
  const [name = ''] = readdirSync(tapeOf(file)).filter((each) => each.endsWith('.tape'))
  return join(tapeOf(file), name)
}

interface Told {
  readonly whole: boolean
  readonly exchanges: number
  readonly records: number
  readonly torn: unknown[]
  readonly [name: string]: unknown
}

async function verify(path: string): Promise<Told & { code: number }> {
  const { code, stdout } = await rolltape(['verify', path, '--json'])
  return { ...(JSON.parse(stdout) as Told), code }
}

/** Lines of all parts, by `seq`. */
function linesOf(...files: string[]): string[] {
  const lines = files.flatMap((file) => readFileSync(file, 'utf8').trimEnd().split('\n'))
  const seqOf = (line: string): number => (JSON.parse(line) as { seq: number }).seq
  return lines.sort((a, b) => seqOf(a) - seqOf(b))
}

const parts = [recorder.file.replace('a.jsonl', 'a.000001.jsonl'), recorder.file]

t.test('a recording is whole, whichever way it is named', async (t) => {
  for (const path of [recorder.file, recorder.folder]) {
    const { whole, code, exchanges, records, torn, recorded_by: by } = await verify(path)
    t.strictSame(
      { whole, code, exchanges, records, torn, by },
      {
        whole: true,
        code: 0,
        exchanges: 5,
        records: 5,
        torn: [],
        by: null,
      },
    )
  }
  const { code, stdout } = await rolltape(['verify', recorder.file])
  t.equal(code, 0)
  t.match(stdout, /^5 exchanges in \d+ frames of 2 segments, .*; 5 records\n$/)
})

t.test('a byte that is another anywhere on the tape is told', async (t) => {
  const file = copyOf()
  const segment = segmentOf(file)
  const sound = readFileSync(segment)
  const step = Math.max(1, Math.floor(sound.length / 150))
  const unseen: number[] = []
  for (let at = 0; at < sound.length; at += step) {
    const bytes = Buffer.from(sound)
    bytes[at] = (bytes[at] ?? 0) ^ 0x10
    writeFileSync(segment, bytes)
    const { whole, torn, code } = await verify(file)
    if (whole && torn.length === 0) unseen.push(at)
    if (whole !== (code === 0)) t.fail(`${at}: whole is ${whole}, the exit code ${code}`)
  }
  t.strictSame(unseen, [])
})

t.test('a tail that was cut, or filled with zeros, is torn and no damage', async (t) => {
  for (const fill of [0, 3_000]) {
    const file = copyOf()
    const segments = readdirSync(tapeOf(file)).filter((name) => name.endsWith('.tape'))
    const path = join(tapeOf(file), segments.at(-1) ?? '')
    truncateSync(path, statSync(path).size - 7)
    if (fill > 0) appendFileSync(path, Buffer.alloc(fill))
    const { torn, open, whole } = await verify(file)
    t.match(torn, [{ segment: segments.at(-1), bytes: Number }])
    t.strictSame([open, whole], [[5], true], 'its END was in it')
  }
})

t.test('a segment that was begun and not written any more is torn, and no damage', async (t) => {
  for (const bytes of [0, 5_000]) {
    const file = copyOf()
    writeFileSync(join(tapeOf(file), '0-000003.tape'), Buffer.alloc(bytes))
    const { torn, whole, code } = await verify(file)
    t.strictSame(
      { torn, whole, code },
      {
        torn: [{ segment: '0-000003.tape', offset: 0, bytes }],
        whole: true,
        code: 0,
      },
    )
  }
})

t.test('records that are missing, double, changed or without exchange are told', async (t) => {
  const without = copyOf()
  rmSync(without)
  t.match(await verify(without.replace('.jsonl', '.tape')), {
    code: 1,
    without_record: [1, 2, 3, 4, 5],
  })
  const cut = copyOf()
  truncateSync(cut, readFileSync(cut).indexOf('\n') + 30)
  const told = await verify(cut)
  t.match(told, { code: 1, torn_lines: 1, without_record: { length: 1 } })
  t.match(
    (await rolltape(['verify', cut])).stdout,
    /no record \(after a crash the next start on this/,
  )
  const doubled = copyOf()
  copyFileSync(parts[0] ?? '', doubled)
  t.match(await verify(doubled), { code: 1, doubled: [1, 2, 3], without_record: [4, 5] })
  const changed = copyOf()
  const text = readFileSync(changed, 'utf8')
  writeFileSync(changed, text.replace(/"sha256":\{"request":"./, '"sha256":{"request":"x'))
  t.match(await verify(changed), { code: 1, differing: { length: 1 } })
  const foreign = copyOf()
  const [line = ''] = linesOf(foreign)
  appendFileSync(foreign, `${line.replace(/"seq":\d+/, '"seq":99')}\n`)
  t.match(await verify(foreign), { code: 1, without_exchange: [99] })
})

t.test('a segment that is missing, or no tape, is told', async (t) => {
  const file = copyOf()
  const first = segmentOf(file)
  const third = first.replace('0-000001', '0-000009')
  copyFileSync(first, third)
  t.match(await verify(file), { code: 1, missing_segments: { length: 6 } })
  rmSync(third)
  writeFileSync(first, 'no tape')
  const { stdout } = await rolltape(['verify', file])
  t.match(stdout, /DAMAGE .*0-000001\.tape does not begin with a sound segment header/)
})

t.test('derive makes the very lines that were written', async (t) => {
  const out = join(makeFolder(t), 'again.jsonl')
  const { code, stderr } = await rolltape(['derive', recorder.folder, '--out', out])
  t.strictSame([code, stderr], [0, ''])
  t.strictSame(readFileSync(out, 'utf8').trimEnd().split('\n'), linesOf(...parts))
  const again = await rolltape(['derive', recorder.folder, '--out', out])
  t.equal(again.code, 2)
  t.match(again.stderr, /is there already \(choose another file, or say --force/)
  t.equal((await rolltape(['derive', recorder.file, '--out', out, '--force'])).code, 0)
  const { stdout } = await rolltape(['derive', recorder.file, '--out', '-'])
  t.strictSame(stdout.trimEnd().split('\n'), linesOf(...parts))
})

t.test('what cannot be read is left out, told, and nothing is half written', async (t) => {
  const file = copyOf()
  const segment = segmentOf(file)
  const bytes = readFileSync(segment)
  const at = bytes.indexOf('turn 2')
  bytes[at] = (bytes[at] ?? 0) ^ 1
  writeFileSync(segment, bytes)
  const out = join(dirname(file), 'again.jsonl')
  const { code, stderr } = await rolltape(['derive', file, '--out', out])
  t.equal(code, 1)
  t.match(stderr, /no sound frame[^]*\n1 exchanges cannot be read, and are left out\n$/)
  t.equal(linesOf(out).length, 4)
  const stopping = AbortSignal.abort()
  const stopped = await rolltape(['derive', file, '--out', `${out}.2`], { stopping })
  t.equal(stopped.code, 1)
  t.notOk(existsSync(`${out}.2`))
  t.strictSame(
    readdirSync(dirname(file)).filter((name) => name.endsWith('.part')),
    [],
  )
  mkdirSync(join(dirname(file), 'folder'))
  const odd = await rolltape(['derive', file, '--out', join(dirname(file), 'none', 'x.jsonl')])
  t.match([odd.code, odd.stderr], [2, /--out .*ENOENT/])
})

t.test(
  'a file that is there is replaced from a damaged tape only where that is said',
  async (t) => {
    for (const [harm, told] of [
      [(bytes: Buffer) => bytes.fill(0, 0, 4), /DAMAGE .*0-000001.tape does not begin with/],
      [
        (bytes: Buffer) => bytes.fill(0, 900, 3_900),
        /DAMAGE no sound frame: \d+ bytes from \d+ in/,
      ],
    ] as const) {
      const file = copyOf()
      const segment = segmentOf(file)
      const good = readFileSync(file)
      const bytes = readFileSync(segment)
      harm(bytes)
      writeFileSync(segment, bytes)
      const argv = ['derive', tapeOf(file), '--out', file, '--force']
      const kept = await rolltape(argv)
      t.match(kept, { code: 1, stderr: told })
      t.match(
        kept.stderr,
        `${file} stays as it was: the tape is damaged (choose another file, or say`,
      )
      t.strictSame([readFileSync(file), kept.code], [good, 1])
      const other = await rolltape(['derive', tapeOf(file), '--out', `${file}.new`])
      t.match(other, { code: 1, stderr: told }, 'what is left goes into a new file')
      t.match(await rolltape([...argv, '--partial']), { code: 1, stderr: told })
      t.strictSame(readFileSync(file), readFileSync(`${file}.new`))
    }
  },
)

t.test('a torn tail is told by derive, and hinders nothing', async (t) => {
  const file = copyOf()
  const [last = ''] = readdirSync(tapeOf(file))
    .filter((name) => name.endsWith('.tape'))
    .slice(-1)
  const path = join(tapeOf(file), last)
  truncateSync(path, statSync(path).size - 7)
  const { code, stderr } = await rolltape(['derive', tapeOf(file), '--out', file, '--force'])
  t.equal(code, 0)
  t.match(stderr, /^torn by a crash: \d+ bytes from \d+ in 0-000002.tape\n$/)
})

t.test('while it is recorded, exchanges that run are open and their records no loss', async (t) => {
  const slow = await startScriptedUpstream((x) =>
    x.send(responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']]), chunkOf('part')),
  )
  t.teardown(() => slow.close())
  const live = await startRecorder(t, slow.url, { drainTimeout: 0 })
  const client = await RawClient.open(live.url)
  client.send(post('/v1/chat/completions', '{}'))
  await client.until((bytes) => bytes.includes('part'))
  // Nobody waits for what stands before the answer to be written: it may take a moment more.
  let told = await verify(live.file)
  while (told.exchanges < 1) told = await verify(live.file)
  t.match(told, { code: 0, whole: true, exchanges: 1, open: [1], recorded_by: /process \d+ runs/ })
  const out = join(makeFolder(t), 'b.jsonl')
  const { stderr } = await rolltape(['derive', live.folder, '--out', out])
  t.match(stderr, /being recorded \(process \d+ runs\): 1 open exchanges are left out/)
  t.equal(readFileSync(out, 'utf8'), '')
  const over = await rolltape(['derive', live.folder, '--out', live.file, '--force'])
  t.match([over.code, over.stderr], [1, /is being recorded/])
  client.close()
})
