/**
 * The laws of the tree: who may import whom, what a file looks like, what no file holds. oxlint
 * holds some of them as well, where an editor shows them at once; here they hold for every import,
 * transitive ones included.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

import t from 'tap'

import { filesOf, ROOT, type SourceFile } from '../../tools/tree.ts'

const SOURCE = filesOf('src/**/*.ts', 'workers/*.ts')
const ALL = [...SOURCE, ...filesOf('test/**/*.ts', 'bench/**/*.ts', 'tools/**/*.ts')]
const BY_PATH = new Map(ALL.map((file) => [file.path, file]))

const LINES_MAX = 400

/** Files of tape/ that may touch the disk themselves, and why. */
const DISK_DOORS: Readonly<Record<string, string>> = {
  'src/tape/disk.ts': 'it is the door',
  'src/tape/lock.ts': 'it reads /proc, which no test of failing disks is about',
}

/** Install scripts that need not run, and why. */
const IDLE_SCRIPTS: Readonly<Record<string, string>> = {
  'node_modules/protobufjs': 'it only warns of a version range, in the package that asks for it',
}

/** Files that a generator has written are not looked at, but they are there. */
const isGenerated = (file: string) => /\/gen\//.test(file) && existsSync(join(ROOT, file))

const inFolder = (folder: string) => (file: SourceFile) => file.path.startsWith(folder)

/** Files that are loaded once `path` is, itself apart. */
function loadedBy(path: string, seen = new Set<string>()): Set<string> {
  for (const { file, typeOnly } of BY_PATH.get(path)?.imports ?? []) {
    if (file === undefined || typeOnly || seen.has(file)) continue
    seen.add(file)
    loadedBy(file, seen)
  }
  return seen
}

t.test('every import within the project leads to a file of it', async (t) => {
  const lost = ALL.flatMap(({ path, imports }) =>
    imports
      .filter(({ file }) => file?.endsWith('.ts') && !BY_PATH.has(file) && !isGenerated(file))
      .map(() => path),
  )
  t.strictSame(lost, [])
  t.ok(SOURCE.flatMap(({ imports }) => imports).length > SOURCE.length, 'imports are seen at all')
})

t.test('lane/ and tape/ know no protocol: nothing they load is of wire/', async (t) => {
  for (const { path } of [
    ...SOURCE.filter(inFolder('src/lane/')),
    ...SOURCE.filter(inFolder('src/tape/')),
  ]) {
    const wire = [...loadedBy(path)].filter((file) => file.startsWith('src/wire/'))
    t.strictSame(wire, [], path)
  }
})

t.test('wire/ is pure: of ours only types, of node only node:buffer', async (t) => {
  for (const { path, imports } of SOURCE.filter(inFolder('src/wire/'))) {
    const refused = imports.filter(
      ({ specifier, file, typeOnly }) =>
        !typeOnly &&
        (file === undefined
          ? specifier.startsWith('node:') && specifier !== 'node:buffer'
          : !file.startsWith('src/wire/')),
    )
    t.strictSame(refused, [], path)
  }
})

t.test('transforms/ is pure: of ours errors, bounds and itself, of node nothing', async (t) => {
  for (const { path, imports } of SOURCE.filter(inFolder('src/transforms/'))) {
    const allowed = /^src\/(?:transforms\/.*|errors\.ts|limits\.ts)$/
    const refused = imports.filter(({ file, typeOnly }) => !typeOnly && !allowed.test(file ?? ''))
    t.strictSame(refused, [], path)
  }
})

