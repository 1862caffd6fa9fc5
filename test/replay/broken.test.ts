// Answers that failed or broke off when they were recorded do so again; what nobody waited for is
// served only where somebody says so.
import { copyFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import type { Script } from '../../src/inference/raw.ts'
import { RawClient, post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { CHAT, ask, bodyOf, plain, startReplay } from '../support/replayer.ts'

const SSE = responseHead(200, 'OK', [
  ['Content-Type', 'text/event-stream'],
  ['Transfer-Encoding', 'chunked'],
])
const piece = (content: string, index = 0) =>
  chunkOf(
    `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index, delta: { content }, finish_reason: null }] })}\n\n`,
  )

/** Records with an upstream of that script; gives the recording with its tape, and without. */
async function record(t: Test, script: Script, ask: (url: string) => Promise<unknown>) {
  const upstream = await startScriptedUpstream(script)
  const recorder = await startRecorder(t, upstream.url)
  await ask(recorder.url)
  const records = await recorder.finish()
  await upstream.close()
  const alone = join(makeFolder(t), 'alone.jsonl')
  copyFileSync(recorder.file, alone)
  return { file: recorder.file, alone, records }
}

const cutAfterOne: Script = async (x) => {
  await x.send(SSE, piece('half'))
  x.reset()
}

t.test('R15: a stream that broke off ends with a destroyed socket after its bytes', async (t) => {
  const asked = { stream: true }
  const { file, alone, records } = await record(t, cutAfterOne, (url) => ask(url, 'x', asked))
  t.match(records, [{ partial: true, outcome: 'upstream_error' }])
  for (const path of [file, alone]) {
    const { url } = await startReplay(t, path)
    const { status, body, whole } = await ask(url, 'x', asked)
    t.strictSame([status, whole], [200, false])
    t.match(body.toString(), /"content":"half"/)
    t.notMatch(body.toString(), 'DONE')
  }
})

t.test(
  'an answer that broke off is used once it has done so again: a retry gets the next',
  async (t) => {
    const asked = { stream: true }
    const upstream = async (url: string): Promise<void> => {
      await ask(url, 'x', asked)
      await ask(url, 'x', asked)
    }
    const script: Script = async (x) => {
      await x.send(SSE, piece('half'))
      if (x.index === 0) return x.reset()
      return void (await x.send(piece(' and whole'), chunkOf('data: [DONE]\n\n'), lastChunk()))
    }
    const { file, records } = await record(t, script, upstream)
    t.match(records, [{ outcome: 'upstream_error' }, { outcome: 'complete' }])
    for (const headers of [[], ['x-stainless-retry-count: 1']]) {
      for (const pace of ['instant', 'original']) {
        const rolltape = await startReplay(t, file, { pace })
        const { url } = rolltape
        t.equal((await ask(url, 'x', asked)).whole, false)
        // A client sees the end a moment before its lane does.
        while (rolltape.verdict?.unused !== 1) await new Promise(setImmediate)
        const again = await rawRequest(url, post(CHAT, bodyOf('x', asked), headers))
        t.strictSame([again.status, again.whole], [200, true], `${pace} ${headers.join()}`)
        t.match(again.body.toString(), 'and whole')
      }
    }
  },
)

t.test('what came of an answer with a length goes out before it breaks off', async (t) => {
  const half = '{"id":"x1","object":'
  const head = responseHead(200, 'OK', [
    ['Content-Type', 'application/json'],
    ['Content-Length', '200'],
  ])
  const script: Script = async (x) => {
    await x.send(head, half)
    x.reset()
  }
  const { file } = await record(t, script, (url) => ask(url, 'x'))
  for (const pace of ['instant', 'original', 'ttft=5,tps=500']) {
    const { url } = await startReplay(t, file, { pace })
    const { status, body, whole } = await ask(url, 'x')
    t.strictSame([status, body.toString(), whole], [200, half, false], pace)
  }
})

t.test('R28: asked for whole, it is JSON that nobody can take for whole', async (t) => {
  const { file } = await record(t, cutAfterOne, (url) => ask(url, 'x', { stream: true }))
  const { url } = await startReplay(t, file)
  const { status, body, whole } = await ask(url, 'x')
  t.strictSame([status, whole], [200, false])
  t.match(body.toString(), /^\{"id":"c",.*"content":"half"/)
  t.throws(() => JSON.parse(body.toString()))
})

t.test('an answer whose client had left is served only with replay_partial', async (t) => {
  const left = Promise.withResolvers<void>()
  const { file, records } = await record(
    t,
    (x) => x.send(SSE, piece('half'), left.promise),
    async (url) => {
      const client = await RawClient.open(url)
      client.send(post(CHAT, bodyOf('x', { stream: true })))
      await client.until((bytes) => bytes.includes('half'))
      client.close()
      left.resolve()
    },
  )
  t.match(records, [{ outcome: 'client_gone' }])
  const { url } = await startReplay(t, file)
  const refused = await ask(url, 'x', { stream: true })
  t.match(JSON.parse(refused.body.toString()), {
    error: { code: 'tape_miss', message: /its outcome is client_gone, .* --replay-partial$/ },
  })
  const partial = await startReplay(t, file, { replayPartial: true })
  const { status, body, whole } = await ask(partial.url, 'x', { stream: true })
  t.strictSame([status, whole], [200, false])
  t.match(body.toString(), 'half')
})

t.test('a client that left before any head is no record to stop at', async (t) => {
  const asked = Promise.withResolvers<void>()
  const { file, records } = await record(
    t,
    async (x) => {
      if (x.index === 0) asked.resolve()
      else await x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}')
    },
    async (url) => {
      const client = await RawClient.open(url)
      client.send(post(CHAT, bodyOf('x')))
      await asked.promise
      client.socket.end()
      await client.closed
      await ask(url, 'x')
    },
  )
  t.match(records, [{ http_status: null }, { http_status: 200 }])
  for (const replayPartial of [false, true]) {
    const { url } = await startReplay(t, file, { replayPartial })
    t.equal((await ask(url, 'x')).status, 200)
  }
})

t.test('R30: a recorded 429 or 500 is that again, as recorded, in any form', async (t) => {
  const server = await startInferenceServer()
  const recorder = await startRecorder(t, server.url)
  const asked = [429, 500].flatMap((status) =>
    [false, true].map((stream) => ({ stream, scenario: { status } })),
  )
  const answers: unknown[] = []
  for (const more of asked) answers.push(plain(await ask(recorder.url, 'x', more)))
  await recorder.finish()
  await server.close()
  const { url } = await startReplay(t, recorder.file)
  const again: unknown[] = []
  for (const more of asked) again.push(plain(await ask(url, 'x', more)))
  t.strictSame(again, answers)
  const other = await startReplay(t, recorder.file)
  const swapped: unknown[] = []
  for (const { stream, scenario } of asked) {
    swapped.push(plain(await ask(other.url, 'x', { stream: !stream, scenario })))
  }
  t.strictSame(swapped, answers, 'asked in the other form')
})

t.test('a file that was cut after its index was made is 500, again and again', async (t) => {
  const { alone } = await record(
    t,
    (x) => x.send(responseHead(200, 'OK', [['Content-Length', '2']]), '{}'),
    (url) => ask(url, 'x'),
  )
  const rolltape = await startReplay(t, alone)
  truncateSync(alone, 10)
  for (let i = 0; i < 2; i++) {
    const { status, body } = await ask(rolltape.url, 'x')
    const { error } = JSON.parse(body.toString())
    t.strictSame([status, error.code], [500, 'tape_record_unusable'])
    t.match(error.message, /alone.jsonl is shorter than when it was indexed/)
  }
  t.match(rolltape.verdict, { servedExact: 0, unused: 1 })
})
