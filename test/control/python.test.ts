/** The control API called from Python, by Debian's grpcio: nothing of ours on the caller's side. */
import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { startControlled } from '../support/control.ts'
import { makeFolder } from '../support/recorder.ts'

const PYTHON = '/usr/bin/python3'
const SCRIPT = new URL('python-client.py', import.meta.url).pathname

const hasGrpc = spawnSync(PYTHON, ['-c', 'import grpc']).status === 0
const skip = !hasGrpc && 'python3-grpcio is not here'

t.test('each call, its happy path or its refusal', { skip }, async (t) => {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  const options = { proxyBaseUrl: 'http://127.0.0.1:9', recordingFile }
  const { address, rolltape } = await startControlled(t, options)
  const { stdout } = await promisify(execFile)(PYTHON, [SCRIPT, address])
  t.strictSame(stdout.trim().split('\n'), [
    'Check True',
    'GetStatus True',
    'GetConfig True',
    'FlushRecording True',
    'ListUpstreams True',
    'ListUpstreams INVALID_ARGUMENT: page_size is -1, and a page has 0 or more entries',
    'ListUpstreams INVALID_ARGUMENT: page_token is none that this call has given',
    'ExplainRequest FAILED_PRECONDITION: mode is record, and nothing is replayed (start rolltape with --replay-file)',
    'ReloadConfig True',
    'SetMode True',
    'SetMode INVALID_ARGUMENT: mode is unspecified; say which',
    'SetMode ABORTED: generation 7 is expected, and it is 2 (somebody else has switched; look at the status and decide anew)',
    'LoadTape NOT_FOUND',
    'UnloadTape FAILED_PRECONDITION',
    'RotateRecording True',
    'SetPolicyVersion True',
    'PauseAdmission True',
    'PauseAdmission INVALID_ARGUMENT: policy is unspecified; say which',
    'PauseAdmission True',
    'ResumeAdmission True',
    'ResumeAdmission NOT_FOUND',
    'WatchExchanges True',
    'NoSuch UNIMPLEMENTED',
    'Shutdown True',
  ])
  t.match(await rolltape.closed, { cut: 0, trouble: null })
})
