/** The lines of docs/control.md with grpcurl itself, where the machine has one. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ROOT } from '../../tools/tree.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { startControlled } from '../support/control.ts'
import { makeFolder } from '../support/recorder.ts'

const has = spawnSync('grpcurl', ['-version']).error === undefined

t.test(
  'grpcurl reads the service by reflection',
  {
    skip: has
      ? false
      : 'no grpcurl on this machine; test/long/control-docs.test.ts runs the lines with buf',
  },
  async (t) => {
    const upstream = await startInferenceServer()
    t.teardown(() => upstream.close())
    const recordingFile = join(makeFolder(t), 'a.jsonl')
    const { address } = await startControlled(t, { proxyBaseUrl: upstream.url, recordingFile })
    const listed = execFileSync('grpcurl', ['-plaintext', address, 'list'], { encoding: 'utf8' })
    t.match(listed, /rolltape\.control\.v1\.ControlService/)
    const page = readFileSync(join(ROOT, 'docs/control.md'), 'utf8')
    const unary = /^grpcurl -plaintext 127\.0\.0\.1:50051 (\S+\/(?:Get|List|Flush)\w+)$/gm
    const calls = [...page.matchAll(unary)].map(([, call = '']) => call)
    t.ok(calls.length > 2)
    for (const call of calls) {
      const answer = execFileSync('grpcurl', ['-plaintext', address, call], { encoding: 'utf8' })
      t.type(JSON.parse(answer), 'object', call)
    }
  },
)
