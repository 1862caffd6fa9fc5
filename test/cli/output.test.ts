/**
 * Where `--out` leads, of `export` and `derive` alike: an output never takes the place of what it is
 * made from, and what is no regular file stays what it is.
 */
import { spawn, spawnSync } from 'node:child_process'
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { makeFolder } from '../support/recorder.ts'
import { jsonl, recordOf, rolltape } from './harness.ts'
import { sketchSegment } from './tape.ts'

const CHUNKS = [[1, 'data: {"id":"c","choices":[]}\n\ndata: [DONE]\n\n']] as const
const { bytes: SEGMENT } = sketchSegment([
  { seq: 1, session: 'a', request: '{"model":"m"}', chunks: CHUNKS, ended: true },
])

/** A folder with a recording in it, all that may stand beside it, and another tape. */
function recording(t: Test): string {
  const folder = realpathSync(makeFolder(t))
  for (const tape of ['a.tape', 'b.tape']) {
    mkdirSync(join(folder, tape))
    writeFileSync(join(folder, tape, '0-000001.tape'), SEGMENT)
  }
  writeFileSync(join(folder, 'a.jsonl'), jsonl([recordOf(1)]))
  writeFileSync(join(folder, 'a.000001.jsonl'), jsonl([recordOf(2)]))
  writeFileSync(join(folder, 'a.jsonl.index'), 'index')
  writeFileSync(join(folder, 'a.annotations.jsonl'), '')
  symlinkSync('a.tape/0-000001.tape', join(folder, 'link'))
  symlinkSync('a.tape', join(folder, 'folder'))
  return folder
}

/** Every file below a folder with its bytes. */
function contentOf(folder: string): [string, string][] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => [path, readFileSync(path, 'latin1')])
}

const OWN = [
  'a.tape/0-000001.tape',
  'a.tape/new.json',
  'folder/lock',
  'link',
  'b.tape/new.json',
  'a.jsonl.index',
  'a.000001.jsonl.index',
  'a.annotations.jsonl',
]

for (const [command, source, names] of [
  ['export', 'a.jsonl', [...OWN, 'a.jsonl', 'a.000001.jsonl', 'a.000002.jsonl']],
  ['derive', 'a.tape', OWN],
] as const) {
  t.test(`${command} writes over no file of its recording, nor into a tape`, async (t) => {
    const folder = recording(t)
    const before = contentOf(folder)
    const force = command === 'derive' ? ['--force'] : []
    for (const name of names) {
      const out = join(folder, name)
      const argv = [command, join(folder, source), '--out', out, ...force]
      const { code, stderr } = await rolltape(argv)
      t.equal(code, 2, name)
      t.match(stderr, `--out ${out} is `)
      t.match(stderr, /of the recording itself|among the segments of a tape/)
    }
    t.strictSame(contentOf(folder), before)
  })

  const argvOf = (folder: string, out: string) => [command, join(folder, source), '--out', out]

  t.test(`${command} follows links, to what is there and to what is not`, async (t) => {
    const folder = recording(t)
    mkdirSync(join(folder, 'far'))
    symlinkSync('far/out.jsonl', join(folder, 'soft'))
    symlinkSync('soft', join(folder, 'softer'))
    const force = command === 'derive' ? ['--force'] : []
    for (let n = 0; n < 2; n++) {
      const argv = [...argvOf(folder, join(folder, 'softer')), ...force]
      t.match(await rolltape(argv), { code: 0 })
      for (const name of ['soft', 'softer']) {
        t.ok(lstatSync(join(folder, name)).isSymbolicLink())
      }
      t.strictSame(readdirSync(join(folder, 'far')), ['out.jsonl'])
    }
    symlinkSync('round', join(folder, 'round'))
    t.match(await rolltape(argvOf(folder, join(folder, 'round'))), { code: 2 })
  })

  t.test(`${command} writes into a pipe and a device, and leaves them as they are`, async (t) => {
    const folder = recording(t)
    const pipe = join(folder, 'pipe')
    t.equal(spawnSync('mkfifo', [pipe]).status, 0)
    const written = rolltape(argvOf(folder, pipe))
    const reader = spawn('cat', [pipe])
    t.teardown(() => reader.kill())
    const [{ code }, got] = await Promise.all([written, text(reader.stdout)])
    const { stdout } = await rolltape(argvOf(folder, '-'))
    t.strictSame([code, got], [0, stdout])
    t.ok(lstatSync(pipe).isFIFO())
    t.match(await rolltape(argvOf(folder, '/dev/null')), { code: 0 })
    t.ok(lstatSync('/dev/null').isCharacterDevice())
    const stopping = AbortSignal.abort()
    t.match(await rolltape(argvOf(folder, pipe), { stopping }), { code: 1, stderr: /nobody reads/ })
  })

  t.test(`${command} tells a place that cannot be, by the name it was given`, async (t) => {
    const folder = recording(t)
    mkdirSync(join(folder, 'far'))
    for (const [out, why] of [
      [join(folder, 'none', 'x'), 'cannot be written: ENOENT: no such file or directory'],
      [join(folder, 'far'), 'is a folder'],
      [`${folder}/x/`, 'is a folder'],
    ] as const) {
      const { code, stderr } = await rolltape(argvOf(folder, out))
      t.equal(code, 2)
      t.match(stderr, `rolltape: --out ${out} ${why}`)
    }
    const out = join(folder, 'out')
    writeFileSync(join(folder, 'mine'), 'mine')
    linkSync(join(folder, 'mine'), `${out}.${process.pid}.part`)
    t.match(await rolltape(argvOf(folder, out)), { code: 2, stderr: /EEXIST/ })
    t.equal(readFileSync(join(folder, 'mine'), 'utf8'), 'mine', 'what others write is left alone')
  })
}
