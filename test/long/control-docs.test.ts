/** Every line that docs/control.md shows is true: each grpcurl line as buf runs it, each ctl line. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { run } from '../../src/cli/program.ts'
import { ControlServiceService } from '../../src/control/gen/rolltape/control/v1/control.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { ROOT } from '../../tools/tree.ts'
import { ask, BUF, splitJson, startControlled, testWithBuf } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'

const PAGE = readFileSync(join(ROOT, 'docs/control.md'), 'utf8')
const LINES = [...PAGE.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, text = '']) =>
  text.trim().split('\n'),
)
const upstream = await startInferenceServer()
t.teardown(() => upstream.close())

const recorder = await startRecorder(t, upstream.url)
const ASKED = post('/sessions/task-7/v1/chat/completions', '{"model":"qwen3"}')
for (let turn = 0; turn < 2; turn++) await rawRequest(recorder.url, ASKED)
await recorder.finish()
const recording = (): RolltapeOptions => {
  return { proxyBaseUrl: upstream.url, recordingFile: join(makeFolder(t), 'a.jsonl') }
}
const records = await startControlled(t, recording())
/** The path that the page names leads to a recording that is there. */
const shown = (line: string): string => line.replace('runs/a.jsonl', recorder.file)
const replays = await startControlled(t, { replayFile: recorder.file })
for (const { url } of [records, replays]) await rawRequest(url, ASKED)
await ask(records.address, 'FlushRecording')

/** Where the call, or verb, of this name has something to work on. */
async function serverFor(t: Test, name: string): Promise<string> {
  if (/^explain/i.test(name)) return replays.address
  if (/^close/i.test(name)) return asked(t, recording())
  if (/cursor|seek|reset|fork/i.test(name)) return replays.address
  if (/^unload/i.test(name)) {
    const loaded = await startControlled(t, recording())
    await ask(loaded.address, 'LoadTape', { file: recorder.file })
    return loaded.address
  }
  if (/^shutdown/i.test(name)) return (await startControlled(t, recording())).address
  return records.address
}

/** Another one, of which a session has asked. */
async function asked(t: Test, options: RolltapeOptions): Promise<string> {
  const { address, url } = await startControlled(t, options)
  await rawRequest(url, ASKED)
  if (options.recordingFile !== undefined) await ask(address, 'FlushRecording')
  return address
}

t.test('each call of the service has a grpcurl line and a ctl line', async (t) => {
  const calls = Object.values(ControlServiceService).map(({ path }) => path.split('/')[2])
  const named = LINES.flatMap((line) => /^grpcurl .*ControlService\/(\w+)$/.exec(line)?.[1] ?? [])
  t.strictSame(named.toSorted(), calls.toSorted())
  t.equal(LINES.filter((line) => line.startsWith('rolltape ctl ')).length, calls.length)
})

for (const line of LINES.filter((each) => each.startsWith('grpcurl '))) {
  testWithBuf(`buf does what this says: ${line}`, async (t) => {
    const match = /^grpcurl -plaintext (?:-d '(.*)' )?127\.0\.0\.1:50051 (\S+\/(\w+))$/.exec(
      shown(line),
    )
    const [, data = '{}', path = '', call = ''] = match ?? []
    const address = await serverFor(t, call)
    const args = ['curl', '--protocol', 'grpc', '--http2-prior-knowledge', '--data', data]
    const child = execFile(BUF, [...args, `http://${address}/${path}`])
    let out = ''
    const [code] = await new Promise<[number | null]>((resolve) => {
      child.stdout?.on('data', (text: string) => {
        out += text
        // A stream has no end of its own.
        if (call === 'WatchExchanges') child.kill()
      })
      child.on('close', (ended) => resolve([ended]))
    })
    t.ok(code === 0 || call === 'WatchExchanges', `${code} ${out}`)
    t.ok(splitJson(out).length > 0)
  })
}

for (const line of LINES.filter((each) => each.startsWith('rolltape ctl '))) {
  testWithBuf(`and this: ${line}`, async (t) => {
    const [, verb = ''] = /^rolltape ctl (\w+)/.exec(line) ?? []
    if (verb === 'explain') {
      t.match(line, /< request\.json$/, 'it reads from stdin, which ctl.test.ts tries')
      return
    }
    const address = await serverFor(t, verb)
    const stopping = new AbortController()
    const argv = shown(line).split(' ').slice(1)
    let out = ''
    const code = await run({
      argv: [...argv, '--control', address],
      env: {},
      stopping: stopping.signal,
      self: [],
      stdout: {
        write: (text) => {
          out += String(text)
          // These have no end of their own.
          if (/ tail | --watch/.test(line)) stopping.abort()
        },
      },
      stderr: { write: (text) => t.fail(String(text)) },
    })
    t.equal(code, 0)
    t.match(out, /\w+\s+\w+/)
  })
}
