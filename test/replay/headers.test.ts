// An answer in another form than was recorded keeps the headers that do not tell of its bytes.
import t from 'tap'
import { responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf, startReplay } from '../support/replayer.ts'

t.test('recorded whole, asked for as a stream', async (t) => {
  const message = { role: 'assistant', content: 'hi' }
  const text = JSON.stringify({ choices: [{ index: 0, message, finish_reason: 'stop' }] })
  const upstream = await startScriptedUpstream((x) =>
    x.send(
      responseHead(200, 'Fine', [
        ['X-Request-Id', 'req-1'],
        ['Set-Cookie', 'secret=1'],
        ['Content-Type', 'application/json'],
        ['ETag', '"of the bytes"'],
        ['Content-Length', String(text.length)],
      ]),
      text,
    ),
  )
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url)
  await rawRequest(recorder.url, post(CHAT, bodyOf('x')))
  await recorder.finish()
  const { url } = await startReplay(t, recorder.file)
  const { status, reason, headers } = await rawRequest(
    url,
    post(CHAT, bodyOf('x', { stream: true })),
  )
  const ofHop = /^(?:date|connection|keep-alive|transfer-encoding)$/i
  t.strictSame(
    [status, reason, headers.filter(([name]) => !ofHop.test(name))],
    [
      200,
      'Fine',
      [
        ['X-Request-Id', 'req-1'],
        ['content-type', 'text/event-stream; charset=utf-8'],
        ['cache-control', 'no-cache'],
      ],
    ],
  )
})
