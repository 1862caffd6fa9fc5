/** The responder of the documentation, run by Debian's grpcio: what users copy works. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BinaryReader } from '@bufbuild/protobuf/wire'
import OpenAI from 'openai'
import t from 'tap'
import { FILE_DESCRIPTOR_SET } from '../../src/control/gen/descriptor.ts'
import { startControlled } from '../support/control.ts'
import { makeFolder } from '../support/recorder.ts'

const PYTHON = '/usr/bin/python3'
const SCRIPT = new URL('../../docs/responder.py', import.meta.url).pathname
const MODULE = 'rolltape/responder/v1/responder'

const hasGrpc = spawnSync(PYTHON, ['-c', 'import grpc, google.protobuf']).status === 0
const skip = !hasGrpc && 'python3-grpcio and python3-protobuf are not here'

/** What protoc would write: it is not here, so its module is made from the descriptors we have. */
function pythonModule(): string {
  const reader = new BinaryReader(FILE_DESCRIPTOR_SET)
  let found: Buffer | undefined
  while (reader.pos < reader.len) {
    reader.tag()
    const file = Buffer.from(reader.bytes())
    // Field 1 of a file is its name.
    if (file.subarray(2, 2 + (file[1] ?? 0)).toString() === `${MODULE}.proto`) found = file
  }
  return `
import base64
from google.protobuf import descriptor_pool, timestamp_pb2
from google.protobuf.internal import builder
DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(base64.b64decode("${found!.toString('base64')}"))
builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, globals())
builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "responder_pb2", globals())
`
}

t.test('R39: the example answers the SDK, whole and streamed', { skip }, async (t) => {
  const { url, address } = await startControlled(t, { proxyBaseUrl: 'responder:' })
  const folder = makeFolder(t)
  mkdirSync(join(folder, 'rolltape/responder/v1'), { recursive: true })
  writeFileSync(join(folder, `${MODULE}_pb2.py`), pythonModule())
  const env = { ...process.env, PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1' }
  const child = spawn(PYTHON, [SCRIPT, address], { env, stdio: ['ignore', 'inherit', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk', maxRetries: 0 })
  const content = `Hi ${'x'.repeat(3 * 2 ** 20)}`
  const asked = { model: 'policy', messages: [{ role: 'user' as const, content }] }
  const whole = await openai.chat.completions.create(asked)
  t.ok(whole.choices[0]?.message.content === `You said: ${content}`, 'a body of several messages')
  let text = ''
  const short = { ...asked, messages: [{ role: 'user' as const, content: 'Hi' }] }
  for await (const chunk of await openai.chat.completions.create({ ...short, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? ''
  }
  t.equal(text, 'You said: Hi')
  await t.rejects(openai.chat.completions.create({ ...short, messages: [] }), {
    status: 502,
    code: 'responder_failed',
  })
  t.equal(stderr, '')
})
