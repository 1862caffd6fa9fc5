/**
 * What a user installs: the package is built and packed from a copy of the sources, installed from
 * its tarball into an empty project, run from there with all its workers, and type-checked against.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

import t from 'tap'

import { ROOT } from '../../tools/tree.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { makeFolder, recordsOf } from '../support/recorder.ts'

/** npm has to fetch what the package depends on. */
t.setTimeout(290_000)

const SOURCES = [
  'src',
  'workers',
  'docs',
  'proto',
  'README.md',
  'CHANGELOG.md',
  'LICENSE',
  'package.json',
]

/** Must not be packed, though it lies around. */
const LITTER = ['runs/a.jsonl', 'test/a.test.ts', '.env', 'bench/a.ts', 'tools/a.ts']

const CONSUMER = `
import { readRecords, startRolltape, RolltapeError } from 'rolltape'
import type { ExchangeRecord, Outcome, Rolltape, RolltapeOptions, StoredRecord } from 'rolltape'

const options: RolltapeOptions = { port: 0, proxyBaseUrl: process.argv[2] ?? '', logLevel: 'error' }
const rolltape: Rolltape = await startRolltape({ ...options, recordingFile: 'library.jsonl' })
const answer = await fetch(rolltape.url + '/v1/models')
if (!answer.ok) throw new RolltapeError('internal_error', await answer.text())
const { records, trouble } = await rolltape.close()
for await (const record of readRecords('library.jsonl')) {
  const stored: StoredRecord = record
  const outcome: Outcome | undefined = stored.outcome
  const tokens: ExchangeRecord['tokens'] | undefined = stored.tokens
  process.stdout.write(JSON.stringify({ records, trouble, outcome, tokens, path: stored.path }))
}
// @ts-expect-error -- a misspelt option is an error already in the editor
void ({ recordngFile: 'a' } satisfies RolltapeOptions)
`

const env = {
  ...process.env,
  PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter),
}

/** As in a user's shell: the test runner gives every process it starts its own hooks. */
const SHELL = ['-u', 'NODE_OPTIONS'] as const

async function run(cwd: string, ...command: string[]): Promise<string> {
  const options = { cwd, env, maxBuffer: 2 ** 26 }
  return (await promisify(execFile)('env', [...SHELL, ...command], options)).stdout
}

t.test('the package that users install is whole, and works with all its threads', async (t) => {
  const folder = makeFolder(t)
  const [source, home] = [join(folder, 'source'), join(folder, 'home')]
  for (const name of [...SOURCES, 'tsconfig.json', 'tsconfig.build.json']) {
    cpSync(join(ROOT, name), join(source, name), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(source, 'node_modules'))
  for (const name of LITTER) {
    mkdirSync(dirname(join(source, name)), { recursive: true })
    writeFileSync(join(source, name), '')
  }

  await run(source, 'npm', 'run', 'build')
  const [packed] = JSON.parse(await run(source, 'npm', 'pack', '--json')) as [
    { filename: string; files: { path: string }[] },
  ]
  const paths = packed.files.map(({ path }) => path)
  t.strictSame(
    [...new Set(paths.map((path) => path.split('/')[0]))].sort(),
    ['CHANGELOG.md', 'LICENSE', 'README.md', 'dist', 'docs', 'package.json', 'proto'].sort(),
  )
  for (const name of ['src/main.js', 'src/rolltape.d.ts', 'workers/lane.js', 'workers/derive.js']) {
    t.ok(paths.includes(`dist/${name}`), name)
  }
  t.ok(paths.includes('proto/rolltape/control/v1/control.proto'))
  t.notOk(
    paths.some((path) => /\.test\.|(?<!\.d)\.ts$/.test(path)),
    'no tests, no sources',
  )

  mkdirSync(home)
  writeFileSync(join(home, 'package.json'), '{"name":"home","private":true,"type":"module"}')
  const tarball = join(source, packed.filename)
  await run(home, 'npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', tarball)
  const rolltape = join(home, 'node_modules', '.bin', 'rolltape')
  t.match(await run(home, rolltape, '--version'), /^\d+\.\d+\.\d+\n$/)
  t.match(await run(home, rolltape, 'demo'), /\nall held, in [\d.]+ s\n$/)

  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const flags = ['--port', '0', '--control', '127.0.0.1:0', '--proxy-base-url', upstream.url]
  flags.push('--recording-file', 'a.jsonl')
  const child = spawn('env', [...SHELL, rolltape, 'serve', ...flags], {
    cwd: home,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const ctl = [rolltape, 'ctl', 'status', '--json', '--control', line.split(' ')[5] ?? '']
  t.match(JSON.parse(await run(home, ...ctl)), { mode: 'MODE_RECORD', lanes: [{ lane: 0 }] })
  const body = { model: 'demo', stream: true, messages: [{ role: 'user', content: 'Hi' }] }
  const answer = await fetch(`${line.split(' ')[3]}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify(body),
  })
  t.match(await answer.text(), /\[DONE\]/)
  child.kill('SIGTERM')
  t.strictSame(await once(child, 'exit'), [0, null])
  t.match(await recordsOf(join(home, 'a.jsonl')), [{ outcome: 'complete', request: body }])

  writeFileSync(join(home, 'consumer.ts'), CONSUMER)
  // Node's types are what a dependency of gRPC brings along.
  t.ok(existsSync(join(home, 'node_modules', '@types', 'node')))
  const strict = ['--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', 'false']
  const shape = ['--module', 'nodenext', '--target', 'es2024', '--types', 'node', '--noEmit']
  await run(home, join(ROOT, 'node_modules', '.bin', 'tsc'), ...strict, ...shape, 'consumer.ts')
  const printed = await run(home, process.execPath, 'consumer.ts', upstream.url)
  t.match(JSON.parse(printed), {
    records: 1,
    trouble: null,
    outcome: 'complete',
    path: '/v1/models',
  })
})

t.test('npm start hands signals on: rolltape itself ends, with its own exit code', async (t) => {
  const recording = join(makeFolder(t), 'a.jsonl')
  const flags = [
    '--port',
    '0',
    '--control',
    'off',
    '--proxy-base-url',
    'http://127.0.0.1:9',
    '--recording-file',
    recording,
  ]
  const child = spawn('npm', ['--silent', 'start', '--', 'serve', ...flags], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  child.kill('SIGTERM')
  t.strictSame(await once(child, 'exit'), [0, null])
  await t.rejects(fetch(`${line.split(' ')[3]}/readyz`))
  t.notOk(existsSync(recording.replace('.jsonl', '.tape/lock')), 'the recording is closed')
})
