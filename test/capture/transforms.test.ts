/** Requests that are changed by rule, in every mode that forwards; groups and tags beside them. */
import t from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import { askFor, chat } from '../support/chat.ts'
import { startRecorder } from '../support/recorder.ts'

const CHANGED =
  '{"model":"real","max_completion_tokens":9,"messages":[{"role":"user","content":"x"}],"n":1.0,"chat_template_kwargs":{"enable_thinking":false}}'
const BODY = '{"model":"any","max_tokens":99,"messages":[{"role":"user","content":"x"}],"n":1.0}'

t.test(
  'O6 O7 O8 O9: a request is changed, recorded or not, and rules go by its new model',
  async (t) => {
    const upstream = await startInferenceServer()
    t.teardown(() => upstream.close())
    for (const mode of ['record', 'passthrough'] as const) {
      const recorder = await startRecorder(t, upstream.url, {
        mode,
        proxyBaseUrl: [],
        proxyRules: { real: upstream.url, any: 'http://127.0.0.1:9' },
        modelOverride: 'real',
        maxCompletionTokens: ['real'],
        maxTokensCap: 9,
        disableThinking: true,
      })
      const asked = upstream.requests.length
      t.equal((await askFor(recorder.url, BODY)).status, 200)
      t.equal(upstream.requests[asked]!.body.toString(), CHANGED)
      t.equal(
        (await askFor(recorder.url, BODY, { path: '/v1/other' })).status,
        502,
        'no other call',
      )
      const [record] = await recorder.finish()
      if (mode === 'passthrough') continue
      t.strictSame(
        [record!.model, JSON.stringify(record!.request)],
        ['any', BODY.replace('1.0', '1')],
      )
      t.strictSame(record!.transforms, [
        {
          name: 'model_override',
          version: 1,
          changes: [{ field: 'model', from: 'any', to: 'real' }],
        },
        {
          name: 'max_completion_tokens',
          version: 1,
          changes: [
            { field: 'max_tokens', from: 99 },
            { field: 'max_completion_tokens', to: 99 },
          ],
        },
        {
          name: 'max_tokens_cap',
          version: 1,
          changes: [{ field: 'max_completion_tokens', from: 99, to: 9 }],
        },
        {
          name: 'disable_thinking',
          version: 1,
          changes: [{ field: 'chat_template_kwargs', to: { enable_thinking: false } }],
        },
      ])
      t.equal(recorder.taped(record!).sent?.body?.toString(), CHANGED)
    }
  },
)

t.test('R5: group, tags and the tries of an SDK are recorded; only the last goes on', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { tag: { run: 1 } })
  const headers = {
    'x-rolltape-group': Buffer.from('prompt 7 ü').toString('latin1'),
    'x-rolltape-tags': 'sample=3, env=dev=1',
    'x-stainless-retry-count': '2',
  }
  await askFor(recorder.url, chat('x'), { headers })
  await askFor(recorder.url, chat('x'))
  const bad = await askFor(recorder.url, chat('x'), { headers: { 'x-rolltape-group': 'a\tb' } })
  t.match([bad.status, bad.text], [400, /group id cannot be used/])
  const [sent] = upstream.requests
  t.strictSame(
    ['x-rolltape-group', 'x-rolltape-tags', 'x-stainless-retry-count'].map((name) =>
      sent!.header(name),
    ),
    [undefined, undefined, '2'],
  )
  const [first, second] = await recorder.finish()
  t.match(first, {
    group: 'prompt 7 ü',
    tags: { run: '1', sample: '3', env: 'dev=1' },
    client_retry: 2,
  })
  t.notOk('group' in second! || 'client_retry' in second!)
})
