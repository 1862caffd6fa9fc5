/**
 * Recording changes nothing on the wire: the same bytes go to the upstream and come to the client,
 * and what is counted is counted alike.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { startRolltape, type RolltapeOptions } from '../../src/rolltape.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder } from '../support/recorder.ts'

const HEADERS = [
  ['Content-Type', 'text/event-stream'],
  ['x-a', '1'],
  ['X-A', '2'],
  ['Transfer-Encoding', 'chunked'],
] as [string, string][]

const REQUESTS = [
  post('/v1/chat/completions', '{"model":"m","stream":true}', ['X-Odd:  two  blanks']),
  post('/sessions/a/v1/chat/completions', 'no json at all', ['x-rolltape-run: r1']),
  'GET /v1/models?x=%20 HTTP/1.1\r\nHost: x\r\n\r\n',
]

t.test(
  'R3: passthrough and record send the same both ways; only record leaves files',
  async (t) => {
    const seen: unknown[] = []
    const upstream = await startScriptedUpstream((exchange) => {
      const { method, target, headers } = exchange.head
      seen.push({ method, target, headers, body: exchange.body.toString() })
      const data = chunkOf('data: {"choices":[]}\n\n')
      return exchange.send(
        responseHead(200, 'Fine', HEADERS),
        data,
        chunkOf('data: [DONE]\n\n'),
        lastChunk(),
      )
    })
    t.teardown(() => upstream.close())
    const folder = makeFolder(t)
    const recordingFile = join(folder, 'a.jsonl')

    const run = async (options: RolltapeOptions) => {
      const base = {
        port: 0,
        proxyBaseUrl: upstream.url,
        logLevel: 'error',
        drainTimeout: 5,
      } as const
      const rolltape = await startRolltape({ ...base, ...options })
      t.teardown(() => rolltape.close())
      const answers: unknown[] = []
      for (const request of REQUESTS) {
        const { status, reason, headers, body } = await rawRequest(rolltape.url, request)
        const kept = headers.filter(([name]) => name.toLowerCase() !== 'date')
        answers.push({ status, reason, headers: kept, body: body.toString() })
      }
      await rolltape.close()
      return { mode: rolltape.mode, egress: rolltape.egressTotal, answers, seen: seen.splice(0) }
    }

    const passthrough = await run({})
    t.strictSame(readdirSync(folder), [])
    const record = await run({ recordingFile })
    t.strictSame(readdirSync(folder).sort(), ['a.jsonl', 'a.jsonl.index', 'a.tape'])
    t.strictSame([passthrough.mode, record.mode], ['passthrough', 'record'])
    t.strictSame({ ...record, mode: '' }, { ...passthrough, mode: '' })
    t.equal(record.egress, REQUESTS.length)
    t.equal((await run({ mode: 'passthrough', recordingFile })).mode, 'passthrough')
  },
)
