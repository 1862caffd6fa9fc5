/**
 * Every field of every call, one at a time, with values that nobody wants: a status that says what
 * is wrong, or OK; never a fault of the server's own, and the server goes on.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { status as STATUS } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import t from 'tap'
import { ROOT } from '../../tools/tree.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { ControlClient, encode } from '../support/control-client.ts'
import type { Sent } from '../support/control-client.ts'
import { startControlled } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'

type Sendable = number | Buffer | string

interface Field {
  readonly name: string
  readonly number: number
  readonly type: string
}

interface Rpc {
  readonly path: string
  readonly request: string
  readonly streams: boolean
}

const PROTOS = ['control', 'trajectory', 'responder'].map((name) =>
  readFileSync(join(ROOT, `proto/rolltape/${name}/v1/${name}.proto`), 'utf8').replaceAll(
    /\/\/.*/g,
    '',
  ),
)
const SECONDS_AND_NANOS: Field[] = [
  { name: 'seconds', number: 1, type: 'int64' },
  { name: 'nanos', number: 2, type: 'int32' },
]
const TEXTS = [
  [
    '',
    ' ',
    '\0',
    '../../etc/passwd',
    '/etc/passwd',
    '/dev/zero',
    '.',
    '🦊\u202e',
    '%00',
    '{',
    '[1',
  ],
  ['x'.repeat(100_000), 'a/b/c', '-1', '$(id)', 'null', '{"__proto__":{"polluted":true}}'],
].flat()
const NUMBERS = [-1, 1, 255, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1, -(2 ** 53 - 1)]

/** Fields of all messages, by the message's name. */
function messages(): Map<string, Field[]> {
  const found = new Map<string, Field[]>()
  found.set('google.protobuf.Duration', SECONDS_AND_NANOS)
  found.set('google.protobuf.Timestamp', SECONDS_AND_NANOS)
  const line = /(?:repeated |optional )?([\w.]+|map<\w+, ?\w+>) (\w+) = (\d+)(?: \[[^\]]*\])?;/g
  for (const proto of PROTOS) {
    // What stands inside a nested message counts for the outer one too: those numbers are sent as well.
    for (const [, name = '', body = ''] of proto.matchAll(/message (\w+) \{([^]*?)\n\}/g)) {
      const fields = [...body.matchAll(line)].map(([, type = '', field = '', number]) => {
        return { name: field, number: Number(number), type }
      })
      found.set(name, fields)
    }
  }
  return found
}

function rpcs(): Rpc[] {
  const line = /rpc (\w+)\((stream )?(\w+)\) returns \((stream )?\w+\)/g
  return PROTOS.flatMap((proto) => {
    const [, pack = ''] = /package ([\w.]+);/.exec(proto) ?? []
    const [, service = ''] = /service (\w+)/.exec(proto) ?? []
    return [...proto.matchAll(line)].flatMap(([, name = '', asks, request = '', streams]) =>
      asks === undefined && name !== 'Shutdown'
        ? [{ path: `${pack}.${service}/${name}`, request, streams: streams !== undefined }]
        : [],
    )
  })
}

/** Values for a type; those of a message come field by field, two levels deep. */
function valuesOf(type: string, known: Map<string, Field[]>, depth = 0): Sendable[] {
  if (type === 'string') return TEXTS
  if (type === 'bytes') return [...TEXTS, Buffer.alloc(1 << 20)]
  if (type === 'double' || type === 'float') return [0.5, -0.5, 1e-300, Number.NaN]
  if (type.startsWith('map<')) return TEXTS.map((text) => encode({ 1: text, 2: text }))
  const fields = known.get(type)
  if (fields === undefined) return NUMBERS
  if (depth > 1) return [Buffer.alloc(0)]
  return fields.flatMap(({ number, type: of }) =>
    valuesOf(of, known, depth + 1).map((value) => encode({ [number]: value })),
  )
}

async function statusOf(client: ControlClient, rpc: Rpc, request: Sent): Promise<[string, string]> {
  try {
    if (rpc.streams) {
      const stream = client.watch(request, rpc.path)
      // It is open, and would go on: that is an answer.
      const first = Promise.withResolvers<void>()
      stream.on('data', () => first.resolve())
      stream.on('metadata', () => setImmediate(() => first.resolve()))
      stream.on('end', () => first.resolve())
      stream.on('error', (error) => first.reject(error))
      await first.promise.finally(() => {
        stream.on('error', () => undefined)
        stream.cancel()
      })
    } else {
      await client.call(rpc.path, request)
    }
    return ['OK', '']
  } catch (error) {
    const { code, details } = error as ServiceError
    return [STATUS[code] ?? String(code), details]
  }
}

t.setTimeout(280_000)
const KNOWN = messages()

t.test('the proto is read whole', (t) => {
  t.ok(rpcs().length >= 26)
  t.ok(rpcs().every(({ request }) => KNOWN.has(request)))
  t.end()
})

t.test('no value of any field is a fault of the server', async (t) => {
  const server = await startInferenceServer()
  t.teardown(() => server.close())
  const { address, url, rolltape } = await startControlled(t, {
    proxyBaseUrl: `${server.url}/v1`,
    recordingFile: `${makeFolder(t)}/a.jsonl`,
  })
  const client = new ControlClient(t, address)
  const counts = new Map<string, number>()
  for (const rpc of rpcs()) {
    for (const { name, number, type } of KNOWN.get(rpc.request) ?? []) {
      for (const value of valuesOf(type, KNOWN)) {
        const [status, details] = await statusOf(client, rpc, { [number]: value })
        const shown = `${rpc.path} ${name} ${JSON.stringify(String(value)).slice(0, 60)}`
        counts.set(status, (counts.get(status) ?? 0) + 1)
        if (['UNKNOWN', 'INTERNAL', 'UNAVAILABLE', 'DEADLINE_EXCEEDED'].includes(status)) {
          t.fail(`${shown}: ${status} ${details.slice(0, 200)}`)
        }
        if (details.length > 2_000) t.fail(`${shown}: ${details.length} characters of details`)
        if (details.includes('root:')) t.fail(`${shown}: tells what a file holds`)
      }
    }
  }
  t.ok((counts.get('OK') ?? 0) > 50 && (counts.get('INVALID_ARGUMENT') ?? 0) > 50)
  await client.call('rolltape.control.v1.ControlService/ResumeAdmission')
  await client.call('rolltape.control.v1.ControlService/SetMode', { 1: 2 })
  const answer = await rawRequest(url, post('/v1/models', ''))
  t.ok(answer.status < 500, 'it serves')
  t.equal(({} as { polluted?: true }).polluted, undefined)
  t.equal((await rolltape.close()).trouble, null)
})
