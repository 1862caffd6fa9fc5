/**
 * Whatever rolltape makes is its owner's alone, files and folders, whatever the umask says: a
 * recording over a rotation with sealed segments and others let go, frozen sessions, the control
 * socket, what --detach leaves, the sidecar of a replay, what export and derive write.
 */
import { chmodSync, readdirSync, statSync, watch } from 'node:fs'
import { basename, join, relative } from 'node:path'
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { rolltape } from '../cli/harness.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { startReplay } from '../support/replayer.ts'
import { talk, untilFolder } from '../support/segments.ts'

const FAKE = new URL('../cli/fake-serve.ts', import.meta.url).pathname
const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

/** Paths below a folder that somebody but their owner may use, and the names of all there are. */
function look(folder: string): { open: string[]; names: string[] } {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  const paths = entries.map(({ parentPath, name }) => join(parentPath, name))
  const open: string[] = []
  for (const path of paths) {
    // What is written beside its place may have its place by now.
    const mode = (statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o777
    if ((mode & 0o077) !== 0) open.push(`${mode.toString(8)} ${relative(folder, path)}`)
  }
  return { open, names: paths.map((path) => basename(path)) }
}

for (const umask of ['000', '022']) {
  t.test(`M27: umask ${umask}: nobody else may read or enter anything`, async (t) => {
    const before = process.umask(Number.parseInt(umask, 8))
    t.teardown(() => process.umask(before))
    const folder = makeFolder(t)
    // Others may look into the folder itself; what is made in it is what counts.
    chmodSync(folder, 0o777)
    const at = (path: string): string => join(folder, path)
    const run = async (...argv: string[]): Promise<void> => {
      const env = { ROLLTAPE_CONTROL: `unix:${at('c.sock')}` }
      const { code, stderr } = await rolltape(argv, { env, self: [process.execPath, FAKE] })
      if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
    }
    const recorder = await startRecorder(t, upstream.url, {
      recordingFile: at('deep/runs/a.jsonl'),
      control: `unix:${at('c.sock')}`,
      lanes: 1,
      segmentBytes: '64KiB',
      tapeRetain: '8KiB',
    })
    const seen = new Set<string>()
    const opened = new Set<string>()
    const note = (): void => {
      const { open, names } = look(folder)
      for (const name of names) seen.add(name)
      for (const path of open) opened.add(path)
    }
    const check = (what: string): void => {
      note()
      t.strictSame([...opened], [], what)
    }
    // A segment that is sealed may be let go before the next check.
    const watcher = watch(recorder.folder, note)
    t.teardown(() => watcher.close())
    await talk(recorder.url, 8)
    check('as it has begun')
    await run('ctl', 'rotate')
    await run('ctl', 'annotate', 'a', '--reward', '1')
    await run('ctl', 'close', 'a', '--freeze')
    await untilFolder(
      recorder.folder,
      (names) => !names.some((name) => name.startsWith('0-000001.tape')),
    )
    check('while it runs')
    await recorder.finish()
    watcher.close()

    await run('export', recorder.file, '--format', 'openai-chat', '--out', at('e.jsonl'))
    await run('derive', recorder.folder, '--out', at('d.jsonl'))
    const replay = await startReplay(t, at('d.jsonl'))
    await replay.close()
    const state = ['--state-file', at('state/s.json')]
    await run('serve', '--detach', ...state, '--proxy-base-url', 'http://a')
    check('what it leaves')
    await run('stop', ...state)
    const made = [...seen]
    for (const name of [
      'lock',
      'turns',
      'derived.json',
      'let-go.json',
      'hmac.key',
      'a.jsonl.index',
    ]) {
      t.ok(seen.has(name), name)
    }
    for (const name of ['a.000001.jsonl', 'a.annotations.jsonl', 'e.jsonl', 'd.jsonl', 's.log']) {
      t.ok(seen.has(name), name)
    }
    for (const name of ['c.sock', 's.json', 'deep', 'runs', 'a.tape', 'state']) {
      t.ok(seen.has(name), name)
    }
    t.ok(
      made.some((name) => name.endsWith('.tape.zst')),
      'sealed segments',
    )
  })
}