t.test('src names a worker only through workers.ts', async (t) => {
  for (const { path, code, imports } of SOURCE.filter(inFolder('src/'))) {
    if (path === 'src/workers.ts') continue
    t.notMatch(code, /['"`/]workers\//, path)
    if (!/new (?:Worker|Piscina)\(/.test(code)) continue
    t.ok(
      imports.some(({ file }) => file === 'src/workers.ts'),
      `${path} asks workers.ts for the file of its threads`,
    )
  }
})

t.test(
  'what a pool starts is imported, never required: ended meanwhile, it aborts all',
  async (t) => {
    // In a thread of its own, as nothing of the test runner loads modules there.
    const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    try { require(workerData) } catch (error) { parentPort.postMessage(error.code) }`
    for (const name of ['derive', 'play', 'replay-index']) {
      const file = join(ROOT, `workers/${name}.ts`)
      const [told] = await once(new Worker(code, { eval: true, workerData: file }), 'message')
      t.equal(told, 'ERR_REQUIRE_ASYNC_MODULE', name)
    }
  },
)

t.test('tape/ reaches the disk through disk.ts alone', async (t) => {
  for (const { path, imports } of SOURCE.filter(inFolder('src/tape/'))) {
    const fs = imports.filter(({ specifier }) => specifier.startsWith('node:fs'))
    t.equal(fs.length > 0, Object.hasOwn(DISK_DOORS, path), path)
  }
})

t.test('main.ts alone ends the process', async (t) => {
  for (const { path, code } of SOURCE) {
    t.equal(/\bprocess\.(?:exit|abort|reallyExit)\b/.test(code), path === 'src/main.ts', path)
  }
})

t.test('no file loads itself over others', async (t) => {
  const inCycle = ALL.filter(({ path }) => loadedBy(path).has(path)).map(({ path }) => path)
  t.strictSame(inCycle, [])
})

t.test('there are no barrels: a name is imported from where it is made', async (t) => {
  for (const { path, code, imports } of ALL) {
    t.notMatch(path, /(?:^|\/)index\.ts$/)
    t.notMatch(code, /^export \*/m, path)
    if (path === 'src/rolltape.ts') continue
    t.strictSame(
      imports.filter(({ isExport }) => isExport),
      [],
      `${path} hands nothing on`,
    )
  }
})

t.test('file names are nouns in kebab-case that say what is inside', async (t) => {
  for (const { path } of ALL) {
    t.match(path, /^(?:[a-z0-9]+(?:-[a-z0-9]+)*\/)+[a-z0-9]+(?:-[a-z0-9]+)*(?:\.test)?\.ts$/)
    t.notMatch(path, /(?:^|[/-])(?:utils?|commons?|helpers?|misc|shared-utils)(?:[/.-]|$)/)
  }
})

t.test(`a file begins with what it owns and has at most ${LINES_MAX} lines`, async (t) => {
  for (const { path, text, lines } of ALL) {
    t.match(text, /^(?:#!.*\n)?\/[/*]/, `${path} has a head comment`)
    t.ok(lines.length <= LINES_MAX, `${path} has ${lines.length} lines`)
  }
})

t.test('every exported name of src has a comment of its own', async (t) => {
  for (const { path, lines } of SOURCE.filter(inFolder('src/'))) {
    const bare = lines.filter((line, index) => {
      const declares = /^export (?!type \*|type \{|\{|\*)/.test(line)
      return declares && lines[index - 1]?.endsWith('*/') !== true
    })
    t.strictSame(bare, [], path)
  }
})

t.test('what should not stay in the code does not stand there', async (t) => {
  for (const { path, code, text } of ALL) {
    if (path === 'test/project/laws.test.ts') continue
    // Tests write scripts for other processes; what they do themselves oxlint sees.
    if (!path.startsWith('test/')) t.notMatch(code, /\bconsole\.\w+\(/, path)
    t.notMatch(text, /\b(?:TODO|FIXME|XXX|HACK)\b/, path)
    t.notMatch(code, /\bt(?:est)?\.(?:only|skip|todo)\(|\b(?:only|skip|todo): true/, path)
  }
})

t.test('no code is made of text, and only two commands start a process', async (t) => {
  for (const { path, code } of SOURCE) {
    t.notMatch(code, /\beval\(|\bnew Function\(|['"](?:node:)?vm['"]/, path)
    if (path === 'src/cli/run.ts' || path === 'src/cli/detach.ts') continue
    t.notMatch(code, /['"](?:node:)?child_process['"]/, path)
  }
})

t.test('no file tells of the machine it was written on, or of a registry', async (t) => {
  const told = filesOf('src/**/*', 'workers/*', 'docs/**/*', 'tools/**/*', '*.md', 'package*.json')
  for (const { path, text } of told) {
    t.notMatch(text, /(?<![\w.~])\/(?:home|root|Users|work)\/\w/, `${path}: an absolute home path`)
    t.notMatch(text, /"resolved": "(?:https?:)?\/\//, `${path}: where a package was fetched from`)
  }
  t.ok(
    told.some(({ path }) => path === 'package-lock.json'),
    ROOT,
  )
})

t.test('no package that is installed has to run a script for it', async (t) => {
  const [lock] = filesOf('package-lock.json')
  const { packages } = JSON.parse(lock!.text) as {
    packages: Record<string, { hasInstallScript?: boolean }>
  }
  t.ok(packages['node_modules/tap'])
  const scripted = Object.keys(packages).filter((path) => packages[path]?.hasInstallScript)
  t.strictSame(scripted, Object.keys(IDLE_SCRIPTS), 'npm ci --ignore-scripts is enough')
})

t.test('every error code is one that somebody meets', async (t) => {
  const table = BY_PATH.get('src/errors.ts')?.code ?? ''
  const codes = [...table.matchAll(/^ {2}(\w+): \d{3},$/gm)].map(([, code]) => code ?? '')
  t.ok(codes.length > 20)
  const elsewhere = SOURCE.filter(({ path }) => path !== 'src/errors.ts')
  const unused = codes.filter((code) => !elsewhere.some((file) => file.code.includes(`'${code}'`)))
  t.strictSame(unused, [])
})

t.test('every bound in limits.ts says what it bounds, and bounds something', async (t) => {
  const limits = BY_PATH.get('src/limits.ts')?.code ?? ''
  const names = [...limits.matchAll(/^export const (\w+)/gm)].map(([, name]) => name ?? '')
  t.ok(names.length > 20)
  const elsewhere = SOURCE.filter(({ path }) => path !== 'src/limits.ts')
  for (const name of names) {
    const word = new RegExp(`\\b${name}\\b`)
    t.ok(
      elsewhere.some(({ code }) => word.test(code)),
      `${name} is used`,
    )
    const again = elsewhere.filter(({ code }) => code.includes(`const ${name} =`))
    t.strictSame(
      again.map(({ path }) => path),
      [],
      `${name} exists once`,
    )
  }
})
